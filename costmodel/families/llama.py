"""The Llama family's config.json: Llama, Mistral, Qwen2 and Qwen3, with the defaults of transformers 5.23."""

from __future__ import annotations

from costmodel.families.fields import Fields
from costmodel.model import Family, ModelSpec

_POSITIONS = {"llama": 2048, "mistral": 131072, "qwen2": 32768, "qwen3": 32768}
"""Default of max_position_embeddings in each class."""


def llama_spec(fields: Fields, name: str, model_type: str) -> ModelSpec:
    """The model of a configuration whose `model_type` is llama, mistral, qwen2 or qwen3.

    Raises:
        ModelError: for a field that is missing, of the wrong type, out of bounds or at odds with another.
    """
    fields.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size")
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    layers = fields.layers("num_hidden_layers")
    own_head_dim = fields.count("head_dim", 128) if model_type == "qwen3" else fields.count_or_none("head_dim")
    head_dim = own_head_dim or fields.head_dim("num_attention_heads", "hidden_size")
    if model_type == "mistral":
        kv_heads: int | None = fields.count("num_key_value_heads", 8)
    else:
        kv_heads = fields.count_or_none("num_key_value_heads", None if model_type == "llama" else 32)
    kv_heads = heads if kv_heads is None else kv_heads
    if heads % kv_heads:
        raise fields.error("num_key_value_heads", f"a divisor of num_attention_heads {heads}", f"used: {kv_heads}")
    if head_dim % 2:
        raise fields.error("head_dim", "an even number, for RoPE turns pairs", f"used: {head_dim}")
    bias = fields.flag("attention_bias", False) if model_type in ("llama", "qwen3") else False
    return ModelSpec(
        name=name,
        family=Family.LLAMA,
        model_type=model_type,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=fields.count("intermediate_size"),
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=fields.count("vocab_size"),
        max_positions=fields.count("max_position_embeddings", _POSITIONS[model_type]),
        embed_dim=hidden,
        activation=fields.activation("hidden_act", "silu"),
        gated_mlp=True,
        qkv_bias=bias or model_type == "qwen2",
        attn_out_bias=bias,
        mlp_bias=fields.flag("mlp_bias", False) if model_type == "llama" else False,
        qk_norm=model_type == "qwen3",
        tie_embeddings=fields.flag("tie_word_embeddings", False),
        pre_norm=True,
        final_norm=True,
        sliding_windows=_sliding_windows(fields, model_type, layers),
        dtype=fields.dtype(),
    )


def _sliding_windows(fields: Fields, model_type: str, layers: int) -> tuple[int | None, ...]:
    """The window of each layer: none in Llama, one for all in Mistral, by layer in Qwen if switched on."""
    if model_type == "llama":
        return (None,) * layers
    window = fields.count_or_none("sliding_window", 4096)
    if model_type != "mistral" and not fields.flag("use_sliding_window", False):
        window = None
    types = _layer_types(fields, layers)
    if model_type == "mistral":
        if types is not None and any((kind == "sliding_attention") != (window is not None) for kind in types):
            raise fields.error("layer_types", f"one type for all Mistral layers, that of sliding_window {window}")
        return (window,) * layers
    if types is None:
        first = fields.count("max_window_layers", 28, minimum=0)
        return tuple(window if layer >= first else None for layer in range(layers))
    if window is None and "sliding_attention" in types:
        raise fields.error("layer_types", "full_attention only, unless use_sliding_window and sliding_window are set")
    return tuple(window if kind == "sliding_attention" else None for kind in types)


def _layer_types(fields: Fields, layers: int) -> list[str] | None:
    """The field `layer_types`, cut to the overriding number of layers if there is one; None when absent or null."""
    types = fields.data.get("layer_types")
    if types is None:
        return None
    known = ("full_attention", "sliding_attention")
    if not isinstance(types, list) or not all(kind in known for kind in types):
        raise fields.error("layer_types", f"a list of {' and '.join(known)}")
    own = fields.count("num_hidden_layers")
    if len(types) != own or layers > own:
        raise fields.error("layer_types", f"one entry for each of {max(own, layers)} layers", f"found: {len(types)}")
    return types[:layers]
