"""Each field of a configuration changed by itself: the parameters of transformers' class, or a refusal in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from costmodel.errors import ModelError
from costmodel.families.registry import FAMILIES, own_config, spec_from_config

transformers = pytest.importorskip("transformers")

from family_configs import small  # noqa: E402
from transformers.models.auto import modeling_auto  # noqa: E402

from studies.families.reference import reference_params  # noqa: E402

QUICK = ("modernbert", "nemotron_h")
NO_SIZES = ("bos", "eos", "pad", "drop", "eps", "id2label", "chunk_size_feed_forward", "time_step_rank")
"""Parts of names of fields that change no size, or that a class reads as no size."""


def changed(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The configuration with one field after another doubled, halved, negated, null or absent."""
    for name, value in config.items():
        if name in ("model_type", "architectures") or any(part in name for part in NO_SIZES):
            continue
        others: list[Any] = [None]
        if isinstance(value, bool):
            others = [not value]
        elif isinstance(value, int):
            others = [2 * value or 1, max(1, value // 2)]
        yield from ({**config, name: other} for other in others)
        yield {kept: each for kept, each in config.items() if kept != name}


NAMED = {"luke": "LukeModel", "dpr": "DPRContextEncoder"}
"""The class of a type whose masked LM is refused, or that has none without a name."""


@pytest.mark.parametrize(
    "model_type",
    [
        pytest.param(name, marks=() if name in QUICK else pytest.mark.slow)
        for name in FAMILIES
        if name in transformers.CONFIG_MAPPING
    ],
)
def test_a_changed_field_is_priced_as_transformers_builds_it_or_refused(model_type: str) -> None:
    named = NAMED.get(model_type) or modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES.get(model_type)
    known = small(model_type)
    written = transformers.CONFIG_MAPPING[model_type].from_dict(known).to_dict()
    config = {**json.loads(json.dumps(written, default=str)), **known}
    compared = lines = 0
    for each in changed({**config, "architectures": [named] if named else None}):
        try:
            spec = spec_from_config(each, name=model_type, source=model_type)
        except ModelError as refusal:
            lines += str(refusal).count("\n")
            continue
        try:
            expected = reference_params(own_config(each, model_type), spec)
        except Exception:  # of many kinds, for values that no module can be made of
            continue
        differing = {name: each.get(name) for name in config if each.get(name) != config[name]}
        assert spec.num_params == expected, differing
        compared += 1
    assert compared > 10
    assert not lines
