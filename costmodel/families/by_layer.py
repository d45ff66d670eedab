"""Decoders whose layers differ in heads and widths by lists in the file: OpenELM and DeciLM 7B, of own code."""

from __future__ import annotations

from costmodel.families.decoder import decoder_row
from costmodel.families.decoder_fields import by_kind, decoder_spec
from costmodel.families.fields import Fields
from costmodel.families.lists import counts_by_layer, shares_by_layer
from costmodel.families.row import FamilyRow
from costmodel.model import ModelSpec
from costmodel.words import Words


def _counts(fields: Fields, name: str, layers: int) -> list[int]:
    """A whole number for each layer, which the file must give."""
    counts = counts_by_layer(fields, name, layers)
    if counts is None:
        raise fields.error(name, f"a whole number for each of {layers} layers")
    return counts


def _openelm(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require("model_dim", "num_transformer_layers", "head_dim", "vocab_size", "ffn_multipliers")
    layers, hidden = fields.layers("num_transformer_layers"), fields.count("model_dim")
    if not fields.flag_or("ffn_with_glu", True):
        raise fields.error("ffn_with_glu", "true")
    heads, keys = (_counts(fields, name, layers) for name in ("num_query_heads", "num_kv_heads"))
    if any(n % m for n, m in zip(heads, keys, strict=True)):
        raise fields.error("num_kv_heads", "a divisor of num_query_heads in each layer")
    times, divisor = shares_by_layer(fields, "ffn_multipliers", layers, 100), fields.count("ffn_dim_divisor", 256)
    inner = [_rounded(each * hidden, divisor) for each in times]
    words = Words(
        norms=("attn_norm", "ffn_norm"),
        attention="attn",
        qkv=("qkv_proj",),
        out="out_proj",
        mlp="ffn",
        ups=("proj_1",),
        packed_gate=True,
        down="proj_2",
        qk_norm="head" if fields.flag_or("normalize_qk_projections", False) else "none",
        embedding="transformer.token_embeddings",
        tables="transformer.layers.0.attn.pos_embedding",
        final_norm="transformer.norm",
    )
    sizes = list(zip(heads, keys, inner, strict=True))
    kinds = [f"{n} heads, {m} of keys, {width} wide" for n, m, width in sizes]
    own: dict[str, dict[str, object]] = {
        kind: {"num_heads": n, "num_kv_heads": m, "intermediate_size": width}
        for kind, (n, m, width) in zip(kinds, sizes, strict=True)
    }
    return decoder_spec(
        fields,
        row,
        words,
        num_heads=heads[0],
        num_kv_heads=keys[0],
        intermediate_size=inner[0],
        max_positions=fields.count("max_context_length", 2048),
        activation="silu",
        bias=False,
        mlp_bias=False,
        tie_embeddings=fields.flag_or("share_input_output_layers", True),
        **by_kind(kinds, own),
    )


def _rounded(width: float, divisor: int) -> int:
    """The multiple of `divisor` next to a width, not below nine tenths of it."""
    nearest = max(divisor, int(width + divisor / 2) // divisor * divisor)
    return nearest if nearest >= 0.9 * width else nearest + divisor


def _deci(fields: Fields, row: FamilyRow) -> ModelSpec:
    fields.require("hidden_size", "num_attention_heads", "num_hidden_layers", "vocab_size", "intermediate_size")
    keys = _counts(fields, "num_key_value_heads_per_layer", fields.layers("num_hidden_layers"))
    heads = fields.count("num_attention_heads")
    if any(heads % each for each in keys):
        raise fields.error("num_key_value_heads_per_layer", f"divisors of num_attention_heads {heads}")
    return decoder_spec(
        fields,
        row,
        Words(),
        num_kv_heads=keys[0],
        max_positions=fields.count("max_position_embeddings", 4096),
        tie_embeddings=fields.flag_or("tie_word_embeddings", False),
        **by_kind([f"{each} of keys" for each in keys], {f"{each} of keys": {"num_kv_heads": each} for each in keys}),
    )


OPENELM = decoder_row(
    "openelm",
    {"openelm": "OpenELM"},
    _openelm,
    norm="rms_norm",
    layers="transformer.layers",
    aliases={"hidden_size": "model_dim", "num_hidden_layers": "num_transformer_layers"},
    strided_heads=True,
)
DECI = decoder_row("deci", {"deci": "DeciLM"}, _deci, norm="rms_norm")
