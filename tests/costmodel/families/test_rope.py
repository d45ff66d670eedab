"""Length limits of models whose rotary embedding is scaled."""

from __future__ import annotations

import json
from typing import Any

import pytest
from validating import LLAMA, MISTRAL, QWEN3, tiny_spec

from costmodel.errors import ModelError

BASE = LLAMA | {"max_position_embeddings": 4096}
CASES = {
    "none": ({}, 4096),
    "null": ({"rope_scaling": None}, 4096),
    "empty": ({"rope_scaling": {}}, 4096),
    "vicuna-16k": ({"rope_scaling": {"type": "linear", "factor": 4.0}}, 16384),
    "newer name of the type": ({"rope_scaling": {"rope_type": "linear", "factor": 4}}, 16384),
    "transformers 5": ({"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}, 16384),
    "both names": ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": {"rope_type": "x"}}, 8192),
    "dynamic": ({"rope_scaling": {"type": "dynamic", "factor": 2.0}}, 8192),
    "dynamic, transformers 5": ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, 8192),
    "yarn of the trained length": (
        {"rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}},
        16384,
    ),
    "yarn alone": ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, 16384),
    "yarn included": (
        {
            "max_position_embeddings": 163840,
            "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 4096},
        },
        163840,
    ),
    "linear included": (
        {
            "max_position_embeddings": 16384,
            "rope_scaling": {"type": "linear", "factor": 4.0, "original_max_position_embeddings": 4096},
        },
        16384,
    ),
    "included, said outside": (
        {
            "max_position_embeddings": 16384,
            "original_max_position_embeddings": 4096,
            "rope_scaling": {"type": "linear", "factor": 4.0},
        },
        16384,
    ),
    "a longer limit than the product": (
        {
            "max_position_embeddings": 40960,
            "rope_scaling": {"type": "yarn", "factor": 2.0, "original_max_position_embeddings": 4096},
        },
        40960,
    ),
    "linear included, LLaMA-2-7B-32K": (
        {"max_position_embeddings": 32768, "rope_scaling": {"factor": 8.0, "type": "linear"}},
        32768,
    ),
    "linear included, DeepSeek Coder": (
        {"max_position_embeddings": 16384, "rope_scaling": {"type": "linear", "factor": 4.0}},
        16384,
    ),
    "linear on top, Llama 3": (
        {"max_position_embeddings": 8192, "rope_scaling": {"type": "linear", "factor": 2.0}},
        16384,
    ),
    "dynamic on top, InternLM 2.5": (
        {"max_position_embeddings": 32768, "rope_scaling": {"type": "dynamic", "factor": 2.0}},
        65536,
    ),
    "llama3": (
        {
            "max_position_embeddings": 131072,
            "rope_scaling": {
                "rope_type": "llama3",
                "factor": 32.0,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
                "original_max_position_embeddings": 8192,
            },
        },
        131072,
    ),
    "longrope": (
        {
            "max_position_embeddings": 131072,
            "rope_scaling": {"type": "longrope", "original_max_position_embeddings": 4096, "long_factor": [1.0]},
        },
        131072,
    ),
    "default": ({"rope_parameters": {"rope_type": "default", "factor": 4.0, "rope_theta": 1e4}}, 4096),
    "no factor": ({"rope_parameters": {"rope_type": "yarn", "factor": None}}, 4096),
    "fraction": ({"rope_scaling": {"type": "linear", "factor": 1.5}}, 6144),
    "by kind of layer": (
        {
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "factor": 8.0},
                "sliding_attention": {"rope_type": "linear", "factor": 2.0},
            }
        },
        8192,
    ),
}
TRAINED_SHORT = ("linear included, LLaMA-2-7B-32K", "linear included, DeepSeek Coder")
"""Included only where models of the type were trained for 2,048 or 4,096 tokens."""


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("family", [LLAMA, MISTRAL, QWEN3], ids=["llama", "mistral", "qwen3"])
def test_the_limit_is_what_the_scaling_reaches(name: str, family: dict[str, Any]) -> None:
    fields, expected = CASES[name]
    if name in TRAINED_SHORT and family is not LLAMA:  # the same numbers on top of a length that was trained
        expected *= int(fields["rope_scaling"]["factor"])
    assert tiny_spec(family | {"max_position_embeddings": 4096} | fields).max_positions == expected


@pytest.mark.parametrize(
    "scaling",
    [
        "linear",
        [4.0],
        {"type": "linear", "factor": "4"},
        {"type": "linear", "factor": -1.0},
        {"type": "linear", "factor": 0},
        {"type": "linear", "factor": True},
        {"type": "dynamic", "factor": 1e30},
        {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": "4096"},
        {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 10**30},
        {"type": "yarn", "factor": float("nan")},
    ],
    ids=json.dumps,
)
@pytest.mark.parametrize("name", ["rope_scaling", "rope_parameters"])
def test_a_scaling_that_cannot_be_is_refused_by_name(name: str, scaling: Any) -> None:
    with pytest.raises(ModelError, match=rf"field {name}(\.\w+)?: got"):
        tiny_spec(BASE | {name: scaling})
