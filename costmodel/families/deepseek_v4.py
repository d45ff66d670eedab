"""DeepSeek-V4: a window and compressed entries in place of a whole cache, streams of hidden states, experts in every
layer.

What predicts several tokens ahead (`num_nextn_predict_layers`) is no part of the language model and left out.
"""

from __future__ import annotations

from dataclasses import replace

from costmodel.blocks import CompressedAttention
from costmodel.families.decoder_fields import by_kind
from costmodel.families.experts import add_mlp, expert_tensors, read_experts
from costmodel.families.fields import Fields
from costmodel.families.lists import counts_by_layer, names_by_layer
from costmodel.families.rope import longest_sequence
from costmodel.families.rotary import add_epilogue, add_prologue, add_rotated, rotary_row
from costmodel.families.row import FamilyRow
from costmodel.forward.compressed import (
    add_compressed_attention,
    add_entries,
    add_index,
    add_streams_in,
    add_streams_out,
    compressed_of,
)
from costmodel.forward.frame import INPUT, Start
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor, attention_weight

_SLIDING, _SPARSE, _HEAVY = "sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"
_RATES = {_SLIDING: 0, _SPARSE: 4, _HEAVY: 128}
"""Kind of a layer -> positions of one of its entries where a file does not say."""


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    hidden, heads, layers = (
        fields.count("hidden_size"),
        fields.count("num_attention_heads"),
        fields.layers("num_hidden_layers"),
    )
    for name in ("num_key_value_heads", "n_shared_experts"):
        if fields.count(name, 1) != 1:
            raise fields.error(name, "1")
    head_dim, groups = fields.count("head_dim"), fields.count("o_groups")
    if heads * head_dim % groups:
        raise fields.error("o_groups", f"a divisor of all heads' width {heads * head_dim}")
    block = CompressedAttention(
        query_rank=fields.count("q_lora_rank"),
        rope_dim=fields.count_or_none("qk_rope_head_dim") or head_dim // 8,
        out_groups=groups,
        out_rank=fields.count("o_lora_rank"),
        streams=fields.count("hc_mult"),
        window=fields.count("sliding_window"),
    )
    size = fields.count("moe_intermediate_size")
    names = ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size")
    kinds = _kinds(fields, layers)
    rates = _rates(fields)
    indexed = {
        "index_top": fields.count("index_topk"),
        "index_heads": fields.count("index_n_heads"),
        "index_dim": fields.count("index_head_dim"),
    }
    own: dict[str, dict[str, object]] = {
        kind: {"compressed": replace(block, rate=rates[kind], **(indexed if kind == _SPARSE else {}))} for kind in kinds
    }
    return ModelSpec(
        name=fields.name,
        family=row,
        model_type=fields.model_type,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=size,
        num_heads=heads,
        num_kv_heads=1,
        head_dim=head_dim,
        vocab_size=fields.count("vocab_size"),
        max_positions=longest_sequence(fields, fields.count("max_position_embeddings")),
        embed_dim=hidden,
        activation=fields.activation("hidden_act", "silu"),
        gated_mlp=True,
        qkv_bias=False,
        attn_out_bias=False,
        mlp_bias=fields.flag_or("mlp_bias", False),
        experts=read_experts(fields, *names, shared_intermediate_size=size),
        compressed=block,
        tie_embeddings=fields.flag_or("tie_word_embeddings", False),
        pre_norm=True,
        final_norm=True,
        other_outer_params=block.streams * (block.streams * hidden + 1) + 1,
        sliding_windows=tuple(block.window if kind == _SLIDING else None for kind in kinds),
        dtype=fields.dtype(),
        **by_kind(kinds, own),
    )


def _kinds(fields: Fields, layers: int) -> list[str]:
    """The kind of each layer: by name, by the positions of its entries, or two and then alternating."""
    named = names_by_layer(fields, "layer_types", layers, tuple(_RATES))
    ratios = counts_by_layer(fields, "compress_ratios", layers, minimum=0)
    if named is not None:
        return named
    if ratios is None:
        return [_HEAVY if layer < 2 or layer % 2 == 0 else _SPARSE for layer in range(layers)]
    by_rate = {rate: kind for kind, rate in _RATES.items()}
    if not set(ratios) <= set(by_rate):
        raise fields.error("compress_ratios", f"a list of {', '.join(map(str, by_rate))}")
    return [by_rate[ratio] for ratio in ratios]


def _rates(fields: Fields) -> dict[str, int]:
    given, rates = fields.nested("compress_rates"), dict(_RATES)
    for kind, name in ((_SPARSE, "compress_rate_csa"), (_HEAVY, "compress_rate_hca")):
        rates[kind] = fields.count_or_none(name) or given.count(kind, rates[kind])
    return rates


def _tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    """The linears of attention but the one by groups of heads, which stays dense; the experts'."""
    block, hidden, width = compressed_of(spec), spec.hidden_size, spec.head_dim
    shapes = [
        ("q_a_proj", "q_a_proj", block.query_rank, hidden),
        ("q_b_proj", "q_b_proj", spec.q_size, block.query_rank),
        ("kv_proj", "kv_proj", width, hidden),
    ]
    if block.rate:
        names = [("compressor", "compressor", width)]
        names += [("indexer", "compressor.indexer", block.index_dim)] if block.index_heads else []
        for name, path, wide in names:
            for leaf in ("kv_proj", "gate_proj"):
                shapes.append((f"{name}.{leaf}", f"{path}.{leaf}", block.series * wide, hidden))
    if block.index_heads:
        wide = block.index_heads * block.index_dim
        shapes.append(("indexer.q_b_proj", "compressor.indexer.q_b_proj", wide, block.query_rank))
    shapes.append(("o_b_proj", "o_b_proj", hidden, block.out_groups * block.out_rank))
    attention = (attention_weight(name, f"self_attn.{path}", n, k, bias=False) for name, path, n, k in shapes)
    return (*attention, *expert_tensors(spec))


def _other_params(spec: ModelSpec) -> int:
    """Norms, sinks, the projection by groups, what makes entries and scores them, the router, and the streams'."""
    block, hidden = compressed_of(spec), spec.hidden_size
    n, experts = block.streams, spec.experts
    streams = 2 * (n * (n + 2) * (n * hidden + 1) + 3)
    entries = (block.rate * block.series + 1) * spec.head_dim if block.rate else 0
    index = (block.rate * block.series + 1) * block.index_dim + block.index_heads * hidden if block.index_heads else 0
    attention = block.query_rank + spec.head_dim + spec.num_heads + block.out_rank * spec.q_size
    return streams + entries + index + attention + (experts.number * hidden if experts else 0)


def _prologue(b: Builder) -> Start:
    start = add_prologue(b)
    hidden, n = b.model.hidden_size, compressed_of(b.model).streams
    first = b.pointwise("model.streams", "copy", [start.first], hidden, rows=b.work.tokens * n)
    return Start(first, tuple(op.name for op in b.ops if op.name != start.first))


def _layer(b: Builder, window: int | None) -> None:
    collapsed = add_streams_in(b, "attn_hc", INPUT)
    attended, held = _attention(b, b.norm("input_layernorm", collapsed))
    streams = add_streams_out(b, "attn_hc", INPUT, attended)
    collapsed = add_streams_in(b, "ffn_hc", streams)
    result = add_mlp(b, b.norm("post_attention_layernorm", collapsed))
    add_streams_out(b, "ffn_hc", streams, result, holds=held)


def _attention(b: Builder, normed: str) -> tuple[str, tuple[str, ...]]:
    model, block, path = b.model, compressed_of(b.model), "self_attn"
    tensors = {tensor.name: tensor for tensor in model.tensors}
    narrow = b.norm(f"{path}.q_a_norm", b.site(tensors["q_a_proj"], normed), columns=block.query_rank)
    rows = b.work.tokens * model.num_heads
    query = b.norm(f"{path}.q_b_norm", b.site(tensors["q_b_proj"], narrow), rows=rows, columns=model.head_dim)
    query = add_rotated(b, "q", query, model.num_heads * block.rope_dim)
    key = b.norm(f"{path}.kv_norm", b.site(tensors["kv_proj"], normed), columns=model.head_dim)
    key = add_rotated(b, "k", key, block.rope_dim, holds=[query])
    others = list[str]()
    if block.rate:
        others.append(add_entries(b, f"{path}.compressor", normed, model.head_dim, tensors, "compressor"))
    if block.index_heads:
        others.append(add_index(b, f"{path}.compressor.indexer", normed, narrow, tensors))
    attended = add_compressed_attention(b, path, query, key, others)
    turned = add_rotated(b, "out", attended.output, model.num_heads * block.rope_dim)
    wide = block.out_groups * block.out_rank
    grouped = b.linear(f"{path}.o_a_proj", b.work.tokens, wide, model.q_size // block.out_groups, turned, bias=False)
    return b.site(tensors["o_b_proj"], grouped), attended.weights


def _epilogue(b: Builder) -> None:
    """The streams' sum, the final norm and the LM head."""
    hidden, n = b.model.hidden_size, compressed_of(b.model).streams
    b.linear("model.hc_head.hc_fn", b.work.tokens, n, n * hidden, INPUT, bias=False)
    add_epilogue(b)


DEEPSEEK_V4 = rotary_row(
    "deepseek-v4",
    {"deepseek_v4": "DeepseekV4"},
    _read,
    _tensors,
    _layer,
    aliases={"intermediate_size": "moe_intermediate_size", "num_local_experts": "n_routed_experts"},
    other_params=_other_params,
    upcasts_softmax=False,
    prologue=_prologue,
    epilogue=_epilogue,
)
