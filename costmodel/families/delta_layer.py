"""Linear attention by the gated delta rule in a layer whose queries, keys, values and gates are projected apart."""

from __future__ import annotations

from costmodel.blocks import DeltaNet
from costmodel.forward.cost import elementwise
from costmodel.forward.delta import add_delta_rule
from costmodel.forward.frame import INPUT
from costmodel.forward.ops import Builder
from costmodel.tensors import WeightTensor, attention_weight


def delta_tensors(delta: DeltaNet, path: str, hidden: int) -> tuple[WeightTensor, ...]:
    """The linears to queries, keys, values, the decay, the step and the gate, and the one back.

    Args:
        delta: its sizes.
        path: of the module inside the layer.
        hidden: width of the hidden states.
    """
    shapes = [
        ("q_proj", delta.keys, hidden),
        ("k_proj", delta.keys, hidden),
        ("v_proj", delta.values, hidden),
        *_by_rank("forget_gate.f" if delta.by_channel else "a", delta.decays, delta.decay_rank, hidden),
        ("b_proj", delta.value_heads, hidden),
        *_by_rank("g", delta.values, delta.gate_rank, hidden),
        ("o_proj", hidden, delta.values),
    ]
    return tuple(attention_weight(name, f"{path}.{name}", n, k, bias=False) for name, n, k in shapes)


def _by_rank(name: str, features: int, rank: int, hidden: int) -> list[tuple[str, int, int]]:
    """One linear, or two with `rank` features between them."""
    if not rank:
        return [(f"{name}_proj", features, hidden)]
    return [(f"{name}_a_proj", rank, hidden), (f"{name}_b_proj", features, rank)]


def delta_params(delta: DeltaNet) -> int:
    """Parameters beside those linears: the convolution, a decay of each head, an offset of each decay, and the norm."""
    return delta.convolved * delta.kernel + delta.value_heads + delta.decays + delta.value_dim


def add_delta_layer(b: Builder, delta: DeltaNet, path: str, normed: str) -> str:
    """Add the linears, the convolution, the recurrence, its gated norm and the linear back; the name of the last.

    Args:
        b: the builder, of a kind of layer with linear attention.
        delta: its sizes.
        path: of the module inside the layer.
        normed: name of the operation that made the layer's normed input.
    """
    tensors = {tensor.name: tensor for tensor in b.model.tensors if tensor.path.startswith(f"{path}.")}

    def chain(name: str) -> str:
        if f"{name}_proj" in tensors:
            return b.site(tensors[f"{name}_proj"], normed, holds=[INPUT])
        return b.site(tensors[f"{name}_b_proj"], b.site(tensors[f"{name}_a_proj"], normed), holds=[INPUT])

    made = [chain(name) for name in ("q", "k", "v")]
    tokens, size = b.work.tokens, b.work.act_bytes
    joined = elementwise("copy", tokens, delta.convolved, act_bytes=size)
    mixed = b.add(f"{path}.join", "elementwise", joined, made, tokens * delta.convolved)
    decay, step = chain("forget_gate.f" if delta.by_channel else "a"), chain("b")
    result = add_delta_rule(b, path, [mixed, decay, step])
    gate = chain("g")
    result = b.norm(f"{path}.o_norm", result, rows=tokens * delta.value_heads, columns=delta.value_dim)
    result = b.pointwise(f"{path}.gate", "mul", [result, gate], delta.values)
    return b.site(tensors["o_proj"], result, holds=[normed])
