"""Nomic Embed 2: BERT's layers with rotary positions, a mixture of experts in place of every second MLP.

The repository's own code, which transformers lacks; the shapes have the 475,292,928 parameters that were published.
"""

from __future__ import annotations

from typing import Any

from costmodel.families.decoder_fields import by_kind
from costmodel.families.decoder_layer import extra_params
from costmodel.families.encoders import encoder_spec
from costmodel.families.experts import read_experts
from costmodel.families.fields import Fields
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_WORDS = Words(
    placing="after",
    norms=("norm1", "norm2"),
    attention="attn",
    qkv=("Wqkv",),
    out="out_proj",
    ups=("fc1",),
    down="fc2",
    embedding="embeddings.word_embeddings",
    embedding_norm="emb_ln",
    tables="attn.rotary_emb",
)


def read_nomic_moe(fields: Fields, row: FamilyRow) -> ModelSpec:
    """The model of a configuration with `num_experts`."""
    fields.choice("activation_function", "gelu", ("gelu", "gelu_new", "gelu_fast"))
    for name, why in (
        ("num_shared_experts", "shared experts are not supported"),
        ("prenorm", "norms before blocks are not supported"),
        ("parallel_block", "attention beside the MLP is not supported"),
        ("expert_choice_router", "experts that choose their tokens are not supported"),
        ("add_pooling_layer", "a pooler is not supported"),
    ):
        fields.refuse(name, why)
    if fields.count("ffn_div", 1) != 1:
        raise fields.error("ffn_div", "1")
    every, layers = fields.count("moe_every_n_layers", minimum=2), fields.layers("num_hidden_layers")
    inner = fields.count("intermediate_size")
    experts = read_experts(fields, "num_experts", "moe_top_k", "intermediate_size", gated=False)
    bias = {"bias": fields.flag_or("qkv_proj_bias", True), "mlp_bias": fields.flag_or("mlp_fc1_bias", True)}
    if fields.flag_or("mlp_fc2_bias", True) != bias["mlp_bias"]:
        raise fields.error("mlp_fc2_bias", f"that of mlp_fc1_bias, {bias['mlp_bias']}")
    kinds = ["sparse" if layer % every == 1 else "dense" for layer in range(layers)]
    values: dict[str, Any] = by_kind(kinds, {"dense": {"experts": None}})
    return encoder_spec(
        fields,
        row,
        _WORDS,
        intermediate_size=inner,
        activation="gelu",
        token_types=fields.count("type_vocab_size", 0, minimum=0),
        max_positions=fields.count("max_position_embeddings", 2048),
        experts=experts,
        attn_out_bias=bias["bias"],
        **bias,
        **values,
    )


def nomic_params(spec: ModelSpec) -> int:
    """Beside norms and router the one bias that all experts of a layer add their result to."""
    return extra_params(spec) + (spec.hidden_size if spec.experts else 0)
