"""Models that differ in words only: what stands around their layers, and a row made of a table of words.

Which kernels run, and what lives while they do, follows from the topology; parameters and FLOPs are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from costmodel.families.decoder_layer import add_layer, decoder_tensors, extra_params, words_of
from costmodel.families.fields import Fields
from costmodel.families.heads import DECODER_HEADS, Heads
from costmodel.families.residuals import add_weighed
from costmodel.families.row import FamilyRow
from costmodel.family import NormKind
from costmodel.forward.cost import FP32_BYTES, elementwise
from costmodel.forward.frame import INPUT, LM_HEAD, POSITIONS, Start, add_head, add_positions
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec

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
        "other_params": extra_params,
        "positions": _positions,
        "prologue": add_decoder_prologue,
        "layer": add_layer,
        "epilogue": add_decoder_epilogue,
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


def _positions(b: Builder) -> None:
    add_positions(b, kernels=2)


def add_decoder_prologue(b: Builder) -> Start:
    """The embeddings, what is added to them, and the cosines and sines of the positions."""
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


def add_decoder_epilogue(b: Builder) -> None:
    """The final norm, a pooler, the head, and what is done to logits."""
    words, model, batch = words_of(b.model), b.model, b.work.batch
    last = add_weighed(b, "model.output_attn_res", INPUT)
    last = b.norm(words.final_norm, last) if model.final_norm else last
    if model.pooler:
        last = b.linear("pooler.dense", batch, model.hidden_size, model.hidden_size, last, bias=True)
        last = b.pointwise("pooler.activation", "tanh", [last], model.hidden_size, rows=batch)
    add_head(b, last)
    if model.head.kind == "causal_lm" and words.logit_kernels:
        rows = next(op.gemm[0] for op in b.ops if op.name == LM_HEAD and op.gemm)
        columns = model.vocab_size * b.work.tp
        for index in range(words.logit_kernels):
            b.pointwise(f"{LM_HEAD}.logits_{index}", "scale", [b.ops[-1].name], columns, rows=rows)
