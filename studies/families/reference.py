"""The model that transformers makes of a configuration, on the meta device: no memory, no weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import transformers

from costmodel.families.quantised import KEYS
from costmodel.model import ModelSpec
from validate.hf.meta import on_meta

_NO_PARAMETERS = ("rope_scaling", "torch_dtype", "dtype", "_attn_implementation", "attn_implementation")
"""Fields that change no parameter, some of whose published values transformers cannot build."""
_SAME = {"kimi_k2": "deepseek_v3"}
"""model_type that transformers does not know -> the one whose classes it has."""
_BODIES = {
    "step3p5": "Step3p7TextModel",
    "bert-generation": "BertGenerationEncoder",
    "clip_text_model": "CLIPTextModel",
}
"""model_type of a language model -> its class, where that has another name than those of repositories begin with."""


def body_name(spec: ModelSpec) -> str:
    """The class of a model without its head."""
    return _BODIES.get(spec.model_type, f"{spec.family.classes[spec.model_type]}Model")


def reference_model(config: Mapping[str, Any], spec: ModelSpec, **options: Any) -> Any:
    """The class that the configuration names, with plain weights.

    Args:
        config: the fields of the model itself, as `costmodel.families.load.read_config` gives them.
        spec: what it was read as; a model without classes is built with its head.
        options: of the constructor, such as attn_implementation.

    Raises:
        LookupError: when transformers has no such type or class.
    """
    model_type = _SAME.get(spec.model_type, spec.model_type)
    if model_type not in transformers.CONFIG_MAPPING:
        raise LookupError(f"transformers has no model_type {model_type}")
    plain = {name: value for name, value in config.items() if name not in (*KEYS, "auto_map")}
    settings = transformers.CONFIG_MAPPING[model_type].from_dict(plain)
    names = config.get("architectures")
    with on_meta():
        if names:
            kind = getattr(transformers, names[0], None)
            if kind is None:
                raise LookupError(f"transformers has no {names[0]}")
            return kind._from_config(settings, **options)
        if spec.head.kind == "causal_lm" and type(settings) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
            return transformers.AutoModelForCausalLM.from_config(settings, **options)
        body = getattr(transformers, body_name(spec), None)
        if body is None:
            raise LookupError(f"transformers has no class of {model_type}")
        return body._from_config(settings, **options)


def reference_params(config: Mapping[str, Any], spec: ModelSpec) -> int:
    """Parameters of the reference, tied ones once; with an LM head added where a text model has no class with one."""
    model = reference_model({name: value for name, value in config.items() if name not in _NO_PARAMETERS}, spec)
    count = sum(parameter.numel() for parameter in model.parameters())
    lacks_head = spec.head.kind == "causal_lm" and model.get_output_embeddings() is None
    return count + (spec.vocab_size * spec.embed_dim if lacks_head and not spec.tie_embeddings else 0)
