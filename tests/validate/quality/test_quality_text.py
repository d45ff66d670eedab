"""Loss, divergence and flips of text against direct computations, on tiny models of each family."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from quality_cases import BERT, LLAMA, TEXT, blocks, case, checkpoint, evaluator, opened, text_measure
from torch import nn
from validating import GPT2, QWEN3

from costmodel.errors import InputError
from validate.errors import MeasurementError
from validate.factors.replace import Replacement, WeightFactors
from validate.models.blocks import IGNORED, causal_blocks, masked_blocks
from validate.quality.case import DENSE

FAMILIES = pytest.mark.parametrize("config", [LLAMA, BERT, GPT2, QWEN3], ids=["llama", "bert", "gpt2", "tied"])


def predictions(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=inputs).logits.double().log_softmax(-1)[targets != IGNORED]


@FAMILIES
def test_sums_agree_with_a_direct_computation(config: dict[str, object], tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path, config))
    measure, given = text_measure(pretrained), blocks(pretrained)
    dense = measure.dense
    wide = predictions(pretrained.model, given.inputs, given.targets)
    specs = ["rank=4", "layers=1 form=drop"]
    with Replacement(pretrained.body, pretrained.spec, case(pretrained, *specs).decomposition, WeightFactors()):
        found = measure.measure()
        own = predictions(pretrained.model, given.inputs, given.targets)
    truth = given.targets[given.targets != IGNORED]
    count = len(given.inputs)
    nll = -own.gather(1, truth[:, None])[:, 0].view(count, -1).sum(1)
    kl = (wide.exp() * (wide - own)).sum(-1).view(count, -1).sum(1)
    flips = (own.argmax(-1) != wide.argmax(-1)).view(count, -1).sum(1)
    hits = (own.argmax(-1) == truth).view(count, -1).sum(1)
    assert found.nll == pytest.approx(nll.tolist(), rel=1e-4)
    assert found.kl == pytest.approx(kl.tolist(), rel=1e-3, abs=1e-4)
    assert (found.flips, found.hits) == (flips.tolist(), hits.tolist())
    assert sum(found.flips) > 0
    assert sum(found.kl) > 0.1
    assert dense.kl == [0.0] * count
    assert dense.flips == [0] * count
    assert measure.measure() == dense  # restored


@FAMILIES
def test_full_rank_changes_nothing(config: dict[str, object], tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path, config))
    measure = text_measure(pretrained)
    tokens = sum(measure.dense.tokens)
    full = [f"tensors={t.name} rank={min(t.out_features, t.in_features)}" for t in pretrained.spec.tensors]
    with Replacement(pretrained.body, pretrained.spec, case(pretrained, *full).decomposition, WeightFactors()):
        found = measure.measure()
    assert abs(sum(found.kl)) / tokens < 1e-5
    assert sum(found.flips) == 0
    assert sum(found.nll) == pytest.approx(sum(measure.dense.nll), rel=1e-5)


def test_dense_predictions_too_large_to_keep_are_made_again(tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path))
    kept, again = text_measure(pretrained), text_measure(pretrained, kept_bytes=0)
    assert kept.dense == again.dense
    with Replacement(pretrained.body, pretrained.spec, case(pretrained, "rank=2").decomposition, WeightFactors()):
        assert again.measure() == kept.measure()


def test_causal_blocks_ask_for_the_next_token(tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path))
    given = causal_blocks(pretrained.tokenizer, TEXT, 16, 5)
    assert given.tokens == [15] * 5
    assert torch.equal(given.targets[:, :-1], given.inputs[:, 1:])


def test_masked_blocks_are_the_same_each_time(tmp_path: Path) -> None:
    words = opened(checkpoint(tmp_path, BERT)).tokenizer
    first, second, other = (masked_blocks(words, TEXT, 32, 5, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.inputs, second.inputs)
    assert torch.equal(first.targets, second.targets)
    assert not torch.equal(first.inputs, other.inputs)
    assert first.inputs.shape == first.targets.shape == (5, 32)
    assert first.tokens == [round(0.15 * 30)] * 5
    assert set(first.inputs[:, 0].tolist()) == {words.cls_token_id}
    assert set(first.inputs[:, -1].tolist()) == {words.sep_token_id}
    hidden = first.targets != IGNORED
    assert torch.equal(hidden, first.inputs == words.mask_token_id)
    whole = torch.where(hidden, first.targets, first.inputs)[:, 1:-1]
    assert words.decode(whole[0], clean_up_tokenization_spaces=False) == TEXT[:30]


def test_a_causal_tokenizer_has_no_masks(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no mask token"):
        masked_blocks(opened(checkpoint(tmp_path)).tokenizer, TEXT, 32, 5)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_a_failure(bad: float, tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path))
    measuring = evaluator(pretrained)
    assert measuring.measure(DENSE, 0).status == "ok"
    weight = pretrained.model.get_submodule("model.layers.1.mlp.down_proj").weight
    with torch.no_grad():
        weight[3, 5] = bad
    record = measuring.measure(case(pretrained, "layers=0 rank=2"), 1)
    assert record.failure is not None
    assert (record.status, record.failure.stage, record.failure.kind) == ("failed", "text", "non-finite")
    assert "in 6 of 6 blocks" in record.failure.reason
    assert record.text is None
    record = measuring.measure(case(pretrained, "layers=1 tensors=down_proj rank=2"), 2)
    assert record.failure is not None
    assert (record.failure.stage, record.failure.kind) == ("factors", "non-finite")
    with torch.no_grad():
        weight[3, 5] = 0.0
    assert measuring.measure(case(pretrained, "layers=0 rank=2"), 3).status == "ok"  # and the model is as before


def test_a_dense_model_that_is_not_finite(tmp_path: Path) -> None:
    pretrained = opened(checkpoint(tmp_path))
    with torch.no_grad():
        pretrained.model.get_submodule("model.norm").weight.fill_(float("nan"))
    with pytest.raises(MeasurementError, match="NaN or infinite in 6 of 6 blocks"):
        _ = text_measure(pretrained).dense
