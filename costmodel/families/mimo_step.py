"""MiMo-V2 and Step 3.5: layers with a window whose heads are others than those of the layers without one, and experts.

MiMo-V2's values are narrower than its keys, and heads of layers with a window have sinks. Step's result of attention is
weighed by a number for each head. What predicts several tokens ahead is no part of the language model and left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec, layer_overrides
from costmodel.families.experts import read_experts, read_sparse_layers
from costmodel.families.fields import Fields
from costmodel.families.lists import marks_by_layer
from costmodel.families.rotary import read_layer_types
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words

_DIGITS = 9
"""Of the number of a layer; Python refuses to read one of thousands of digits."""
_EXPERTS = ("n_routed_experts", "num_experts_per_tok", "moe_intermediate_size")
"""Fields of the number of experts, those of a token, and an expert's width."""


def _kinds(
    local: Sequence[bool], sparse: Sequence[bool], own: Mapping[str, object], window: int | None
) -> dict[str, Any]:
    """Kinds of layers, of which those with a window have fields of their own, and the windows."""
    kinds = [
        f"{'local' if near else 'global'}, {'sparse' if each else 'dense'}"
        for near, each in zip(local, sparse, strict=True)
    ]
    fields = {
        kind: {**(own if kind.startswith("local") else {}), **({} if kind.endswith("sparse") else {"experts": None})}
        for kind in kinds
    }
    return {**by_kind(kinds, fields), "sliding_windows": tuple(window if near else None for near in local)}


def _read_mimo(fields: Fields, row: FamilyRow) -> ModelSpec:
    layers, heads = fields.layers("num_hidden_layers"), fields.count("num_attention_heads")
    width, value = fields.count("head_dim"), fields.count("v_head_dim")
    if (width + value) % 2:
        raise fields.error("v_head_dim", f"even or odd as head_dim {width} is")
    for name, same in (("swa_head_dim", width), ("swa_v_head_dim", value), ("swa_num_attention_heads", heads)):
        if fields.count(name, same) != same:
            raise fields.error(name, f"{same}, as in layers without a window")
    fields.refuse("n_shared_experts", "shared experts are not supported")
    fields.refuse("add_full_attention_sink_bias", "sinks in layers without a window are not supported")
    types = read_layer_types(fields, layers)
    local = [kind == "sliding_attention" for kind in types or []]
    local = local or marks_by_layer(fields, "hybrid_layer_pattern", layers) or []
    local = local or [layer > 0 and (layer + 1) % 6 != 0 for layer in range(layers)]
    sparse = marks_by_layer(fields, "moe_layer_freq", layers) or read_sparse_layers(fields, layers, 1)
    seen = fields.count_or_none("sliding_window_size")
    window = fields.count_or_none("sliding_window") if seen is None else seen + 1
    kv_heads = fields.count("num_key_value_heads")
    own: dict[str, object] = {
        "num_kv_heads": fields.count("swa_num_key_value_heads", 2 * kv_heads),
        "words": Words(sinks=fields.flag_or("add_swa_attention_sink_bias", True), out_bias=False),
    }
    if heads % (fields.count("swa_num_key_value_heads", 2 * kv_heads)):
        raise fields.error("num_key_value_heads", f"half a divisor of num_attention_heads {heads}")
    return decoder_spec(
        fields,
        row,
        Words(out_bias=False),
        value_dim=value,
        experts=read_experts(fields, *_EXPERTS),
        mlp_bias=False,
        **_kinds(local, sparse, own, window),
    )


MIMO_V2 = decoder_row("mimo-v2", {"mimo_v2_flash": "MiMoV2Flash"}, _read_mimo, norm="rms_norm")


def _read_step(fields: Fields, row: FamilyRow) -> ModelSpec:
    layers, heads = fields.layers("num_hidden_layers"), fields.count("num_attention_heads")
    other = fields.nested("attention_other_setting")
    near = fields.count_or_none("num_sliding_attention_heads") or other.count("num_attention_heads", heads)
    if near % fields.count("num_key_value_heads"):
        raise fields.error("num_key_value_heads", f"a divisor of the {near} heads of layers with a window")
    types = read_layer_types(fields, layers) or ["full_attention"] * layers
    listed = layer_overrides(fields, layers, ("num_attention_heads",))
    own = [near if kind == "sliding_attention" else heads for kind in types]
    if listed is not None and [each.get("num_attention_heads", heads) for each in listed] != own:
        raise fields.error("per_layer_config", f"{near} heads in layers with a window, {heads} in others")
    words = Words(qk_norm="head", gate="g_proj", gate_by_head=fields.flag_or("use_head_wise_attn_gate", True))
    return decoder_spec(
        fields,
        row,
        words,
        experts=read_experts(fields, *_EXPERTS, shared_intermediate_size=fields.count("share_expert_dim")),
        tie_embeddings=fields.flag_or("tie_word_embeddings", False),
        **_kinds(
            [kind == "sliding_attention" for kind in types],
            _step_experts(fields, layers),
            {"num_heads": near},
            fields.count_or_none("sliding_window"),
        ),
    )


def _step_experts(fields: Fields, layers: int) -> list[bool]:
    """Which layers have experts: by type, by numbers between commas, else all but the first three."""
    if fields.given("mlp_layer_types") or not fields.given("moe_layers_enum"):
        return read_sparse_layers(fields, layers, fields.count("first_k_dense_replace", 3, minimum=0))
    numbers = fields.data["moe_layers_enum"]
    items = numbers.split(",") if isinstance(numbers, str) else numbers
    texts = [str(each).strip() for each in items] if isinstance(items, list) else [""]
    if not all(text.isdecimal() and len(text) <= _DIGITS for text in texts):
        raise fields.error("moe_layers_enum", "numbers of layers between commas")
    chosen = {int(text) for text in texts}
    return [layer in chosen for layer in range(layers)]


STEP = decoder_row("step", {"step3p5": "Step3p5"}, _read_step, norm="rms_norm")
