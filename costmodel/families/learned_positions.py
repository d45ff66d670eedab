"""GPT-Neo, GPT-BigCode (SantaCoder, StarCoder), XGLM and BioGPT: LayerNorm, and a table of positions that is added."""

from __future__ import annotations

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import decoder_spec
from costmodel.families.fields import Fields
from costmodel.families.layer_norm_kin import GPTJ_ALIASES, OLD_HEADS
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_NAMES = (("attn.c_proj", "attn_proj"), ("mlp.c_proj", "mlp_proj"))


def _read_neo(fields: Fields, row: FamilyRow) -> ModelSpec:
    words = Words(
        norms=("ln_1", "ln_2"),
        attention="attn.attention",
        out="out_proj",
        ups=("c_fc",),
        down="c_proj",
        names=_NAMES,
        rotary=False,
        out_bias=True,
        embedding="transformer.wte",
        position_table="transformer.wpe",
        final_norm="transformer.ln_f",
    )
    hidden = fields.count("hidden_size")
    return decoder_spec(
        fields,
        row,
        words,
        intermediate_size=fields.count_or_none("intermediate_size") or 4 * hidden,
        bias=False,
        mlp_bias=True,
        position_rows=fields.count("max_position_embeddings"),
    )


def _read_bigcode(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.refuse("add_cross_attention", "only the decoder is supported, without cross-attention")
    words = Words(
        norms=("ln_1", "ln_2"),
        attention="attn",
        qkv=("c_attn",),
        out="c_proj",
        ups=("c_fc",),
        down="c_proj",
        names=_NAMES,
        rotary=False,
        embedding="transformer.wte",
        position_table="transformer.wpe",
        final_norm="transformer.ln_f",
    )
    hidden, heads = fields.count("n_embd"), fields.count("n_head")
    return decoder_spec(
        fields,
        row,
        words,
        num_kv_heads=1 if fields.flag_or("multi_query", True) else heads,
        intermediate_size=fields.count_or_none("n_inner") or 4 * hidden,
        bias=True,
        mlp_bias=True,
        position_rows=fields.count("n_positions"),
    )


def _read_xglm(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.refuse("add_cross_attention", "only the decoder is supported, without cross-attention")
    learned = fields.model_type == "biogpt"
    body = "biogpt" if learned else "model"
    words = Words(
        norms=("self_attn_layer_norm", "final_layer_norm"),
        out="out_proj",
        mlp="",
        ups=("fc1",),
        down="fc2",
        rotary=False,
        embedding_scale=fields.flag_or("scale_embedding", True),
        embedding=f"{body}.embed_tokens",
        position_table=f"{body}.embed_positions",
        final_norm=f"{body}.layer_norm",
    )
    rows = fields.count("max_position_embeddings") + 2 if learned else 0
    return decoder_spec(fields, row, words, bias=True, mlp_bias=True, position_rows=rows)


GPT_NEO = decoder_row(
    "gpt-neo",
    {"gpt_neo": "GPTNeo"},
    _read_neo,
    norm="layer_norm",
    layers="transformer.h",
    heads=OLD_HEADS,
    aliases={
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "num_heads",
        "hidden_act": "activation_function",
    },
)
GPT_BIGCODE = decoder_row(
    "gpt-bigcode",
    {"gpt_bigcode": "GPTBigCode"},
    _read_bigcode,
    norm="layer_norm",
    layers="transformer.h",
    heads=OLD_HEADS,
    aliases=GPTJ_ALIASES,
    strided_heads=True,
)
XGLM = decoder_row(
    "xglm",
    {"xglm": "XGLM"},
    _read_xglm,
    norm="layer_norm",
    aliases={
        "hidden_size": "d_model",
        "num_hidden_layers": "num_layers",
        "num_attention_heads": "attention_heads",
        "intermediate_size": "ffn_dim",
        "hidden_act": "activation_function",
    },
)
BIOGPT = decoder_row(
    "biogpt", {"biogpt": "BioGpt"}, _read_xglm, norm="layer_norm", layers="biogpt.layers", heads=OLD_HEADS
)
