"""OPT: separate q, k and v, learned positions counted through the mask, norms before or after; transformers 5.23's
defaults.

OPT-350m alone has norms after the residual add and embeddings narrower than the hidden states, with a projection at
either end.
"""

from __future__ import annotations

from costmodel.families.fields import Fields
from costmodel.families.row import FamilyRow
from costmodel.forward.attention import add_attention
from costmodel.forward.cost import FP32_BYTES, INDEX_BYTES
from costmodel.forward.frame import INPUT, POSITIONS, Start, add_head, add_positions
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor, attention_weight, mlp_weight


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "ffn_dim")
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    layers = fields.layers("num_hidden_layers")
    positions = fields.count("max_position_embeddings", 2048)
    embed_dim = fields.count_or_none("word_embed_proj_dim")
    pre_norm, bias = fields.flag("do_layer_norm_before", True), fields.flag("enable_bias", True)
    return ModelSpec(
        name=fields.name,
        family=row,
        model_type=fields.model_type,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=fields.count("ffn_dim"),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=fields.head_dim("num_attention_heads", "hidden_size"),
        vocab_size=fields.count("vocab_size"),
        max_positions=positions,
        position_rows=positions + 2,
        embed_dim=hidden if embed_dim is None else embed_dim,
        activation=fields.activation("activation_function", "relu"),
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=bias,
        tie_embeddings=fields.flag_or("tie_word_embeddings", True),
        pre_norm=pre_norm,
        final_norm=pre_norm and not fields.flag("_remove_final_layer_norm", False),
        norm_affine=fields.flag("layer_norm_elementwise_affine", True),
        sliding_windows=(None,) * layers,
        dtype=fields.dtype(),
    )


def _tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    hidden, inner = spec.hidden_size, spec.intermediate_size
    return (
        attention_weight("q_proj", "self_attn.q_proj", spec.q_size, hidden, bias=spec.qkv_bias),
        attention_weight("k_proj", "self_attn.k_proj", spec.kv_size, hidden, bias=spec.qkv_bias),
        attention_weight("v_proj", "self_attn.v_proj", spec.kv_size, hidden, bias=spec.qkv_bias),
        attention_weight("out_proj", "self_attn.out_proj", hidden, spec.q_size, bias=spec.attn_out_bias),
        mlp_weight("fc1", "fc1", inner, hidden, bias=spec.mlp_bias),
        mlp_weight("fc2", "fc2", hidden, inner, bias=spec.mlp_bias),
    )


def _positions(b: Builder) -> None:
    add_positions(b, kernels=6, rows=b.work.batch * b.work.kv_len, kept_bytes=FP32_BYTES + INDEX_BYTES)


def _prologue(b: Builder) -> Start:
    model, tokens = b.model, b.work.tokens
    words = b.embed("model.decoder.embed_tokens", tokens, model.embed_dim)
    positions = b.embed("model.decoder.embed_positions", tokens, model.hidden_size, [POSITIONS])
    carried = [op.name for op in b.ops]
    if model.embed_dim != model.hidden_size:
        carried.remove(words)
        words = b.linear("model.decoder.project_in", tokens, model.hidden_size, model.embed_dim, words, bias=False)
        carried.append(words)
    first = b.pointwise("model.decoder.add_positions", "add", [words, positions], model.hidden_size)
    return Start(first, tuple(carried))


def _layer(b: Builder, window: int | None) -> None:
    model, hidden = b.model, b.model.hidden_size
    q, k, v, out, fc1, fc2 = model.tensors
    source = b.norm("self_attn_layer_norm", INPUT) if model.pre_norm else INPUT
    query = b.pointwise("self_attn.scale_q", "scale", [b.site(q, source)], model.q_size)
    key, value = b.site(k, source), b.site(v, source)
    attended = add_attention(b, "self_attn", query, [key, value], window)
    projected = b.site(out, attended.output, holds=[source, query])
    residual = b.pointwise("add_attention", "add", [INPUT, projected], hidden)
    if not model.pre_norm:
        residual = b.norm("self_attn_layer_norm", residual)
    source = b.norm("final_layer_norm", residual) if model.pre_norm else residual
    inner = b.activation("activation_fn", b.site(fc1, source), model.intermediate_size)
    output = b.site(fc2, inner)
    last = b.pointwise("add_mlp", "add", [residual, output], hidden, holds=[INPUT, *attended.weights])
    if not model.pre_norm:
        b.norm("final_layer_norm", last, holds=[INPUT, residual, *attended.weights])


def _epilogue(b: Builder) -> None:
    model = b.model
    last = b.norm("model.decoder.final_layer_norm", INPUT) if model.final_norm else INPUT
    if model.embed_dim != model.hidden_size:
        rows = b.work.tokens
        last = b.linear("model.decoder.project_out", rows, model.embed_dim, model.hidden_size, last, bias=False)
    add_head(b, last)


OPT = FamilyRow(
    name="opt",
    classes={"opt": "OPT"},
    read=_read,
    tensors=_tensors,
    layer_path="model.decoder.layers",
    norm="layer_norm",
    verified=True,
    upcasts_softmax=True,
    positions=_positions,
    prologue=_prologue,
    layer=_layer,
    epilogue=_epilogue,
)
