"""From a config.json to a ModelSpec: which architectures are supported, and BERT, GPT-2 and OPT themselves.

Defaults of absent fields are those of the configuration classes of transformers 5.23.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from costmodel.errors import ModelError
from costmodel.families.fields import Fields
from costmodel.families.llama import llama_spec
from costmodel.model import Family, ModelSpec

_GPT2_NAMES = {
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "max_position_embeddings": "n_positions",
}
_ENCODER_ONLY = "only the encoder is supported, without cross-attention"


def spec_from_config(
    config: Mapping[str, object], *, name: str, source: str, num_layers: int | None = None
) -> ModelSpec:
    """The model that `config` describes.

    Args:
        config: the decoded config.json.
        name: what the spec is called.
        source: what error messages call the configuration, usually its path.
        num_layers: build that many layers instead of the configuration's own number.

    Raises:
        ModelError: for an architecture that is not supported, and for a field that is missing, of the wrong type,
            out of bounds or at odds with another.
    """
    fields = Fields(config, source, num_layers)
    model_type = config.get("model_type")
    if not isinstance(model_type, str):
        raise fields.error("model_type", ", ".join(_BUILDERS))
    if model_type not in _BUILDERS:
        raise ModelError(f"{source}: architecture not supported", value=model_type, allowed=", ".join(_BUILDERS))
    class_prefix, builder = _BUILDERS[model_type]
    _check_architectures(fields, model_type, class_prefix)
    fields.refuse("quantization_config", "quantised checkpoints are not supported: use the original's config.json")
    fields.refuse("is_encoder_decoder", "encoder-decoder models are not supported")
    fields.refuse("per_layer_config", "all layers must have the same shape")
    fields.refuse("pruned_heads", "all layers must have the same shape")
    return builder(fields, name, model_type)


def _check_architectures(fields: Fields, model_type: str, class_prefix: str) -> None:
    """Refuse a configuration whose classes belong to another model than its model_type says."""
    value = fields.data.get("architectures")
    if not value:
        return
    pattern = re.compile(f"{class_prefix}(For|Model|LMHead|DoubleHeads|PreTrained)", re.IGNORECASE)
    if not isinstance(value, list) or not all(isinstance(entry, str) and pattern.match(entry) for entry in value):
        raise fields.error("architectures", f"classes of model_type {model_type}, such as {class_prefix}Model")


def _bert(fields: Fields, name: str, model_type: str) -> ModelSpec:
    fields.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "intermediate_size")
    fields.refuse("is_decoder", _ENCODER_ONLY)
    fields.refuse("add_cross_attention", _ENCODER_ONLY)
    fields.choice("position_embedding_type", "absolute", ("absolute",))
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    layers = fields.layers("num_hidden_layers")
    rows = fields.count("max_position_embeddings", 512)
    reserved = fields.count("pad_token_id", 1, minimum=0) + 1 if model_type == "roberta" else 0
    if rows <= reserved:
        raise fields.error("max_position_embeddings", f"more than pad_token_id + 1 = {reserved}")
    return ModelSpec(
        name=name,
        family=Family.BERT,
        model_type=model_type,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=fields.count("intermediate_size"),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=fields.head_dim("num_attention_heads", "hidden_size"),
        vocab_size=fields.count("vocab_size"),
        max_positions=rows - reserved,
        position_rows=rows,
        token_types=fields.count("type_vocab_size", 2),
        embed_dim=hidden,
        activation=fields.activation("hidden_act", "gelu"),
        qkv_bias=True,
        attn_out_bias=True,
        mlp_bias=True,
        tie_embeddings=False,
        pre_norm=False,
        final_norm=False,
        pooler=True,
        sliding_windows=(None,) * layers,
        dtype=fields.dtype(),
    )


def _gpt2(fields: Fields, name: str, model_type: str) -> ModelSpec:
    fields = fields.renamed(_GPT2_NAMES)
    fields.require("n_embd", "n_layer", "n_head", "vocab_size")
    fields.refuse("add_cross_attention", "only the decoder is supported, without cross-attention")
    hidden, heads, layers = fields.count("n_embd"), fields.count("n_head"), fields.layers("n_layer")
    positions = fields.count("n_positions", 1024)
    inner = fields.count_or_none("n_inner")
    return ModelSpec(
        name=name,
        family=Family.GPT2,
        model_type=model_type,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=4 * hidden if inner is None else inner,
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=fields.head_dim("n_head", "n_embd"),
        vocab_size=fields.count("vocab_size"),
        max_positions=positions,
        position_rows=positions,
        embed_dim=hidden,
        activation=fields.activation("activation_function", "gelu_new"),
        qkv_bias=True,
        attn_out_bias=True,
        mlp_bias=True,
        tie_embeddings=fields.flag("tie_word_embeddings", True),
        pre_norm=True,
        final_norm=True,
        sliding_windows=(None,) * layers,
        dtype=fields.dtype(),
    )


def _opt(fields: Fields, name: str, model_type: str) -> ModelSpec:
    fields.require("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "ffn_dim")
    hidden, heads = fields.count("hidden_size"), fields.count("num_attention_heads")
    layers = fields.layers("num_hidden_layers")
    positions = fields.count("max_position_embeddings", 2048)
    embed_dim = fields.count_or_none("word_embed_proj_dim")
    pre_norm, bias = fields.flag("do_layer_norm_before", True), fields.flag("enable_bias", True)
    return ModelSpec(
        name=name,
        family=Family.OPT,
        model_type=model_type,
        num_layers=layers,
        hidden_size=hidden,
        intermediate_size=fields.count("ffn_dim"),
        num_heads=heads,
        num_kv_heads=heads,
        head_dim=fields.head_dim("num_attention_heads", "hidden_size"),
        vocab_size=fields.count("vocab_size"),
        max_positions=positions,
        position_rows=positions + 2,
        embed_dim=hidden if embed_dim is None else embed_dim,
        activation=fields.activation("activation_function", "relu"),
        qkv_bias=bias,
        attn_out_bias=bias,
        mlp_bias=bias,
        tie_embeddings=fields.flag("tie_word_embeddings", True),
        pre_norm=pre_norm,
        final_norm=pre_norm and not fields.flag("_remove_final_layer_norm", False),
        norm_affine=fields.flag("layer_norm_elementwise_affine", True),
        sliding_windows=(None,) * layers,
        dtype=fields.dtype(),
    )


_BUILDERS: dict[str, tuple[str, Callable[[Fields, str, str], ModelSpec]]] = {
    "llama": ("Llama", llama_spec),
    "mistral": ("Mistral", llama_spec),
    "qwen2": ("Qwen2", llama_spec),
    "qwen3": ("Qwen3", llama_spec),
    "bert": ("Bert", _bert),
    "roberta": ("Roberta", _bert),
    "gpt2": ("GPT2", _gpt2),
    "opt": ("OPT", _opt),
}
