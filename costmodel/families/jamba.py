"""Jamba: Mamba and attention in turn, every other MLP a mixture of experts."""

from __future__ import annotations

from costmodel.blocks import StateSpace
from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec
from costmodel.families.decoder_layer import extra_params
from costmodel.families.experts import read_experts
from costmodel.families.fields import Fields
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words


def _read(fields: Fields, row: FamilyRow) -> ModelSpec:
    hidden, layers = fields.count("hidden_size"), fields.layers("num_hidden_layers")
    bias = fields.flag_or("mamba_proj_bias", False)
    block = StateSpace(
        heads=fields.count("mamba_expand") * hidden,
        head_dim=1,
        state_dim=fields.count("mamba_d_state"),
        kernel=fields.count("mamba_d_conv"),
        rank=fields.count_or_auto("mamba_dt_rank", -(-hidden // 16)),
        conv_bias=fields.flag_or("mamba_conv_bias", True),
        bias=bias,
        out_bias=bias,
    )
    number = fields.count("num_experts")
    experts = read_experts(fields, "num_experts", "num_experts_per_tok", "intermediate_size") if number > 1 else None

    def turn(which: str) -> list[bool]:
        period, offset = fields.count(f"{which}_layer_period"), fields.count(f"{which}_layer_offset", minimum=0)
        if offset >= period:
            raise fields.error(f"{which}_layer_offset", f"below {which}_layer_period {period}")
        return [layer % period == offset for layer in range(layers)]

    pairs = zip(turn("attn"), turn("expert"), strict=True)
    kinds = [
        ("attention" if attends else "mamba") + (", sparse" if sparse and number > 1 else "")
        for attends, sparse in pairs
    ]
    own = {
        kind: {
            **({"recurrent": None} if kind.startswith("attention") else {"attends": False}),
            **({} if kind.endswith("sparse") else {"experts": None}),
        }
        for kind in kinds
    }
    words = Words(
        norms=("input_layernorm", "pre_ff_layernorm"),
        mixer="mamba",
        mlp="feed_forward",
        rotary=False,
        final_norm="model.final_layernorm",
    )
    return decoder_spec(fields, row, words, recurrent=block, experts=experts, **by_kind(kinds, own))


def _other_params(spec: ModelSpec) -> int:
    block = spec.recurrent
    narrow = block.rank + 2 * block.state_dim if isinstance(block, StateSpace) else 0
    return extra_params(spec) + narrow


JAMBA = decoder_row("jamba", {"jamba": "Jamba"}, _read, norm="rms_norm", other_params=_other_params)
