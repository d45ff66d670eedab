"""Models that differ in words only: their tensors, their operations, and a row made of a table of words.

Which kernels run, and what lives while they do, follows from the topology; parameters and FLOPs are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from costmodel.families.fields import Fields
from costmodel.families.heads import DECODER_HEADS, Heads
from costmodel.families.row import FamilyRow
from costmodel.forward.attention import add_attention
from costmodel.forward.cost import FP32_BYTES, elementwise
from costmodel.forward.frame import INPUT, LM_HEAD, POSITIONS, Start, add_head, add_positions
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec, NormKind
from costmodel.tensors import WeightTensor, attention_weight, mlp_weight
from costmodel.words import Words

Read = Callable[[Fields, FamilyRow], ModelSpec]


def decoder_row(
    name: str,
    classes: Mapping[str, str],
    read: Read,
    *,
    norm: NormKind,
    layers: str = "model.layers",
    heads: Heads = DECODER_HEADS,
    aliases: Mapping[str, str] | None = None,
    strided_heads: bool = False,
    causal: bool = True,
    **functions: Any,
) -> FamilyRow:
    """The row of a family whose `read` gives its models words.

    Args:
        name: of the family.
        classes: model_type -> how its classes' names begin.
        read: from fields to a ModelSpec with words.
        norm: kind of the norms over hidden_size.
        layers: module path of the list of layers.
        heads: end of a class's name -> head.
        aliases: generic name of a field -> native one.
        strided_heads: whether q, k and v are views of one product.
        causal: whether it is a decoder; else an encoder.
        functions: entries of the row in place of those made here.
    """
    made: dict[str, Any] = {
        "tensors": decoder_tensors,
        "other_params": qk_norm_params,
        "positions": _positions,
        "prologue": _prologue,
        "layer": _layer,
        "epilogue": _epilogue,
        **functions,
    }
    return FamilyRow(
        name=name,
        classes=classes,
        read=read,
        heads=heads,
        aliases=aliases or {},
        layer_path=layers,
        causal=causal,
        norm=norm,
        strided_heads=strided_heads,
        **made,
    )


def words_of(spec: ModelSpec) -> Words:
    """The words of a model that a row of `decoder_row` has read."""
    assert spec.words is not None
    return spec.words


def decoder_tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    """q, k, v or all at once, attention's output, then the MLP's."""
    words, hidden, inner = words_of(spec), spec.hidden_size, spec.intermediate_size
    called = dict(words.names)
    wide = (spec.q_size, spec.kv_size, spec.kv_size) if len(words.qkv) > 1 else (spec.q_size + 2 * spec.kv_size,)
    out_bias = spec.attn_out_bias if words.out_bias is None else words.out_bias
    down_bias = spec.mlp_bias if words.down_bias is None else words.down_bias
    mlp = f"{words.mlp}." if words.mlp else ""
    last = ((words.attention, words.out), (words.mlp, words.down))
    out, down = (called.get(f"{path}.{leaf}", called.get(leaf, leaf)) for path, leaf in last)
    return (
        *(
            attention_weight(called.get(leaf, leaf), f"{words.attention}.{leaf}", size, hidden, bias=spec.qkv_bias)
            for leaf, size in zip(words.qkv, wide, strict=True)
        ),
        attention_weight(out, f"{words.attention}.{words.out}", hidden, spec.q_size, bias=out_bias),
        *(
            mlp_weight(called.get(leaf, leaf), mlp + leaf, (1 + words.packed_gate) * inner, hidden, bias=spec.mlp_bias)
            for leaf in words.ups
        ),
        mlp_weight(down, mlp + words.down, hidden, inner, bias=down_bias),
    )


def qk_norm_params(spec: ModelSpec) -> int:
    """Parameters of the norms of q and k in one layer."""
    words = words_of(spec)
    sizes = {
        "none": 0,
        "head": 2 * spec.head_dim,
        "whole": spec.q_size + spec.kv_size,
        "each_head": spec.q_size + spec.kv_size,
    }
    return sizes[words.qk_norm] * (2 if words.qk_norm_bias else 1)


def _positions(b: Builder) -> None:
    add_positions(b, kernels=2)


def _prologue(b: Builder) -> Start:
    model, work, words = b.model, b.work, words_of(b.model)
    width = model.embed_dim
    last = b.embed(words.embedding, work.tokens, width)
    if words.embedding_scale:
        last = b.pointwise(f"{words.embedding}.scale", "scale", [last], width)
    tables = [(words.token_types, work.tokens, list[str]())] if model.token_types else []
    if model.position_rows:
        tables.append((words.position_table, work.q_len, [POSITIONS]))
    for name, rows, sources in tables:
        last = b.pointwise(f"{name}.add", "add", [last, b.embed(name, rows, width, sources)], width)
    if model.embedding_norm:
        last = b.norm(words.embedding_norm, last, rows=work.tokens, columns=width)
    if model.narrow_embeddings and width != model.hidden_size:
        last = b.linear(words.projection, work.tokens, model.hidden_size, width, last, bias=True)
    if words.rotary:
        turned = max(2, int(model.head_dim * words.rotary_share))
        program = "rotary_tables_fp32" if work.act_bytes == FP32_BYTES else "rotary_tables"
        cost = elementwise(program, work.q_len, turned, act_bytes=work.act_bytes)
        b.add(words.tables, "rope", cost, [POSITIONS], 2 * work.q_len * turned)
    return Start(last, tuple(op.name for op in b.ops))


def _layer(b: Builder, window: int | None) -> None:
    words, hidden = words_of(b.model), b.model.hidden_size
    norms = iter(words.norms)

    def normed(source: str) -> str:
        path = next(norms)
        return b.norm(path, source) if path else source

    before = words.placing in ("pre", "sandwich", "parallel")
    behind = words.placing in ("post", "sandwich")
    first = normed(INPUT) if before else INPUT
    attended, weights = _attention(b, first, window)
    if words.placing == "parallel":
        source = first if len(words.norms) == 1 else normed(INPUT)
        added = b.pointwise("add_attention", "add", [INPUT, attended], hidden)
        b.pointwise("add_mlp", "add", [added, _mlp(b, source)], hidden, holds=[INPUT, *weights])
        return
    attended = normed(attended) if behind else attended
    residual = b.pointwise("add_attention", "add", [INPUT, _scaled(b, "attention", attended)], hidden)
    if words.placing == "after":
        residual = normed(residual)
    result = _mlp(b, normed(residual) if before else residual)
    result = normed(result) if behind else result
    last = b.pointwise("add_mlp", "add", [residual, _scaled(b, "mlp", result)], hidden, holds=[INPUT, *weights])
    if words.placing == "after":
        b.norm(next(norms), last, holds=[INPUT, *weights])


def _scaled(b: Builder, which: str, source: str) -> str:
    if not words_of(b.model).residual_scale:
        return source
    return b.pointwise(f"scale_{which}", "scale", [source], b.model.hidden_size)


def _attention(b: Builder, normed: str, window: int | None) -> tuple[str, tuple[str, ...]]:
    model, words = b.model, words_of(b.model)
    *qkv, out = (tensor for tensor in model.tensors if tensor.group == "attn")
    made = [b.site(tensor, normed, holds=[INPUT]) for tensor in qkv]
    query, key, value = made if len(made) > 1 else made * 3
    if words.qk_norm != "none":
        query = _qk_norm(b, words.qk_norm_names[0], query, model.num_heads)
        key = _qk_norm(b, words.qk_norm_names[1], key, model.num_kv_heads)
    if words.rotary:
        query = _rotate(b, "q", query, model.q_size)
        key = _rotate(b, "k", key, model.kv_size)
    keys_values = list(dict.fromkeys([key, value]))
    attended = add_attention(b, words.attention, query, keys_values, window)
    projected = b.site(out, attended.output, holds=[normed, query, *attended.held])
    return projected, attended.weights


def _qk_norm(b: Builder, leaf: str, source: str, heads: int) -> str:
    words, width, rows = words_of(b.model), b.model.head_dim, b.work.tokens * heads
    if words.qk_norm == "whole":
        width, rows = width * heads, b.work.tokens
    return b.norm(f"{words.attention}.{leaf}", source, rows=rows, columns=width)


def _rotate(b: Builder, which: str, source: str, columns: int) -> str:
    words = words_of(b.model)
    turned = max(2, int(columns * words.rotary_share))
    cost = elementwise("rotate", b.work.tokens, turned, act_bytes=b.work.act_bytes)
    size, name = b.work.tokens * columns, f"{words.attention}.rotary_{which}"
    return b.add(name, "rope", cost, [source, words.tables], size, workspace=2 * b.work.tokens * turned)


def _mlp(b: Builder, source: str) -> str:
    model, words = b.model, words_of(b.model)
    *ups, down = (tensor for tensor in model.tensors if tensor.group == "mlp")
    path, inner = f"{words.mlp}." if words.mlp else "", model.intermediate_size
    made = [b.site(tensor, source) for tensor in ups]
    last = b.activation(f"{path}act_fn", made[0], inner)
    if model.gated_mlp:
        last = b.pointwise(f"{path}mul", "mul", [last, made[-1]], inner)
    return b.site(down, last, holds=[source])


def _epilogue(b: Builder) -> None:
    words, model, batch = words_of(b.model), b.model, b.work.batch
    last = b.norm(words.final_norm, INPUT) if model.final_norm else INPUT
    if model.pooler:
        last = b.linear("pooler.dense", batch, model.hidden_size, model.hidden_size, last, bias=True)
        last = b.pointwise("pooler.activation", "tanh", [last], model.hidden_size, rows=batch)
    add_head(b, last)
    if model.head.kind == "causal_lm" and words.logit_kernels:
        rows = next(op.gemm[0] for op in b.ops if op.name == LM_HEAD and op.gemm)
        columns = model.vocab_size * b.work.tp
        for index in range(words.logit_kernels):
            b.pointwise(f"{LM_HEAD}.logits_{index}", "scale", [b.ops[-1].name], columns, rows=rows)
