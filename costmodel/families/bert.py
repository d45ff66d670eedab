"""BERT and RoBERTa: encoders with learned positions, token types, norms after the residual add, and a pooler.

Defaults of absent fields are those of the configuration classes of transformers 5.23.
"""

from __future__ import annotations

from costmodel.families.fields import Fields
from costmodel.families.row import FamilyRow
from costmodel.forward.attention import add_attention
from costmodel.forward.frame import INPUT, POSITIONS, Start, add_positions
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec, WeightTensor, attention_weight, mlp_weight

_ENCODER_ONLY = "only the encoder is supported, without cross-attention"


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size")
    fields.refuse("is_decoder", _ENCODER_ONLY)
    fields.refuse("add_cross_attention", _ENCODER_ONLY)
    fields.choice("position_embedding_type", "absolute", ("absolute",))
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    layers = fields.layers("num_hidden_layers")
    rows = fields.count("max_position_embeddings", 512)
    reserved = fields.count("pad_token_id", 1, minimum=0) + 1 if fields.model_type == "roberta" else 0
    if rows <= reserved:
        raise fields.error("max_position_embeddings", f"more than pad_token_id + 1 = {reserved}")
    return ModelSpec(
        name=fields.name,
        family=row,
        model_type=fields.model_type,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=fields.count("intermediate_size"),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=fields.head_dim("num_attention_heads", "hidden_size"),
        vocab_size=fields.count("vocab_size"),
        max_positions=rows - reserved,
        position_rows=rows,
        token_types=fields.count("type_vocab_size", 2),
        embed_dim=hidden,
        activation=fields.activation("hidden_act", "gelu"),
        qkv_bias=True,
        attn_out_bias=True,
        mlp_bias=True,
        tie_embeddings=False,
        pre_norm=False,
        final_norm=False,
        embedding_norm=True,
        pooler=True,
        sliding_windows=(None,) * layers,
        dtype=fields.dtype(),
    )


def _tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    hidden, inner = spec.hidden_size, spec.intermediate_size
    return (
        attention_weight("query", "attention.self.query", hidden, hidden, bias=spec.qkv_bias),
        attention_weight("key", "attention.self.key", hidden, hidden, bias=spec.qkv_bias),
        attention_weight("value", "attention.self.value", hidden, hidden, bias=spec.qkv_bias),
        attention_weight("attn_output", "attention.output.dense", hidden, hidden, bias=spec.attn_out_bias),
        mlp_weight("intermediate", "intermediate.dense", inner, hidden, bias=spec.mlp_bias),
        mlp_weight("output", "output.dense", hidden, inner, bias=spec.mlp_bias),
    )


def _positions(b: Builder) -> None:
    """BERT's kernel numbers the token types; RoBERTa counts each sequence's positions by itself, through a mask."""
    if b.model.model_type == "roberta":
        add_positions(b, kernels=9, rows=b.work.batch * b.work.kv_len)
    else:
        add_positions(b, kernels=1)


def _prologue(b: Builder) -> Start:
    hidden, tokens = b.model.hidden_size, b.work.tokens
    words = b.embed("embeddings.word_embeddings", tokens, hidden)
    types = b.embed("embeddings.token_type_embeddings", tokens, hidden)
    added = b.pointwise("embeddings.add_token_types", "add", [words, types], hidden)
    rows = tokens if b.model.model_type == "roberta" else b.work.q_len
    positions = b.embed("embeddings.position_embeddings", rows, hidden, [POSITIONS])
    added = b.pointwise("embeddings.add_positions", "add", [added, positions], hidden, holds=[words, types])
    normed = b.norm("embeddings.LayerNorm", added, holds=[words, types, positions, POSITIONS])
    return Start(normed, (normed,))


def _layer(b: Builder, window: int | None) -> None:
    hidden = b.model.hidden_size
    q, k, v, attn_output, intermediate, output = b.model.tensors
    query, key, value = (b.site(tensor, INPUT) for tensor in (q, k, v))
    attended = add_attention(b, "attention.self", query, [key, value], window)
    dense = b.site(attn_output, attended.output)
    added = b.pointwise("attention.output.add", "add", [dense, INPUT], hidden)
    residual = b.norm("attention.output.LayerNorm", added, holds=[dense, attended.output])
    inner = b.activation("intermediate.intermediate_act_fn", b.site(intermediate, residual), b.model.intermediate_size)
    dense = b.site(output, inner)
    added = b.pointwise("output.add", "add", [dense, residual], hidden, holds=[inner])
    b.norm("output.LayerNorm", added, holds=[INPUT, residual, dense, inner, *attended.weights])


def _epilogue(b: Builder) -> None:
    hidden, batch = b.model.hidden_size, b.work.batch
    pooled = b.linear("pooler.dense", batch, hidden, hidden, INPUT, bias=True)
    b.pointwise("pooler.activation", "tanh", [pooled], hidden, rows=batch, holds=[INPUT])


BERT = FamilyRow(
    name="bert",
    classes={"bert": "Bert", "roberta": "Roberta"},
    read=_read,
    tensors=_tensors,
    layer_path="encoder.layer",
    causal=False,
    norm="layer_norm",
    verified=True,
    positions=_positions,
    prologue=_prologue,
    layer=_layer,
    epilogue=_epilogue,
)
