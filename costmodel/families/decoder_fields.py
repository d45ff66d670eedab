"""A config.json of ordinary fields -> its ModelSpec, given its words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from costmodel.families.fields import Fields
from costmodel.families.lists import names_by_layer
from costmodel.families.rope import longest_sequence
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Clip, Words

_KINDS = {"full_attention": False, "sliding_attention": True, "chunked_attention": True}
"""Value of `layer_types` -> whether the layer sees a window only."""
_MAX_CLIP = 1e9


def decoder_spec(fields: Fields, row: FamilyRow, words: Words, **values: Any) -> ModelSpec:
    """The model of a configuration.

    Args:
        fields: with defaults, by their native names (`row.aliases`).
        row: of the family.
        words: how its layers are put together.
        values: fields of ModelSpec in place of what is read here for them.

    Raises:
        ModelError: for a field that is missing, of the wrong type, out of bounds or at odds with another.
    """

    def native(name: str) -> str:
        return row.aliases.get(name, name)

    hidden_name, heads_name = native("hidden_size"), native("num_attention_heads")
    hidden, heads = fields.count(hidden_name), values.pop("num_heads", None) or fields.count(heads_name)
    layers = values.pop("num_layers", None) or fields.layers(native("num_hidden_layers"))
    head_dim = values.pop("head_dim", None) or fields.count_or_none("head_dim")
    head_dim = head_dim or fields.head_dim(heads_name, hidden_name)
    kv_heads = values.pop("num_kv_heads", None) or fields.count_or_none(native("num_key_value_heads")) or heads
    if heads % kv_heads:
        raise fields.error(native("num_key_value_heads"), f"a divisor of {heads_name} {heads}", f"used: {kv_heads}")
    inner = values.pop("intermediate_size", None) or fields.count(native("intermediate_size"))
    positions = values.pop("max_positions", None)
    if positions is None:
        positions = longest_sequence(fields, fields.count(native("max_position_embeddings")))
    activation = values.pop("activation", None) or fields.activation(native("hidden_act"), "silu")
    bias = values.pop("bias", None)
    bias = fields.flag_or("attention_bias", False) if bias is None else bias
    mlp_bias = values.pop("mlp_bias", None)
    mlp_bias = fields.flag_or("mlp_bias", False) if mlp_bias is None else mlp_bias
    windows = values.pop("sliding_windows", None)
    options: dict[str, Any] = {
        "qkv_bias": bias,
        "attn_out_bias": bias,
        "gated_mlp": len(words.ups) > 1 or words.packed_gate,
        "tie_embeddings": row.causal and fields.flag_or("tie_word_embeddings", True),
        "final_norm": True,
        "layer_norms": sum(1 for path in words.norms if path),
        "embed_dim": hidden,
        **values,
    }
    return ModelSpec(
        name=fields.name,
        family=row,
        model_type=fields.model_type,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=inner,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=fields.count(native("vocab_size")),
        max_positions=positions,
        activation=activation,
        mlp_bias=mlp_bias,
        pre_norm=words.placing not in ("post", "after"),
        sliding_windows=windows if windows is not None else (None,) * layers,
        dtype=fields.dtype(),
        words=words,
        **options,
    )


def qkv_clip_of(fields: Fields, where: Clip) -> Clip:
    """Where the clamped q, k and v are written if `clip_qkv` says that they are clamped."""
    return "none" if fields.number_or_none("clip_qkv", _MAX_CLIP) is None else where


def by_kind(kinds: Sequence[str], fields: Mapping[str, Mapping[str, object]]) -> dict[str, Any]:
    """`layer_kinds` and `kind_fields` of ModelSpec; nothing where all layers are alike and as the model says.

    Args:
        kinds: the name of each layer's kind.
        fields: name of a kind -> what its layers have otherwise than the model.
    """
    own = {kind: fields.get(kind, {}) for kind in dict.fromkeys(kinds)}
    return {"layer_kinds": tuple(kinds), "kind_fields": own} if len(own) > 1 or any(own.values()) else {}


def layer_overrides(fields: Fields, layers: int, names: Sequence[str]) -> list[dict[str, int]] | None:
    """What `per_layer_config` says of each layer, as transformers writes it: number of a layer -> fields in place of
    the model's; None where the file has no such field.

    Args:
        names: of the fields, whole numbers, that may be there.
    """
    if "per_layer_config" not in fields.data:
        return None
    own: list[dict[str, int]] = [{} for _ in range(layers)]
    given = fields.nested("per_layer_config")
    if not all(layer.isdecimal() and len(layer) < 9 for layer in given.data):
        raise fields.error("per_layer_config", "numbers of layers -> fields of theirs")
    for layer in given.data:
        values = given.nested(layer)
        if not set(values.data) <= set(names):
            raise given.error(layer, f"{', '.join(names)} alone")
        if int(layer) < layers:
            own[int(layer)] = {name: values.count(name) for name in values.data}
    return own


def windows_by_type(
    fields: Fields, layers: int, window: int | None, *, every: int = 0, default: bool | None = None
) -> tuple[int | None, ...]:
    """The window of each layer by `layer_types`; where the file has none, by a period or one for all.

    Args:
        layers: how many.
        window: of the layers that have one.
        every: without layer_types, of as many consecutive layers the last one sees all; 0 for no period.
        default: without layer_types and period, whether the layers have the window.
    """
    types = names_by_layer(fields, "layer_types", layers, tuple(_KINDS))
    if types is None:
        if every:
            return tuple(window if (layer + 1) % every else None for layer in range(layers))
        return (window if default else None,) * layers
    return tuple(window if _KINDS[kind] else None for kind in types)
