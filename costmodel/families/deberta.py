"""DeBERTa v2 and v3: attention adds products of queries and keys with projected relative positions.

Where content and positions share their projections (v3), query_proj and key_proj run a second time, on the table of
relative positions, in each layer. They stay dense here: a factored one would pay its factors twice.
"""

from __future__ import annotations

from dataclasses import replace

from costmodel.families.bert import BERT_LM
from costmodel.families.decoder_layer import decoder_tensors, words_of
from costmodel.families.encoders import BERT_WORDS, LINEAR_HEADS, encoder_row, encoder_spec
from costmodel.families.fields import Fields
from costmodel.families.heads import Heads, classifier, masked_lm
from costmodel.families.lists import texts, words_between
from costmodel.families.row import FamilyRow
from costmodel.forward.attention import Attended, add_attention
from costmodel.forward.cost import batched_gemm
from costmodel.forward.frame import INPUT
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor

_KINDS = ("c2p", "p2c")
"""Content with positions of keys, positions of queries with content."""
_POOLED = ("ForSequenceClassification", "ForMultipleChoice")
"""How the classes with a pooler end."""


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    if fields.count("conv_kernel_size", 0, minimum=0):
        raise fields.error("conv_kernel_size", "0: a layer of convolution is not supported")
    refuse_wider_pooler(fields)
    hidden, relative = fields.count("hidden_size"), fields.flag_or("relative_attention", False)
    if not fields.flag_or("legacy", True):
        raise fields.error("legacy", "true")
    projections = {f"self.{name}_proj": name for name in ("query", "key", "value")}
    words = replace(
        BERT_WORDS,
        qkv=tuple(projections),
        names=(*projections.items(), *BERT_WORDS.names),
        relative=relative_products(fields) if relative else (),
        relative_shared=fields.flag_or("share_att_key", False),
    )
    positions = fields.count("max_position_embeddings")
    table = 2 * _span(fields, positions) if relative else 0
    normed = "layer_norm" in words_between(fields, "norm_rel_ebd", ("none", "layer_norm"))
    if fields.count_or_none("embedding_size") not in (None, hidden):
        raise fields.error("embedding_size", f"hidden_size {hidden}")
    return encoder_spec(
        fields,
        row,
        words,
        position_rows=positions if fields.flag_or("position_biased_input", True) else 0,
        token_types=fields.count("type_vocab_size", minimum=0),
        relative_rows=table,
        other_outer_params=table * hidden + (2 * hidden if relative and normed else 0),
    )


def refuse_wider_pooler(fields: Fields) -> None:
    """Raise a ModelError for a class with a pooler of another width than what it reads, which cannot run."""
    hidden = fields.count("hidden_size")
    pooled = any(name.endswith(_POOLED) for name in texts(fields, "architectures"))
    if pooled and fields.count_or_none("pooler_hidden_size") not in (None, hidden):
        raise fields.error("pooler_hidden_size", f"hidden_size {hidden}")


def _span(fields: Fields, positions: int) -> int:
    """Relative positions on each side: buckets where there are any."""
    buckets, most = (fields.count(name, -1, -1) for name in ("position_buckets", "max_relative_positions"))
    return next((span for span in (buckets, most) if span > 0), positions)


def relative_products(fields: Fields) -> tuple[str, ...]:
    """Which products with relative positions the scores have, of c2p and p2c."""
    given = words_between(fields, "pos_att_type", _KINDS)
    return tuple(kind for kind in _KINDS if kind in given)


def _tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    return decoder_tensors(spec)[2:]


def _other_params(spec: ModelSpec) -> int:
    """Query and key, and projections of positions of their own where they do not share."""
    words = words_of(spec)
    own = 0 if words.relative_shared else len(words.relative)
    return (2 + own) * spec.hidden_size * (spec.hidden_size + 1)


def _layer(b: Builder, window: int | None) -> None:
    hidden, words = b.model.hidden_size, words_of(b.model)
    value = b.model.tensors[0]
    query, key = (
        b.linear(f"attention.self.{which}_proj", b.work.tokens, hidden, hidden, INPUT, bias=True)
        for which in ("query", "key")
    )
    biases = _relative(b, query, key) if words.relative else []
    attended = add_attention(b, "attention.self", query, [key, b.site(value, INPUT)], window)
    add_after_attention(b, attended, biases)


def add_after_attention(b: Builder, attended: Attended, products: list[str]) -> None:
    """What follows attention in a layer of either version: its output, the MLP, and a norm after each sum.

    Args:
        products: of relative positions, which live until attention's output is made.
    """
    hidden, words = b.model.hidden_size, words_of(b.model)
    attn_output, intermediate, output = b.model.tensors[-3:]
    dense = b.site(attn_output, attended.output, holds=products)
    added = b.pointwise("attention.output.add", "add", [dense, INPUT], hidden)
    residual = b.norm(words.norms[0], added)
    inner = b.activation("intermediate.act_fn", b.site(intermediate, residual), b.model.intermediate_size)
    added = b.pointwise("output.add", "add", [b.site(output, inner), residual], hidden)
    b.norm(words.norms[1], added, holds=[INPUT, *attended.weights])


def _relative(b: Builder, query: str, key: str) -> list[str]:
    """Relative positions projected, and their products with queries and keys; the names of these."""
    model, work, words, rows = b.model, b.work, words_of(b.model), b.model.relative_rows
    hidden, heads = model.hidden_size, work.batch * model.num_heads
    names = {"c2p": "key", "p2c": "query"}
    projected = _KINDS if words.relative_shared else words.relative
    made = {}
    for kind in projected:
        path = (
            f"attention.self.{names[kind]}_proj.positions"
            if words.relative_shared
            else f"attention.self.pos_{names[kind]}_proj"
        )
        made[kind] = b.linear(path, rows, hidden, hidden, INPUT, bias=True)
    products = []
    for kind in words.relative:
        cost = batched_gemm(heads, work.q_len, rows, model.head_dim, act_bytes=work.act_bytes)
        sources = [query if kind == "c2p" else key, made[kind]]
        size = heads * work.q_len * rows
        products.append(b.add(f"attention.self.{kind}", "attention", cost, sources, size))
    return products


HEADS: Heads = {
    **LINEAR_HEADS,
    "ForMaskedLM": masked_lm(*BERT_LM),
    "ForSequenceClassification": classifier("sequence_classification", "pooler.dense", "classifier", first_token=True),
    "ForMultipleChoice": classifier("multiple_choice", "pooler.dense", "classifier", first_token=True, outputs=1),
}
"""The heads of all versions."""
DEBERTA = encoder_row(
    "deberta",
    {"deberta-v2": "DebertaV2"},
    _read,
    heads=HEADS,
    tensors=_tensors,
    other_params=_other_params,
    layer=_layer,
)
