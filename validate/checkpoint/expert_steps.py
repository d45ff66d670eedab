"""What is written of a stack of experts that are factored or in int8: every expert's linears apart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from costmodel.decomposition.factors import factor_stages
from costmodel.errors import InputError
from validate.checkpoint.source import DenseSource
from validate.checkpoint.steps import Output, Part, Step, weight_outputs
from validate.factors.experts import LayerExperts
from validate.hf.errors import FactoredCheckpointError
from validate.hf.experts import StackLayout


def expert_steps(
    source: DenseSource,
    experts: LayerExperts,
    layer: int,
    place: str,
    kind: str,
    form: Literal["factored", "merged"],
    *,
    int8: bool = False,
) -> Iterator[Step]:
    """The steps of one stack of a layer, or of one stack of biases.

    Factored, they are one for each site, whose experts follow each other, and one for the linears that stay dense; the
    names are those of `FactoredExperts`. Merged, the stack is one tensor again.

    Args:
        place: the experts' module among the layers that are kept.
        kind: name of the stack, such as `gate_up_proj` or `down_proj_bias`.
        int8: whether every weight, factored or not, is in int8 with a scale for each output.

    Raises:
        InputError: for experts that are stacked in an unknown way.
    """
    module, name = _module(source, experts, layer), f"{source.layers}.{layer}.{experts.path}.{kind}"
    layout = layout_of(module)
    stack, bias = kind.removesuffix("_bias"), kind.endswith("_bias")
    linears = [linear for linear in layout.linears if layout.stack_of(linear) == stack]
    parts = [
        Part(linear=linear, expert=number, given=experts.factors.get((linear, number)))
        for linear in linears
        for number in range(int(module.num_experts))
    ]
    if form == "merged" or not linears:
        chosen = () if bias else tuple(part for part in parts if part.given is not None)
        whole = Output(name=f"{place}.{kind}", shape=source.weights.shapes[name])
        yield Step(source=name, outputs=(whole,), parts=chosen)
        return
    if bias:
        outputs = [_bias(place, part, len(layout.part(getattr(module, kind), part.linear, 0))) for part in parts]
        plain = tuple(Part(linear=part.linear, expert=part.expert) for part in parts)
        yield Step(source=name, outputs=tuple(outputs), parts=plain)
        return
    for site in experts.sites():
        own = tuple(part for part in parts if part.given is not None and part.given.given == site)
        if own and own[0].given is not None:
            outputs = [output for part in own for output in _weights(place, part, (), int8=int8)]
            yield Step(source=name, outputs=tuple(outputs), site=site, factor=own[0].given.factor, parts=own)
    if dense := tuple(part for part in parts if part.given is None):
        shapes = {linear: tuple(layout.part(getattr(module, kind), linear, 0).shape) for linear in linears}
        outputs = [output for part in dense for output in _weights(place, part, shapes[part.linear], int8=int8)]
        yield Step(source=name, outputs=tuple(outputs), parts=dense)


def layout_of(experts: Any) -> StackLayout:
    """The layout of a module that stacks experts.

    Raises:
        InputError: when it is unknown.
    """
    try:
        return StackLayout.of(experts)
    except FactoredCheckpointError as error:
        hint = "without int8, factor what every token passes: attention, dense layers, shared experts"
        raise InputError(str(error), hint=hint) from error


def _module(source: DenseSource, experts: LayerExperts, layer: int) -> Any:
    return source.model.get_submodule(f"{source.layers}.{layer}.{experts.path}")


def _weights(place: str, part: Part, shape: tuple[int, ...], *, int8: bool) -> list[Output]:
    """The factors of an expert's linear, or its dense weight of that shape."""
    path = f"{place}.{part.linear}.{part.expert}"
    if part.given is None:
        return weight_outputs(f"{path}.weight", shape, int8=int8)
    stages = factor_stages(part.given.factor, part.given.tensor)
    shapes = {f"{path}{each.suffix}.weight": (each.n, each.k) for each in stages}
    return [output for name, own in shapes.items() for output in weight_outputs(name, own, int8=int8)]


def _bias(place: str, part: Part, size: int) -> Output:
    last = "" if part.given is None else ".out"
    return Output(name=f"{place}.{part.linear}.{part.expert}{last}.bias", shape=(size,))
