"""Mamba and Mamba-2, alone and beside attention: Falcon-Mamba, Nemotron-H, Bamba, Falcon-H1."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from costmodel.blocks import Experts, StateSpace
from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec
from costmodel.families.experts import read_experts
from costmodel.families.fields import Fields
from costmodel.families.lists import layer_numbers, letters, names
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_NAMES: Mapping[str, str] = {
    "heads": "mamba_n_heads",
    "groups": "mamba_n_groups",
    "state_dim": "mamba_d_state",
    "kernel": "mamba_d_conv",
    "chunk": "mamba_chunk_size",
    "conv_bias": "mamba_conv_bias",
    "bias": "mamba_proj_bias",
}
"""Field of StateSpace -> its name in the configurations of Bamba, Falcon-H1 and Granite."""
_ALONE = Words(norms=("norm",), ups=(), rotary=False, embedding="backbone.embeddings", final_norm="backbone.norm_f")


def _state_space(fields: Fields, names: Mapping[str, str], **values: Any) -> StateSpace:
    """Mamba-2's sizes by the names of a type's fields."""
    counts = {name: fields.count(names[name]) for name in ("heads", "groups", "state_dim", "kernel", "chunk")}
    bias = fields.flag_or(names["bias"], False)
    own = {"conv_bias": fields.flag_or(names["conv_bias"], True), "bias": bias, "out_bias": bias, **counts, **values}
    return StateSpace(**own)


def _inner(fields: Fields, heads: int, width: int, name: str) -> int:
    """Width of a head, where all heads together are `width` wide."""
    if width % heads:
        raise fields.error(name, f"a divisor of the inner width {width}")
    return width // heads


def _alone(fields: Fields, row: FamilyRow, block: StateSpace) -> ModelSpec:
    """A model whose layers are state spaces alone, whatever its length."""
    return decoder_spec(
        fields,
        row,
        _ALONE,
        recurrent=block,
        attends=False,
        num_heads=block.heads,
        num_kv_heads=block.heads,
        head_dim=block.head_dim,
        intermediate_size=block.values,
        max_positions=fields.count("max_position_embeddings", 1 << 20),
        layer_norms=1,
    )


def _read_mamba(fields: Fields, row: FamilyRow) -> ModelSpec:
    hidden = fields.count("hidden_size")
    inner = fields.count("intermediate_size", fields.count("expand") * hidden)
    block = StateSpace(
        heads=inner,
        head_dim=1,
        state_dim=fields.count("state_size"),
        kernel=fields.count("conv_kernel"),
        rank=fields.count_or_auto("time_step_rank", -(-hidden // 16)),
        conv_bias=fields.flag_or("use_conv_bias", True),
        bias=fields.flag_or("use_bias", False),
        out_bias=fields.flag_or("use_bias", False),
        normed=fields.model_type == "falcon_mamba",
    )
    return _alone(fields, row, block)


def _read_mamba2(fields: Fields, row: FamilyRow) -> ModelSpec:
    names = {"heads": "num_heads", "groups": "n_groups", "state_dim": "state_size", "kernel": "conv_kernel"}
    names |= {"chunk": "chunk_size", "conv_bias": "use_conv_bias", "bias": "use_bias"}
    return _alone(fields, row, _state_space(fields, names, head_dim=fields.count("head_dim")))


MAMBA = decoder_row(
    "mamba",
    {"mamba": "Mamba", "falcon_mamba": "FalconMamba"},
    _read_mamba,
    norm="rms_norm",
    layers="backbone.layers",
)
MAMBA2 = decoder_row("mamba2", {"mamba2": "Mamba2"}, _read_mamba2, norm="rms_norm", layers="backbone.layers")

# Nemotron-H: every layer is one of four blocks

_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_BLOCKS = {"linear_attention": "mamba", "full_attention": "attention"}


def _nemotron_kinds(fields: Fields) -> list[str]:
    """The block of each layer: by a list of names, or by a letter each."""
    name = "layers_block_type" if fields.given("layers_block_type") else "layer_types"
    kinds, layers = letters(fields, "hybrid_override_pattern", _LETTERS), fields.num_layers or 1
    listed = names(fields, name, (*_LETTERS.values(), *_BLOCKS))
    kinds = kinds if listed is None else [_BLOCKS.get(kind, kind) for kind in listed]
    if kinds is None:
        raise fields.error("layers_block_type", "a list of mamba, attention, mlp and moe")
    if len(kinds) < layers:
        raise fields.error(name if listed else "hybrid_override_pattern", f"one for each of {layers} layers")
    return kinds if fields.num_layers is None else kinds[:layers]


def _read_nemotron(fields: Fields, row: FamilyRow) -> ModelSpec:
    names = {"heads": "mamba_num_heads", "groups": "n_groups", "state_dim": "ssm_state_size", "kernel": "conv_kernel"}
    names |= {"chunk": "chunk_size", "conv_bias": "use_conv_bias", "bias": "use_bias"}
    block = _state_space(fields, names, head_dim=fields.count("mamba_head_dim"))
    words = Words(norms=("norm",), attention="mixer", mlp="mixer", ups=("up_proj",), rotary=False)
    fields.refuse("tie_word_embeddings", "its LM head is a matrix of its own")
    kinds = _nemotron_kinds(fields)
    experts = _nemotron_experts(fields) if "moe" in kinds else None
    no_mlp = {"words": Words(norms=("norm",), attention="mixer", mlp="mixer", ups=(), rotary=False), "experts": None}
    own: dict[str, dict[str, object]] = {
        "mamba": {**no_mlp, "attends": False},
        "attention": {**no_mlp, "recurrent": None},
        "mlp": {"attends": False, "recurrent": None, "experts": None},
        "moe": {"attends": False, "recurrent": None},
    }
    return decoder_spec(
        fields,
        row,
        words,
        num_layers=len(kinds),
        head_dim=fields.count("attention_head_dim" if fields.given("attention_head_dim") else "head_dim"),
        activation=fields.activation("mlp_hidden_act", "relu2"),
        bias=False,
        recurrent=block,
        experts=experts,
        layer_norms=1,
        **by_kind(kinds, own),
    )


def _nemotron_experts(fields: Fields) -> Experts:
    return read_experts(
        fields,
        "n_routed_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        shared_intermediate_size=fields.count("moe_shared_expert_intermediate_size"),
        gated=False,
        width=fields.count_or_none("moe_latent_size") or 0,
    )


NEMOTRON_H = decoder_row("nemotron-h", {"nemotron_h": "NemotronH"}, _read_nemotron, norm="rms_norm")

# Bamba, Falcon-H1: Mamba-2 in place of attention, or beside it

_FEED_FORWARD = Words(
    norms=("input_layernorm", "pre_ff_layernorm"), mixer="mamba", mlp="feed_forward", final_norm="model.final_layernorm"
)
MIXED: dict[str, dict[str, object]] = {"attention": {"recurrent": None}, "mamba": {"attends": False}}
"""Kind of a layer -> what it has otherwise than the model."""


def mamba2(fields: Fields, width: int, **values: Any) -> StateSpace:
    """Mamba-2 as Bamba, Falcon-H1 and Granite name its fields; `width` of all heads together."""
    heads = fields.count("mamba_n_heads")
    return _state_space(fields, _NAMES, head_dim=_inner(fields, heads, width, "mamba_n_heads"), **values)


def _read_bamba(fields: Fields, row: FamilyRow) -> ModelSpec:
    block = mamba2(fields, fields.count("mamba_expand") * fields.count("hidden_size"))
    attending = layer_numbers(fields, "attn_layer_indices") or []
    layers = fields.layers("num_hidden_layers")
    kinds = ["attention" if layer in attending else "mamba" for layer in range(layers)]
    return decoder_spec(fields, row, _FEED_FORWARD, recurrent=block, **by_kind(kinds, MIXED))


def _read_falcon_h1(fields: Fields, row: FamilyRow) -> ModelSpec:
    width = fields.count_or_none("mamba_d_ssm") or fields.count("mamba_expand") * fields.count("hidden_size")
    block = mamba2(
        fields,
        width,
        out_bias=fields.flag_or("projectors_bias", False),
        normed=fields.flag_or("mamba_rms_norm", False),
    )
    return decoder_spec(fields, row, _FEED_FORWARD, recurrent=block)


BAMBA = decoder_row("bamba", {"bamba": "Bamba"}, _read_bamba, norm="rms_norm")
FALCON_H1 = decoder_row("falcon-h1", {"falcon_h1": "FalconH1"}, _read_falcon_h1, norm="rms_norm")
