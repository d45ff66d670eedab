"""Latent attention in a layer: its linears, the norms of its narrow vectors and its operations."""

from __future__ import annotations

from costmodel.families.rotary import add_rotated
from costmodel.forward.frame import INPUT
from costmodel.forward.latent import add_indexer, add_latent_attention
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor, attention_weight


def latent_tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    """The linears in the order of the forward pass, the indexer's among them; a gate's where words name one."""
    latent, hidden, heads = spec.latent, spec.hidden_size, spec.num_heads
    assert latent is not None
    queries, values = heads * latent.key_dim, heads * latent.value_dim
    if latent.query_rank is None:
        shapes = [("q_proj", queries, hidden, False)]
    else:
        narrow = ("q_a_proj", latent.query_rank, hidden, spec.qkv_bias)
        shapes = [narrow, ("q_b_proj", queries, latent.query_rank, False)]
    if latent.index_heads:
        shapes += [
            ("indexer.wq_b", latent.index_heads * latent.index_dim, latent.query_rank or hidden, False),
            ("indexer.wk", latent.index_dim, hidden, False),
        ]
    shapes += [
        ("kv_a_proj_with_mqa", latent.cached, hidden, spec.qkv_bias),
        ("kv_b_proj", heads * (latent.nope_dim + latent.value_dim), latent.kv_rank, False),
    ]
    if spec.words is not None and spec.words.gate:
        shapes.append((spec.words.gate, heads if spec.words.gate_by_head else values, hidden, False))
    shapes.append(("o_proj", hidden, values, spec.attn_out_bias))
    made = (attention_weight(name, f"self_attn.{name}", n, k, bias=bias) for name, n, k, bias in shapes)
    return tuple(each.over_the_cache() if each.name == "kv_b_proj" else each for each in made)


def latent_params(spec: ModelSpec) -> int:
    """Norms of the narrow vectors, and an indexer's norm and weights of its heads."""
    latent = spec.latent
    assert latent is not None
    indexer = 2 * latent.index_dim + latent.index_heads * spec.hidden_size if latent.index_heads else 0
    return latent.kv_rank + (latent.query_rank or 0) + indexer


def add_latent_block(b: Builder, normed: str, window: int | None) -> tuple[str, tuple[str, ...]]:
    """Latent attention and the linears around it: its result, and weights that live to the end of the layer.

    Args:
        b: the builder, of a model with latent attention.
        normed: name of the operation that made the layer's normed input.
        window: sliding window in positions, or None.
    """
    model, latent, words = b.model, b.model.latent, b.model.words
    assert latent is not None
    tensors = {tensor.name: tensor for tensor in model.tensors if tensor.path.startswith("self_attn.")}
    if latent.query_rank is None:
        query = b.site(tensors["q_proj"], normed, holds=[INPUT])
    else:
        narrow = b.site(tensors["q_a_proj"], normed, holds=[INPUT])
        narrow = b.norm("self_attn.q_a_layernorm", narrow, columns=latent.query_rank)
        query = b.site(tensors["q_b_proj"], narrow, holds=[INPUT, normed])
        if latent.index_heads:
            add_indexer(b, "self_attn", normed, narrow, tensors)
    compressed = b.site(tensors["kv_a_proj_with_mqa"], normed, holds=[INPUT, query])
    key = b.norm("self_attn.kv_a_layernorm", compressed, columns=latent.kv_rank, holds=[query])
    if words is None or words.rotary:
        query = add_rotated(b, "q", query, model.num_heads * latent.rope_dim, holds=[key])
        key = add_rotated(b, "k", key, latent.rope_dim, holds=[query, compressed])
    attended = add_latent_attention(b, "self_attn", query, key, tensors["kv_b_proj"], window)
    result = attended.output
    if words is not None and words.gate:
        gate = b.site(tensors[words.gate], normed, holds=[result])
        result = b.pointwise("self_attn.gated", "mul", [result, gate], model.num_heads * latent.value_dim)
    return b.site(tensors["o_proj"], result, holds=[normed, query]), attended.weights
