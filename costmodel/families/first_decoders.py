"""GPT, the first of its line, and CTRL: LayerNorm behind each sum or before each block, and no rotary positions."""

from __future__ import annotations

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import decoder_spec
from costmodel.families.fields import Fields
from costmodel.families.heads import causal_lm, classifier, no_head
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_ALIASES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}
_ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu", "silu": "silu", "swish": "silu"}
"""What GPT calls an activation -> its name in later models."""


def _read_gpt(fields: Fields, row: FamilyRow) -> ModelSpec:
    words = Words(
        placing="after",
        norms=("ln_1", "ln_2"),
        attention="attn",
        qkv=("c_attn",),
        out="c_proj",
        ups=("c_fc",),
        down="c_proj",
        names=(("attn.c_proj", "attn_proj"), ("mlp.c_proj", "mlp_proj")),
        rotary=False,
        embedding="transformer.tokens_embed",
        position_table="transformer.positions_embed",
    )
    return decoder_spec(
        fields,
        row,
        words,
        intermediate_size=4 * fields.count("n_embd"),
        activation=_ACTIVATIONS[fields.choice("afn", "gelu", tuple(_ACTIVATIONS))],
        bias=True,
        mlp_bias=True,
        position_rows=fields.count("n_positions"),
        final_norm=False,
        notes=("transformers keeps no cache of it: its decode steps are priced with one",),
    )


OPENAI_GPT = decoder_row(
    "openai-gpt",
    {"openai-gpt": "OpenAIGPT"},
    _read_gpt,
    norm="layer_norm",
    layers="transformer.h",
    heads={
        "LMHeadModel": causal_lm,
        "Model": no_head,
        "ForSequenceClassification": classifier("sequence_classification", "score", bias=False),
    },
    aliases=_ALIASES,
    strided_heads=True,
)


def _read_ctrl(fields: Fields, row: FamilyRow) -> ModelSpec:
    words = Words(
        norms=("layernorm1", "layernorm2"),
        attention="multi_head_attention",
        qkv=("Wq", "Wk", "Wv"),
        out="dense",
        mlp="ffn",
        ups=("0",),
        down="2",
        names=(("Wq", "q_proj"), ("Wk", "k_proj"), ("Wv", "v_proj"), ("dense", "o_proj"), ("0", "fc1"), ("2", "fc2")),
        rotary=False,
        embedding_scale=True,
        embedding="transformer.w",
        final_norm="transformer.layernorm",
    )
    return decoder_spec(fields, row, words, activation="relu", bias=True, mlp_bias=True, lm_head_bias=True)


CTRL = decoder_row(
    "ctrl",
    {"ctrl": "CTRL"},
    _read_ctrl,
    norm="layer_norm",
    layers="transformer.h",
    heads={
        "LMHeadModel": causal_lm,
        "Model": no_head,
        "ForSequenceClassification": classifier("sequence_classification", "classifier", bias=False),
    },
    aliases={**_ALIASES, "intermediate_size": "dff"},
)
