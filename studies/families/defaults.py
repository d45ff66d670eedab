"""Write costmodel/families/defaults.json: what transformers' configuration classes have for fields that a file lacks.

python -m studies.families.defaults
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import transformers

from costmodel.families.registry import FAMILIES

PATH = Path(__file__).resolve().parents[2] / "costmodel" / "families" / "defaults.json"
LEFT_OUT = frozenset(
    {"architectures", "bos_token_id", "dtype", "eos_token_id", "id2label", "initializer_range", "init_std", "label2id"}
    | {"layer_norm_eps", "layer_norm_epsilon", "model_type", "output_hidden_states", "problem_type", "return_dict"}
    | {"rms_norm_eps", "rope_parameters", "transformers_version", "use_cache", "chunk_size_feed_forward"}
)
"""Fields that change no count."""


def class_defaults(model_type: str) -> dict[str, Any]:
    """The fields of a configuration class that have a default that JSON can hold."""
    found: dict[str, Any] = {}
    for item in dataclasses.fields(transformers.CONFIG_MAPPING[model_type]):
        if (
            item.name in LEFT_OUT
            or "dropout" in item.name
            or "pdrop" in item.name
            or "attn_implementation" in item.name
        ):
            continue
        value = item.default
        if item.default_factory is not dataclasses.MISSING:
            value = item.default_factory()
        if isinstance(value, bool | int | float | str | list | dict | None):
            found[item.name] = value
    return found


def all_defaults() -> dict[str, dict[str, Any]]:
    """By model_type, of every type that both a row reads and transformers knows."""
    known = set(transformers.CONFIG_MAPPING)
    return {name: class_defaults(name) for name in sorted(FAMILIES) if name in known}


if __name__ == "__main__":
    lines = [f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in all_defaults().items()]
    PATH.write_text("{\n" + ",\n".join(lines) + "\n}\n")
