"""Models whose classes come with their repositories: InternLM, Baichuan, ChatGLM, Qwen 1, EXAONE 3, MiniCPM, others.

transformers has no class of theirs to hold these rows against; their published parameter counts are.
"""

from __future__ import annotations

from typing import Any

from costmodel.blocks import Experts
from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import decoder_spec
from costmodel.families.fields import Fields
from costmodel.families.heads import DECODER_HEADS, causal_lm, classifier
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_SIZES = ("hidden_size", "num_attention_heads", "vocab_size")

# Llama by another name


def _own_llama(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require(*_SIZES, "num_hidden_layers", "intermediate_size")
    kind, experts = fields.model_type, None
    if number := fields.count_or_none("num_experts", minimum=0):
        per_token = fields.count("num_experts_per_tok", 2)
        if kind == "xverse":
            fields.refuse("num_experts", "XVERSE's mixture of experts is not supported")
        if kind != "minicpm" or per_token > number:
            raise fields.error("num_experts", f"absent but in MiniCPM, and at least num_experts_per_tok {per_token}")
        experts = Experts(number=number, per_token=per_token, intermediate_size=fields.count("intermediate_size"))
    scaled = kind == "minicpm"
    words = Words(embedding_scale=scaled, residual_scale=scaled, logit_kernels=1 if scaled else 0)
    bias = fields.flag_or("bias", True) if kind == "internlm" else fields.flag_or("qkv_bias", False)
    bias = fields.flag_or("attention_bias", True) if kind == "mimo" else bias
    if kind == "internlm3" and fields.flag_or("bias", False):
        raise fields.error("bias", "false: InternLM 3 was published without")
    return decoder_spec(
        fields,
        row,
        words,
        max_positions=fields.count("max_position_embeddings", 2048),
        activation=fields.activation("hidden_act", "silu"),
        bias=bias,
        attn_out_bias=bias and kind == "internlm",
        mlp_bias=False,
        experts=experts,
        tie_embeddings=fields.flag_or("tie_word_embeddings", scaled),
        notes=("the layers that predict several tokens ahead are not priced",) if kind == "mimo" else (),
    )


OWN_LLAMA = decoder_row(
    "own-llama",
    {
        "aquila": "Aquila",
        "internlm": "InternLM",
        "internlm3": "InternLM3",
        "mimo": "MiMo",
        "minicpm": "MiniCPM",
        "skywork": "Skywork",
        "xverse": "Xverse",
        "Yi": "Yi",
    },
    _own_llama,
    norm="rms_norm",
)

# Packed projections


def _internlm2(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require(*_SIZES, "num_hidden_layers", "intermediate_size")
    words = Words(
        norms=("attention_norm", "ffn_norm"),
        attention="attention",
        qkv=("wqkv",),
        out="wo",
        mlp="feed_forward",
        ups=("w1", "w3"),
        down="w2",
        embedding="model.tok_embeddings",
    )
    return decoder_spec(fields, row, words, bias=fields.flag_or("bias", True), mlp_bias=False, **_untied(fields))


def _baichuan(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require(*_SIZES, "num_hidden_layers", "intermediate_size")
    words = Words(qkv=("W_pack",), rotary=fields.count("hidden_size") < 5120)
    positions = fields.count("max_position_embeddings", fields.count("model_max_length", 4096))
    return decoder_spec(fields, row, words, max_positions=positions, bias=False, mlp_bias=False, **_untied(fields))


def _untied(fields: Fields) -> dict[str, Any]:
    return {"tie_embeddings": fields.flag_or("tie_word_embeddings", False)}


INTERNLM2 = decoder_row(
    "internlm2",
    {"internlm2": "InternLM2"},
    _internlm2,
    norm="rms_norm",
    heads={**DECODER_HEADS, "ForRewardModel": classifier("sequence_classification", "v_head", bias=False, outputs=1)},
    strided_heads=True,
)
BAICHUAN = decoder_row("baichuan", {"baichuan": "Baichuan"}, _baichuan, norm="rms_norm", strided_heads=True)

# Molmo, the language model


def _molmo(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require(*_SIZES, "num_hidden_layers", "intermediate_size")
    fields.choice("layer_norm_type", "rms", ("rms",))
    fields.refuse("norm_after", "norms behind blocks are not supported")
    fields.refuse("attention_layer_norm", "norms of q and k are not supported")
    words = Words(
        norms=("attn_norm", "ff_norm"),
        attention="self_attn",
        qkv=("att_proj",),
        out="attn_out",
        mlp="",
        ups=("ff_proj",),
        packed_gate=True,
        down="ff_out",
        out_bias=False,
        embedding="model.transformer.wte",
        tables="model.transformer.rotary_emb",
        final_norm="model.transformer.ln_f",
    )
    hidden = fields.count("hidden_size")
    return decoder_spec(
        fields.with_values(vocab_size=fields.count("embedding_size", fields.count("vocab_size"))),
        row,
        words,
        intermediate_size=fields.count("intermediate_size") // 2,
        bias=fields.flag_or("qkv_bias", False),
        mlp_bias=False,
        other_outer_params=_MOLMO_WORDS * hidden,
        notes=("molmo: its vision tower is not priced, its language model alone is",),
        tie_embeddings=fields.flag_or("weight_tying", False),
    )


_MOLMO_WORDS = 128
"""Rows of the token embedding that the LM head has not: for images."""
MOLMO = decoder_row(
    "molmo", {"molmo": "Molmo"}, _molmo, norm="rms_norm", layers="model.transformer.blocks", strided_heads=True
)

# ChatGLM 2 and 3, GLM-4


def _chatglm(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.refuse("inner_hidden_size", "the first ChatGLM, whose positions have two dimensions, is not supported")
    fields.require("hidden_size", "num_attention_heads", "padded_vocab_size", "num_layers", "ffn_hidden_size")
    if not fields.flag_or("rmsnorm", True) or fields.flag_or("apply_residual_connection_post_layernorm", False):
        raise fields.error("rmsnorm", "true, without apply_residual_connection_post_layernorm")
    words = Words(
        norms=("input_layernorm", "post_attention_layernorm"),
        attention="self_attention",
        qkv=("query_key_value",),
        out="dense",
        ups=("dense_h_to_4h",),
        packed_gate=True,
        down="dense_4h_to_h",
        rotary_share=0.5,
        out_bias=fields.flag_or("add_bias_linear", False),
        embedding="transformer.embedding.word_embeddings",
        tables="transformer.rotary_pos_emb",
        final_norm="transformer.encoder.final_layernorm",
        lm_head="transformer.output_layer",
    )
    grouped = fields.flag_or("multi_query_attention", False)
    return decoder_spec(
        fields,
        row,
        words,
        head_dim=fields.count("kv_channels", 128),
        num_kv_heads=fields.count("multi_query_group_num") if grouped else fields.count("num_attention_heads"),
        max_positions=fields.count("seq_length", 2048),
        activation="silu",
        bias=fields.flag_or("add_qkv_bias", False) or fields.flag_or("add_bias_linear", False),
        mlp_bias=fields.flag_or("add_bias_linear", False),
        **_untied(fields),
    )


CHATGLM = decoder_row(
    "chatglm",
    {"chatglm": "ChatGLM"},
    _chatglm,
    norm="rms_norm",
    layers="transformer.encoder.layers",
    heads={"ForConditionalGeneration": causal_lm, "Model": causal_lm, "ForCausalLM": causal_lm},
    aliases={
        "num_hidden_layers": "num_layers",
        "intermediate_size": "ffn_hidden_size",
        "vocab_size": "padded_vocab_size",
    },
    strided_heads=True,
)

# Qwen 1 and EXAONE 3


def _qwen(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require(*_SIZES, "num_hidden_layers", "intermediate_size")
    words = Words(
        norms=("ln_1", "ln_2"),
        attention="attn",
        qkv=("c_attn",),
        out="c_proj",
        ups=("w1", "w2"),
        down="c_proj",
        names=(("attn.c_proj", "attn_proj"), ("mlp.c_proj", "mlp_proj")),
        out_bias=False,
        embedding="transformer.wte",
        tables="transformer.rotary_emb",
        final_norm="transformer.ln_f",
    )
    return decoder_spec(
        fields,
        row,
        words,
        intermediate_size=fields.count("intermediate_size") // 2,
        head_dim=fields.count("kv_channels", 128),
        max_positions=fields.count("max_position_embeddings", fields.count("seq_length", 8192)),
        activation="silu",
        bias=True,
        mlp_bias=False,
        **_untied(fields),
    )


def _exaone(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require(*_SIZES, "num_layers", "intermediate_size")
    words = Words(
        norms=("ln_1", "ln_2"),
        attention="attn.attention",
        out="out_proj",
        ups=("c_fc_0", "c_fc_1"),
        down="c_proj",
        embedding="transformer.wte",
        tables="transformer.rotary",
        final_norm="transformer.ln_f",
    )
    positions = fields.count("max_position_embeddings", 2048)
    return decoder_spec(fields, row, words, max_positions=positions, bias=False, mlp_bias=False, **_untied(fields))


QWEN = decoder_row(
    "qwen",
    {"qwen": "QWen"},
    _qwen,
    norm="rms_norm",
    layers="transformer.h",
    heads={"LMHeadModel": causal_lm, **DECODER_HEADS},
    strided_heads=True,
)
EXAONE = decoder_row(
    "exaone",
    {"exaone": "Exaone"},
    _exaone,
    norm="rms_norm",
    layers="transformer.h",
    aliases={"num_hidden_layers": "num_layers", "hidden_act": "activation_function"},
)
