"""DeBERTa of the first version: one linear to queries, keys and values, and tables of relative positions projected in
each layer as far as a sequence reaches."""

from __future__ import annotations

from dataclasses import replace

from costmodel.families.deberta import HEADS, add_after_attention, refuse_wider_pooler, relative_products
from costmodel.families.decoder_layer import words_of
from costmodel.families.encoders import BERT_WORDS, encoder_row, encoder_spec
from costmodel.families.fields import Fields
from costmodel.families.row import FamilyRow
from costmodel.forward.attention import add_attention
from costmodel.forward.cost import batched_gemm
from costmodel.forward.frame import INPUT
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec

_PROJECTIONS = {"c2p": "pos_proj", "p2c": "pos_q_proj"}
"""Product with relative positions -> the linear that these pass before it."""


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    for name in ("talking_head", "embedding_size"):
        fields.refuse(name, "the layers of the published models alone are supported")
    refuse_wider_pooler(fields)
    if not fields.flag_or("legacy", True):
        raise fields.error("legacy", "true")
    relative = fields.flag_or("relative_attention", False)
    words = replace(
        BERT_WORDS,
        qkv=("self.in_proj",),
        out_bias=True,
        names=(("self.in_proj", "in_proj"), *BERT_WORDS.names),
        relative=relative_products(fields) if relative else (),
    )
    positions, most = fields.count("max_position_embeddings"), fields.count("max_relative_positions", -1, -1)
    span = most if most > 0 else positions
    rows = 2 * span if relative else 0
    return encoder_spec(
        fields,
        row,
        words,
        bias=False,
        position_rows=positions if fields.flag_or("position_biased_input", True) else 0,
        token_types=fields.count("type_vocab_size", minimum=0),
        relative_rows=rows,
        other_outer_params=rows * fields.count("hidden_size"),
    )


def _other_params(spec: ModelSpec) -> int:
    """Biases of queries and values, and the linears of relative positions, of which that to queries has a bias."""
    hidden, relative = spec.hidden_size, words_of(spec).relative
    return 2 * hidden + len(relative) * hidden * hidden + (hidden if "p2c" in relative else 0)


def _layer(b: Builder, window: int | None) -> None:
    hidden, words = b.model.hidden_size, words_of(b.model)
    query = b.site(b.model.tensors[0], INPUT)
    biased = [b.pointwise(f"attention.self.{which}_bias", "add", [query], hidden) for which in ("q", "v")]
    products = [_product(b, kind, biased[0]) for kind in words.relative]
    attended = add_attention(b, "attention.self", biased[0], [query, biased[1]], window)
    add_after_attention(b, attended, products)


def _product(b: Builder, kind: str, source: str) -> str:
    """Relative positions as far as a sequence reaches, projected, and their product with queries or keys."""
    model, work, hidden = b.model, b.work, b.model.hidden_size
    rows, heads = min(model.relative_rows, 2 * work.q_len), work.batch * model.num_heads
    path = f"attention.self.{_PROJECTIONS[kind]}"
    projected = b.linear(path, rows, hidden, hidden, INPUT, bias=kind == "p2c")
    cost = batched_gemm(heads, work.q_len, rows, model.head_dim, act_bytes=work.act_bytes)
    size = heads * work.q_len * rows
    return b.add(f"attention.self.{kind}", "attention", cost, [source, projected], size)


DEBERTA_V1 = encoder_row(
    "deberta-v1", {"deberta": "Deberta"}, _read, heads=HEADS, other_params=_other_params, layer=_layer
)
