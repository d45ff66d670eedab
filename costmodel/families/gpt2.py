"""GPT-2: q, k and v in one product, learned positions, linears stored as (in, out); defaults of transformers 5.23."""

from __future__ import annotations

from costmodel.families.fields import Fields
from costmodel.families.heads import DECODER_HEADS, causal_lm, classifier
from costmodel.families.row import FamilyRow
from costmodel.forward.attention import add_attention
from costmodel.forward.frame import INPUT, POSITIONS, Start, add_head, add_positions
from costmodel.forward.ops import Builder
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor, attention_weight, mlp_weight


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require("n_embd", "n_layer", "n_head", "vocab_size")
    fields.refuse("add_cross_attention", "only the decoder is supported, without cross-attention")
    hidden, heads, layers = fields.count("n_embd"), fields.count("n_head"), fields.layers("n_layer")
    positions = fields.count("n_positions", 1024)
    inner = fields.count_or_none("n_inner")
    return ModelSpec(
        name=fields.name,
        family=row,
        model_type=fields.model_type,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=4 * hidden if inner is None else inner,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=fields.head_dim("n_head", "n_embd"),
        vocab_size=fields.count("vocab_size"),
        max_positions=positions,
        position_rows=positions,
        embed_dim=hidden,
        activation=fields.activation("activation_function", "gelu_new"),
        qkv_bias=True,
        attn_out_bias=True,
        mlp_bias=True,
        tie_embeddings=fields.flag_or("tie_word_embeddings", True),
        pre_norm=True,
        final_norm=True,
        sliding_windows=(None,) * layers,
        dtype=fields.dtype(),
    )


def _tensors(spec: ModelSpec) -> tuple[WeightTensor, ...]:
    hidden, inner = spec.hidden_size, spec.intermediate_size
    return (
        attention_weight("c_attn", "attn.c_attn", spec.q_size + 2 * spec.kv_size, hidden, bias=spec.qkv_bias),
        attention_weight("attn_proj", "attn.c_proj", hidden, spec.q_size, bias=spec.attn_out_bias),
        mlp_weight("c_fc", "mlp.c_fc", inner, hidden, bias=spec.mlp_bias),
        mlp_weight("mlp_proj", "mlp.c_proj", hidden, inner, bias=spec.mlp_bias),
    )


def _positions(b: Builder) -> None:
    add_positions(b, kernels=2)


def _prologue(b: Builder) -> Start:
    words = b.embed("transformer.wte", b.work.tokens, b.model.hidden_size)
    positions = b.embed("transformer.wpe", b.work.q_len, b.model.hidden_size, [POSITIONS])
    carried = tuple(op.name for op in b.ops)
    return Start(b.pointwise("transformer.add_positions", "add", [words, positions], b.model.hidden_size), carried)


def _layer(b: Builder, window: int | None) -> None:
    hidden = b.model.hidden_size
    c_attn, attn_proj, c_fc, mlp_proj = b.model.tensors
    normed = b.norm("ln_1", INPUT)
    packed = b.site(c_attn, normed)
    attended = add_attention(b, "attn", packed, [packed], window)
    projected = b.site(attn_proj, attended.output, holds=[packed])
    residual = b.pointwise("add_attention", "add", [projected, INPUT], hidden, holds=[normed])
    normed = b.norm("ln_2", residual, holds=[projected])
    inner = b.activation("mlp.act", b.site(c_fc, normed), b.model.intermediate_size)
    output = b.site(mlp_proj, inner)
    b.pointwise("add_mlp", "add", [residual, output], hidden, holds=[INPUT, normed, projected, *attended.weights])


def _epilogue(b: Builder) -> None:
    add_head(b, b.norm("transformer.ln_f", INPUT))


GPT2 = FamilyRow(
    name="gpt2",
    classes={"gpt2": "GPT2", "gpt-sw3": "GPT2"},
    heads={
        "LMHeadModel": causal_lm,
        **{ending: head for ending, head in DECODER_HEADS.items() if ending != "ForCausalLM"},
        "ForTokenClassification": classifier("token_classification", "classifier"),
    },
    read=_read,
    tensors=_tensors,
    aliases={
        "hidden_size": "n_embd",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "max_position_embeddings": "n_positions",
    },
    layer_path="transformer.h",
    norm="layer_norm",
    verified=True,
    strided_heads=True,
    positions=_positions,
    prologue=_prologue,
    layer=_layer,
    epilogue=_epilogue,
)
