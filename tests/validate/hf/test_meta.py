"""Structures without values are those that transformers makes on the meta device."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from expert_configs import experts  # noqa: E402
from validating import FAMILIES  # noqa: E402

from validate.hf.meta import on_meta  # noqa: E402

CONFIGS = {**FAMILIES, "mixtral": experts("mixtral")}


def structure(model: Any) -> tuple[dict[str, Any], dict[str, Any], set[str], dict[str, str]]:
    parameters = {name: (each.shape, each.dtype, each.requires_grad) for name, each in model.named_parameters()}
    buffers = {name: (each.shape, each.dtype) for name, each in model.named_buffers()}
    tensors = {*model.parameters(), *model.buffers()}
    return parameters, buffers, {each.device.type for each in tensors}, dict(model.all_tied_weights_keys)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_structure_is_the_one_that_initialisers_fill(name: str) -> None:
    config = CONFIGS[name]
    settings = transformers.CONFIG_MAPPING[config["model_type"]].from_dict(config)
    auto = transformers.AutoModelForMaskedLM if name == "bert" else transformers.AutoModelForCausalLM
    with on_meta():
        found = auto.from_config(settings)
    with torch.device("meta"):
        expected = auto.from_config(settings)
    assert structure(found) == structure(expected)
    assert structure(found)[2] == {"meta"}


def test_initialisers_fill_nothing_in_it_and_again_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    filled: list[int] = []
    monkeypatch.setattr(torch.nn.init, "_no_grad_normal_", lambda tensor, *_: filled.append(tensor.numel()))
    with on_meta():
        skipped = torch.nn.Embedding(5, 3).weight
    assert skipped.is_meta
    assert not filled
    torch.nn.Embedding(5, 3)
    assert filled == [15]
