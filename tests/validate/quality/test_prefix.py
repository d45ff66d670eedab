"""Dense layers before the first changed one are not run again, and nothing else changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from quality_cases import BERT, LLAMA, case, checkpoint, evaluator, opened, text_measure
from validating import GPT2, QWEN3

from validate.factors.replace import Replacement, WeightFactors
from validate.quality import prefix
from validate.quality.case import DENSE


@pytest.mark.parametrize("config", [LLAMA, BERT, GPT2, QWEN3], ids=["llama", "bert", "gpt2", "tied"])
def test_starting_from_cached_states_gives_the_same_sums(config: dict[str, Any], tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path, config))
    measure = text_measure(pretrained)
    dense = measure.dense
    layers: Any = pretrained.body.get_submodule(pretrained.spec.layer_prefix)
    runs: list[int] = []
    for index, layer in enumerate(layers):
        attention = next(each for name, each in layer.named_modules() if "attn" in name or "attention" in name)
        attention.register_forward_hook(lambda *_, index=index: runs.append(index))
    for specs, first, ran in (
        (["layers=2 rank=2"], 2, {2}),
        (["layers=1 form=drop"], 1, {2}),
        (["layers=2 form=drop"], 2, set()),
        (["layers=1 rank=3", "layers=2 form=drop"], 1, {1}),
        (["layers=0 rank=2"], 0, {0, 1, 2}),
    ):
        decomposition = case(pretrained, *specs).decomposition
        with Replacement(pretrained.body, pretrained.spec, decomposition, WeightFactors()):
            whole = measure.measure()
            runs.clear()
            found = measure.measure(first)
        assert set(runs) == ran, specs
        assert found.nll == pytest.approx(whole.nll, abs=1e-4)  # sums over 31 tokens
        assert found.kl == pytest.approx(whole.kl, abs=1e-4)
        assert (found.flips, found.hits) == (whole.flips, whole.hits)
    assert measure.measure() == dense


@pytest.mark.parametrize("config", [LLAMA, BERT, GPT2], ids=["llama", "bert", "gpt2"])
def test_dense_predictions_too_large_to_keep_take_the_head_alone(config: dict[str, Any], tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path, config))
    whole, measure = (text_measure(pretrained, kept_bytes=0, reuse=reuse) for reuse in (False, True))
    assert measure.dense == whole.dense
    passes = {}
    for name, each in (("whole", whole), ("head", measure)):
        runs: list[int] = []
        path = pretrained.spec.layer_prefix
        layers: Any = each._twin_body.get_submodule(path)
        hooks = [
            layer.get_submodule(next(iter(layer._modules))).register_forward_hook(lambda *_, runs=runs: runs.append(1))
            for layer in layers
        ]
        decomposition = case(pretrained, "layers=1 form=drop").decomposition
        with Replacement(pretrained.body, pretrained.spec, decomposition, WeightFactors()):
            passes[name] = each.measure(0), len(runs)
        for hook in hooks:
            hook.remove()
    assert passes["whole"][0] == passes["head"][0]
    assert passes["whole"][1] > passes["head"][1] == 0
    assert not any(measure.measure().kl)


def test_of_many_states_some_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretrained = opened(checkpoint(tmp_path, LLAMA))
    size = 6 * 32 * 64 * 4
    made = prefix.DensePrefix(pretrained, 6 * 32, kept_bytes=3 * size)
    assert made._stride == 1
    made = prefix.DensePrefix(pretrained, 6 * 32, kept_bytes=2 * size)
    assert made._stride == 2
    assert made.usable
    assert not prefix.DensePrefix(pretrained, 6 * 32, kept_bytes=size - 1).usable  # not one of them fits
    monkeypatch.setattr(prefix.DensePrefix.__init__, "__kwdefaults__", {"kept_bytes": 2 * size})
    measuring = evaluator(pretrained, text=text_measure(pretrained))
    assert measuring.measure(DENSE, 0).failure is None
    record = measuring.measure(case(pretrained, "layers=2 rank=2"), 1)
    assert measuring._text is not None
    assert sum(each.nbytes for each in measuring._text._prefix._states.values()) <= 2 * size
    monkeypatch.undo()
    truth = evaluator(pretrained)
    truth.measure(DENSE, 0)
    expected = truth.measure(case(pretrained, "layers=2 rank=2"), 1)
    assert record.text is not None
    assert expected.text is not None
    assert record.text.nll == pytest.approx(expected.text.nll, abs=1e-4)


def test_layers_that_depend_on_more_are_all_run(tmp_path: Path) -> None:
    """A model whose later layer reads what an earlier one left beside the hidden states."""
    pretrained = opened(checkpoint(tmp_path, LLAMA))
    layers: Any = pretrained.body.get_submodule("model.layers")
    left: dict[str, torch.Tensor] = {}
    layers[0].mlp.register_forward_hook(lambda module, args, output: left.update(first=output))
    layers[2].register_forward_hook(lambda module, args, output: output + 0.5 * left.pop("first", torch.zeros(())))
    measure = text_measure(pretrained)
    dense = measure.dense
    assert not measure._prefix.usable
    assert measure.measure(2) == dense
