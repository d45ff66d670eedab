"""A model as one of several devices holds it under tensor parallelism, and what ways there are to split factors.

Weights are cut as Megatron-LM cuts them (arXiv 1909.08053): those that make heads or the MLP's inner features by their
rows (`out_features`), those that read them by their columns (`in_features`), whose products are then summed over the
devices; the token table and the LM head by the vocabulary; all else is on every device. Each expert is cut as an MLP
is; of latent attention the heads are cut, while what makes the narrow vectors, and the cache of these, is on every
device; of linear attention and state spaces the heads, of a short convolution the features. Of a factored weight W = U
V, with V of rank x in_features, several splits give the same result:

- split by rows: `replicate` keeps V whole on every device; `gather` splits V by the rank too and gathers the inner
  activations, rank wide;
- split by columns: `reduce-rank` sums the inner activations, rank wide, and keeps U whole; `reduce-hidden` applies the
  whole U to partial sums and sums the result, out_features wide; `scatter` gives each device its share of the summed
  inner activations, splits U by the rank, and sums the result.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Generic, Literal, NamedTuple

from costmodel.decomposition.factors import Form
from costmodel.errors import InputError
from costmodel.forward.work import Count
from costmodel.forward.workload import MAX_DEVICES, Way
from costmodel.model import ModelSpec
from costmodel.tensors import Split, WeightTensor

WAYS: dict[Split, tuple[Way, ...]] = {
    "rows": ("replicate", "gather"),
    "columns": ("reduce-rank", "reduce-hidden", "scatter"),
    "": ("replicate",),
}
"""The ways to split a factored weight, by how the dense one is split; of two that take equally long the first is
taken."""
_SHARED_OUT = ("num_heads", "intermediate_size")
DENSE_WAYS: dict[Split, Way] = {"rows": "replicate", "columns": "reduce-hidden", "": "replicate"}
"""The way whose collectives are those of the dense weight."""


class Stage(NamedTuple, Generic[Count]):
    """A linear (m, k) @ (k, n) of one device, or a collective whose whole message is m x n activations; arrays of them
    stand for as many, and there is none where n is 0."""

    suffix: str
    """What it appends to the module's name."""
    kind: Literal["gemm", "all_reduce", "all_gather", "reduce_scatter"]
    n: Count
    k: Count
    bias: Count
    """Elements of the bias."""
    summed: bool = False
    """Whether it is the sum behind the last factor: of experts, once their results are added up."""


@functools.lru_cache(maxsize=64)
def rank_of(model: ModelSpec, tp: int, ep: int = 1) -> ModelSpec:
    """The model that each of tp x ep devices runs, its tensors marked with their split; the model itself for one.

    A vocabulary that `tp` does not divide is padded. Fewer KV heads than devices are held by several.

    Raises:
        InputError: when heads, inner features or experts cannot be dealt out evenly, and where experts are factored
            apart from their stack.
    """
    if tp == ep == 1:
        return model
    _check(model, tp, ep)
    kinds = {name: {**fields, **_shares(model.kinds[name], tp)} for name, fields in model.kind_fields.items()}
    vocabulary = -(-model.vocab_size // tp)
    parts = [replace(part, out_features=vocabulary) if part.vocabulary else part for part in model.head.parts]
    head = replace(model.head, parts=tuple(parts))
    own = replace(model, **_shares(model, tp), vocab_size=vocabulary, head=head, kind_fields=kinds)  # type: ignore[arg-type]
    _mark(own, model, ep)
    for name, kind in own.kinds.items():
        _mark(kind, model.kinds[name], ep)
    object.__setattr__(own, "tensors", _distinct(kind.tensors for kind in own.kinds.values()) or own.tensors)
    if len(own.tensors) != len(model.tensors):
        raise InputError(f"{model.name}: its kinds of layers are not told apart once split", value=f"--tp {tp}")
    return own


def _distinct(several: Iterable[Sequence[WeightTensor]]) -> tuple[WeightTensor, ...]:
    return tuple(dict.fromkeys(tensor for tensors in several for tensor in tensors))


def _check(model: ModelSpec, tp: int, ep: int) -> None:
    """Raise InputError where the model cannot be dealt out."""
    kinds = [model, *model.kinds.values()]
    allowed = possible_devices(model)
    if tp not in allowed:
        uneven = next((f"{name} {size}" for kind in kinds for name, size in _sizes(kind).items() if size % tp), "")
        what = f"--tp does not divide {uneven or f'num_kv_heads {model.num_kv_heads}'} of {model.name}"
        raise InputError(what, value=tp, allowed=", ".join(map(str, allowed)))
    if any(kind.own_experts for kind in kinds):
        raise InputError(
            "experts that are factored apart from their stack are not priced on several devices",
            value=f"--tp {tp}" if tp > 1 else f"--ep {ep}",
            allowed="1",
            hint="give all experts of a layer one rank",
        )
    numbers = sorted({kind.experts.number for kind in kinds if kind.experts is not None})
    if ep > 1 and not numbers:
        raise InputError(f"{model.name} has no experts to share out", value=f"--ep {ep}", allowed="1")
    if any(number % ep for number in numbers):
        able = [count for count in range(1, MAX_DEVICES + 1) if not any(number % count for number in numbers)]
        what = f"--ep does not divide the {numbers[0]} experts of {model.name}"
        raise InputError(what, value=ep, allowed=", ".join(map(str, able)))


def _sizes(model: ModelSpec) -> dict[str, int]:
    """The sizes of a kind of layer that are dealt out and have to divide; KV heads apart."""
    sizes = {name: getattr(model, name) for name in _SHARED_OUT}
    if model.experts is not None:
        sizes["size of an expert"] = model.experts.intermediate_size
        sizes["size of the shared experts"] = model.experts.shared_intermediate_size
    if model.recurrent is None:
        return sizes
    from costmodel.blocks import DeltaNet, Lightning, LinearUnit, ShortConv, StateSpace  # few models have them

    match model.recurrent:
        case DeltaNet() as block:
            sizes |= {"linear key heads": block.key_heads, "linear value heads": block.value_heads}
        case Lightning() as block:
            sizes["linear heads"] = block.heads
        case LinearUnit() as block:
            sizes["heads of the recurrent unit"] = block.heads
        case StateSpace() as block:
            sizes["heads of the state space"] = block.heads
        case ShortConv() as block:
            sizes["features of the convolution"] = block.width
    return sizes


def _shares(model: ModelSpec, tp: int) -> dict[str, object]:
    """The sizes of a model that are dealt out, as one device has them."""
    own: dict[str, object] = {name: getattr(model, name) // tp for name in _SHARED_OUT}
    own["num_kv_heads"] = max(1, model.num_kv_heads // tp)
    if (experts := model.experts) is not None:
        size, shared = experts.intermediate_size // tp, experts.shared_intermediate_size // tp
        own["experts"] = replace(experts, intermediate_size=size, shared_intermediate_size=shared)
    if model.recurrent is None:
        return own
    from costmodel.blocks import DeltaNet, Lightning, LinearUnit, ShortConv, StateSpace

    match model.recurrent:
        case DeltaNet() as block:
            key_heads, value_heads = block.key_heads // tp, block.value_heads // tp
            own["recurrent"] = replace(block, key_heads=key_heads, value_heads=value_heads)
        case Lightning() as block:
            own["recurrent"] = replace(block, heads=block.heads // tp)
        case LinearUnit() as block:
            own["recurrent"] = replace(block, width=block.width // tp, heads=block.heads // tp)
        case StateSpace() as block:
            own["recurrent"] = replace(block, heads=block.heads // tp, groups=max(1, block.groups // tp))
        case ShortConv() as block:
            own["recurrent"] = replace(block, width=block.width // tp)
    return own


def possible_devices(model: ModelSpec) -> tuple[int, ...]:
    """The numbers of devices that can share the model: they divide every size that is dealt out in every kind of layer,
    and divide the KV heads or are a multiple of them."""
    kinds = [model, *model.kinds.values()]
    return tuple(
        count
        for count in range(1, MAX_DEVICES + 1)
        if all(size % count == 0 for kind in kinds for size in _sizes(kind).values())
        and all(heads % count == 0 or count % heads == 0 for kind in kinds for heads in _grouped(kind))
    )


def _grouped(model: ModelSpec) -> tuple[int, ...]:
    """Numbers of heads that others share: where there are fewer than devices, several devices hold the same."""
    if model.recurrent is None:
        return (model.num_kv_heads,)
    from costmodel.blocks import StateSpace

    groups = (model.recurrent.groups,) if isinstance(model.recurrent, StateSpace) else ()
    return (model.num_kv_heads, *groups)


def _mark(own: ModelSpec, whole: ModelSpec, ep: int) -> None:
    """Note on each tensor of `own` which side of it the devices share out, and how many experts a device has."""
    pairs = zip(own.tensors, whole.tensors, strict=True)
    marked = [replace(part, split=_split(part, full), experts=part.experts // ep) for part, full in pairs]
    object.__setattr__(own, "tensors", tuple(marked))


def _split(part: WeightTensor, full: WeightTensor) -> Split:
    if part.out_features < full.out_features:
        return "rows"
    return "columns" if part.in_features < full.in_features else ""


def break_even(way: Way, tensor: WeightTensor, form: Form, tp: int) -> int:
    """Largest rank whose factors hold no more parameters on each device than its share of the dense weight.

    W is out x in, split over tp devices: r (a in + b out) + c r^2 <= in out / tp, with a and b the share of V and of U
    that a device holds, 1 or 1 / tp, and c = 1 in the Tucker form, whose core is on every device.
    """
    out = tensor.out_features * (tp if tensor.split == "rows" else 1)
    inner = tensor.in_features * (tp if tensor.split == "columns" else 1)
    shared = {"replicate": (1, tp), "gather": (tp, tp), "scatter": (tp, tp)}.get(way, (tp, 1))
    if not tensor.split:
        shared, tp = (1, 1), 1
    linear = tp * inner // shared[0] + tp * out // shared[1]
    if form == "svd":
        return out * inner // linear
    return (math.isqrt(linear * linear + 4 * tp * out * inner) - linear) // (2 * tp)


def is_legal(way: Way, first: Count, last: Count, tp: int) -> Count:
    """0 where the ranks, inner widths after the first factor and before the last, can be dealt out as the way needs."""
    return first % tp if way == "gather" else last % tp if way == "scatter" else 0 * first


def split_stages(
    way: Way, first: Count, last: Count, core: Count, out: Count, inner: Count, bias: Count, tp: int
) -> list[Stage[Count]]:
    """What one device runs for a factored weight, in order.

    Args:
        way: of those that `WAYS` has for the tensor's split.
        first, last: the inner widths: after the first factor, and before the last.
        core: `last` where there is a third factor between them, else 0.
        out, inner: features of one device's share of the dense weight, as `rank_of` gives it.
        bias: elements of the bias, which the last factor adds.
        tp: devices.
    """
    none = 0 * out
    into = Stage(".in", "gemm", first // tp if way == "gather" else first, inner, none)
    middle = Stage(".core", "gemm", core, first, none)
    result = Stage(".out", "gemm", out, last // tp if way == "scatter" else last, bias)
    if way == "replicate":
        return [into, middle, result]
    hidden = Stage(".all_reduce", "all_reduce", out, none, none, summed=True)
    match way:
        case "gather":
            return [into, Stage(".all_gather", "all_gather", first, none, none), middle, result]
        case "reduce-rank":
            return [into, middle, Stage(".all_reduce", "all_reduce", last, none, none), result]
        case "reduce-hidden":
            return [into, middle, result, hidden]
        case "scatter":
            return [into, middle, Stage(".reduce_scatter", "reduce_scatter", last, none, none), result, hidden]
