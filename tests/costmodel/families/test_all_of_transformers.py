"""Every type that transformers knows, with its own defaults: the parameters of its class, or a refusal in one line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from costmodel.errors import ModelError
from costmodel.families.registry import own_config, spec_from_config

transformers = pytest.importorskip("transformers")

from transformers.models.auto import modeling_auto  # noqa: E402

from studies.families.reference import reference_params  # noqa: E402

CLASSES = (
    modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    modeling_auto.MODEL_MAPPING_NAMES,
)
QUICK = ("dbrx", "hubert", "mllama", "t5", "zamba2")


def default_config(model_type: str) -> dict[str, Any]:
    """What the configuration class writes of itself, with the class that a causal LM or the like of it has."""
    try:
        config = json.loads(json.dumps(transformers.CONFIG_MAPPING[model_type]().to_dict(), default=str))
    except Exception as error:  # of many kinds, for a class that has no defaults
        pytest.skip(f"{model_type} without fields: {error}")
    name = next((names[model_type] for names in CLASSES if model_type in names), None)
    named = name if isinstance(name, str | None) else name[0]
    return {**config, "model_type": model_type, "architectures": [named] if named else None}


@pytest.mark.parametrize(
    "model_type",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in sorted(transformers.CONFIG_MAPPING)
    ],
)
def test_it_has_the_parameters_of_its_class_or_is_refused_in_one_line(model_type: str) -> None:
    config = default_config(model_type)
    try:
        spec = spec_from_config(config, name=model_type, source=model_type)
    except ModelError as error:
        spec, refusal = None, str(error)
    if spec is None:
        assert "\n" not in refusal
        assert "not supported" in refusal or "field" in refusal
        return
    try:
        expected = reference_params(own_config(config, model_type), spec)
    except Exception as error:  # of many kinds, for defaults that no module can be made of
        pytest.skip(f"{model_type} cannot be built: {error}")
    assert spec.num_params == expected
