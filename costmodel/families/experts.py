"""A mixture of experts as operations: the router, the experts' linears over the rows that reach them, shared experts.

In transformers 5 the experts of a layer are stacked in tensors of three dimensions, gate and up in one; here each of
gate_proj, up_proj and down_proj of all experts is one tensor of the layer with `experts` weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from costmodel.blocks import Experts
from costmodel.families.fields import Fields
from costmodel.families.lists import names_by_layer
from costmodel.forward.cost import FP32_BYTES, INDEX_BYTES, OpCost, elementwise
from costmodel.forward.ops import Builder
from costmodel.forward.routing import chain_work, expert_rows
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor, mlp_weight

STACKS = ("experts.gate_proj", "experts.up_proj", "experts.down_proj")


def read_sparse_layers(fields: Fields, layers: int, first_dense: int) -> list[bool]:
    """Which layers have experts by `mlp_layer_types`; without it all but the first ones."""
    types = names_by_layer(fields, "mlp_layer_types", layers, ("dense", "sparse"))
    return [layer >= first_dense for layer in range(layers)] if types is None else [kind == "sparse" for kind in types]


def read_experts(fields: Fields, number: str, per_token: str, size: str, shared: str = "", **values: Any) -> Experts:
    """The mixture of experts of a layer.

    Args:
        number, per_token, size: names of the fields of the experts, those of a token, and an expert's width.
        shared: name of the field of the number of shared experts, each of an expert's width; empty for none.
        values: fields of Experts in place of what is read here for them.

    Raises:
        ModelError: for a field that is missing or out of bounds, and for more experts of a token than there are.
    """
    count, width = fields.count(number), fields.count(size)
    if fields.count(per_token) > count:
        raise fields.error(per_token, f"at most the {count} experts")
    return Experts(
        number=count,
        per_token=fields.count(per_token),
        intermediate_size=width,
        **{"shared_intermediate_size": width * fields.count(shared, minimum=0) if shared else 0, **values},
    )


def expert_tensors(
    spec: ModelSpec, block: str = "mlp", shared: str = "shared_experts", *, bias: bool = False
) -> tuple[WeightTensor, ...]:
    """The stacks of all experts and the linears of the shared ones, or the MLP of a dense layer.

    Args:
        block: module path of the MLP inside the layer.
        shared: name of the shared experts' module in it.
        bias: whether the experts' linears have one.
    """
    hidden, experts = spec.hidden_size, spec.experts
    if experts is None:
        return _linears("", block, spec.intermediate_size, hidden, bias=spec.mlp_bias)
    inner, size, gated = experts.width or hidden, experts.intermediate_size, experts.gated
    stacks = _linears("experts.", f"{block}.experts", size, inner, experts.number, bias=bias, gated=gated)
    if experts.width:
        into, back = zip(experts.width_names, ((inner, hidden), (hidden, inner)), strict=True)
        first, last = (mlp_weight(name, f"{block}.{name}", *shape, bias=spec.mlp_bias) for name, shape in (into, back))
        stacks = (first, *stacks, last)
    if not (size := experts.shared_intermediate_size):
        return stacks
    shares = _linears(f"{shared}.", f"{block}.{shared}", size, hidden, bias=spec.mlp_bias, gated=gated)
    if spec.words is not None and spec.words.packed_gate and spec.words.ups:
        (name,), path = spec.words.ups, f"{block}.{shared}"
        shares = (mlp_weight(f"{shared}.{name}", f"{path}.{name}", 2 * size, hidden, bias=spec.mlp_bias), shares[-1])
    return (*stacks, *shares)


def _linears(
    name: str, path: str, inner: int, hidden: int, experts: int = 0, *, bias: bool, gated: bool = True
) -> tuple[WeightTensor, ...]:
    shapes = {"gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner)}
    return tuple(
        replace(mlp_weight(f"{name}{last}", f"{path}.{last}", *shape, bias=bias), experts=experts)
        for last, shape in shapes.items()
        if gated or last != "gate_proj"
    )


def _add_linears(b: Builder, normed: str, tensors: dict[str, WeightTensor], name: str, inner: int) -> str:
    """down(act(gate(x)) * up(x)) of the tensors whose names begin with `name`, or down(act(up(x))) without a gate."""
    path, words = tensors[f"{name}down_proj"].path.removesuffix(".down_proj"), b.model.words
    if words is not None and words.packed_gate and words.ups and f"{name}{words.ups[0]}" in tensors:
        packed = b.site(tensors[f"{name}{words.ups[0]}"], normed)
        product = b.pointwise(f"{path}.mul", "mul", [b.activation(f"{path}.act_fn", packed, inner), packed], inner)
    elif f"{name}gate_proj" in tensors:
        gated = b.activation(f"{path}.act_fn", b.site(tensors[f"{name}gate_proj"], normed), inner)
        product = b.pointwise(f"{path}.mul", "mul", [gated, b.site(tensors[f"{name}up_proj"], normed)], inner)
    else:
        product = b.activation(f"{path}.act_fn", b.site(tensors[f"{name}up_proj"], normed), inner)
    return b.site(tensors[f"{name}down_proj"], product)


def add_mlp(b: Builder, normed: str, block: str = "mlp", shared: str = "shared_experts") -> str:
    """The MLP of a dense layer, or the mixture of experts of another; its result is the last operation."""
    model, work, experts = b.model, b.work, b.model.experts
    tensors = {tensor.name: tensor for tensor in model.tensors}
    if experts is None:
        return _add_linears(b, normed, tensors, "", model.intermediate_size)
    hidden, rows = model.hidden_size, work.tokens * experts.per_token
    logits = b.linear(f"{block}.gate", work.tokens, experts.number, hidden, normed, bias=False)
    scores = work.tokens * experts.number
    chosen = OpCost(
        vector_flops=3 * scores,
        act_read_bytes=2 * scores * FP32_BYTES,
        act_write_bytes=scores * FP32_BYTES + rows * (FP32_BYTES + INDEX_BYTES),
        kernels=2,
    )
    chain = chain_work(model, work)
    indices = rows * (FP32_BYTES + INDEX_BYTES) // work.act_bytes
    routed = b.add(f"{block}.top_k", "elementwise", chosen, [logits], indices, experts=chain.routed)
    width = experts.width or hidden
    source = b.site(tensors[experts.width_names[0]], normed) if experts.width else normed
    moved = elementwise("copy", rows, width, act_bytes=work.act_bytes)
    source = b.add(
        f"{block}.experts.dispatch", "elementwise", moved, [source, routed], rows * width, experts=chain.handed
    )
    own_rows = expert_rows(model, work)
    source = _exchanged(b, source, own_rows * width)
    output = _exchanged(b, _add_stacks(b, tensors, block, source, own_rows), own_rows * width)
    merged = elementwise("mul", rows, width, act_bytes=work.act_bytes)
    result = b.add(
        f"{block}.experts.combine", "elementwise", merged, [output, routed], work.tokens * width, experts=chain.summed
    )
    if experts.width:
        if experts.width_norm:
            result = b.norm(f"{block}.{experts.width_norm}", result, columns=width)
        result = b.site(tensors[experts.width_names[1]], result)
    if not experts.shared_intermediate_size:
        return result
    passed = _add_linears(b, normed, tensors, f"{shared}.", experts.shared_intermediate_size)
    if shared == "shared_expert" and block == "mlp":
        weight = b.linear(f"{block}.shared_expert_gate", work.tokens, 1, hidden, normed, bias=False)
        passed = b.pointwise(f"{block}.weigh_shared", "mul", [passed, weight], hidden)
    return b.pointwise(f"{block}.add_shared", "add", [result, passed], hidden)


def _exchanged(b: Builder, source: str, elements: int) -> str:
    """Rows on the devices whose experts they go to, or back; of several devices the one with the most."""
    return source if b.work.ep == 1 else b.collective("alltoall", source, elements)


def _add_stacks(b: Builder, tensors: dict[str, WeightTensor], block: str, source: str, rows: int) -> str:
    """The linears of all experts over the rows that reach them."""
    experts = b.model.experts
    assert experts is not None
    gate, up, down = STACKS
    chain = chain_work(b.model, b.work)
    if experts.gated:
        first, inner = _stack(b, tensors, gate, source), experts.intermediate_size
        gated = b.activation(f"{block}.experts.act_fn", first, inner, rows=rows, experts=chain.activated)
        factors = [gated, _stack(b, tensors, up, source)]
        product = b.pointwise(f"{block}.experts.mul", "mul", factors, inner, rows=rows, experts=chain.multiplied)
    else:
        first = _stack(b, tensors, up, source)
        product = b.activation(
            f"{block}.experts.act_fn", first, experts.intermediate_size, rows=rows, experts=chain.activated
        )
    return _stack(b, tensors, down, product)


def _stack(b: Builder, tensors: dict[str, WeightTensor], name: str, source: str) -> str:
    """The linears of a stack and of its experts that are factored apart; the last one stands for all."""
    before, _, last = name.rpartition(".")
    result = source
    for own, tensor in tensors.items():
        if own == name or (own.startswith(f"{before}.") and own.endswith(f".{last}") and tensor.members):
            result = b.site(tensor, source)
    return result
