"""What a model is asked for in blocks of text; every command calibrates on blocks like those that are scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import torch
from quality_cases import BERT, LLAMA, OTHER_TEXT, TEXT, checkpoint, opened

from costmodel.cli import run
from costmodel.errors import InputError
from validate.cli import cli
from validate.models.blocks import (
    IGNORED,
    calibration_inputs,
    causal_blocks,
    hidden_tokens,
    masked_blocks,
    next_tokens,
    text_blocks,
)
from validate.models.text import token_blocks
from validate.sensitivity.file import load_sensitivity

LENGTH, COUNT = 32, 5


def test_an_encoder_predicts_hidden_tokens_and_a_decoder_the_next() -> None:
    tokens = torch.arange(1, 2001).view(4, 500)
    asked = hidden_tokens(tokens, 0, 7)
    hidden = asked.targets != IGNORED
    assert torch.equal(hidden, asked.inputs == 0)
    assert torch.equal(asked.targets[hidden], tokens[hidden])
    assert torch.equal(asked.inputs[~hidden], tokens[~hidden])
    assert asked.tokens == [75] * 4
    assert torch.equal(hidden_tokens(tokens, 0, 7).inputs, asked.inputs)
    assert not torch.equal(hidden_tokens(tokens, 0, 8).inputs, asked.inputs)
    assert hidden_tokens(tokens[:1, :1], 0, 0).tokens == [1]
    asked = next_tokens(tokens)
    assert asked.inputs is tokens
    assert asked.targets[0, :3].tolist() == tokens[0, 1:4].tolist()
    assert asked.targets[:, -1].tolist() == [IGNORED] * 4


def test_calibration_is_of_the_kind_that_is_measured(tmp_path: Path) -> None:
    def inputs(folder: Path) -> Any:
        made = opened(folder)
        words = made.tokenizer
        return words, calibration_inputs(made.model, made.spec, words, TEXT, LENGTH, COUNT)

    words, found = inputs(checkpoint(tmp_path / "llama", LLAMA))
    assert torch.equal(found, causal_blocks(words, TEXT, LENGTH, COUNT).inputs)
    words, found = inputs(checkpoint(tmp_path / "masked", BERT))
    assert torch.equal(found, masked_blocks(words, TEXT, LENGTH, COUNT).inputs)
    words, found = inputs(checkpoint(tmp_path / "labels", BERT, kind="ForSequenceClassification"))
    assert set(found[:, 0].tolist()) == {words.cls_token_id}
    assert set(found[:, -1].tolist()) == {words.sep_token_id}
    assert torch.equal(found[:, 1:-1], token_blocks(words, TEXT, LENGTH - 2, COUNT))


def test_a_model_without_a_head_predicts_no_text(tmp_path: Path) -> None:
    made = opened(checkpoint(tmp_path, BERT, kind="ForSequenceClassification"))
    with pytest.raises(InputError, match=r"no head that predicts text: got 'BertForSeq.*; leave it"):
        text_blocks(made.model, made.spec, made.tokenizer, TEXT, LENGTH, COUNT, hint="leave it")
    with pytest.raises(InputError, match="--length is too small: got 2; allowed: above 2"):
        calibration_inputs(made.model, made.spec, made.tokenizer, TEXT, 2, COUNT)


def test_every_command_calibrates_a_masked_model_on_the_same_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import validate.factors.whitening as whitening
    from validate.models.stream import LayerStream

    model = checkpoint(tmp_path / "bert", BERT)
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "calibration.txt").write_text(OTHER_TEXT)
    seen: list[torch.Tensor] = []
    start, collect = LayerStream.start, whitening.collect_moments
    monkeypatch.setattr(LayerStream, "start", lambda self, blocks: seen.append(blocks) or start(self, blocks))
    monkeypatch.setattr(
        whitening, "collect_moments", lambda made, blocks, **more: seen.append(blocks) or collect(made, blocks, **more)
    )
    calibration = ["--calibration-text", str(tmp_path / "calibration.txt"), "--factors", "whitened"]
    common = ["--model", str(model), "--device", "cpu", "--length", str(LENGTH)]
    factored = ["--decompose", "layers=0 rank=4"]
    sensitivity = ["sensitivity", *common, "--blocks", str(COUNT), "--text", str(tmp_path / "calibration.txt")]
    for words in (
        [
            "quality",
            *common,
            *factored,
            *calibration,
            "--calibration-blocks",
            str(COUNT),
            "--blocks",
            "4",
            "--text",
            str(tmp_path / "text.txt"),
            "--out",
            str(tmp_path / "quality"),
            "--threads",
            "1",
        ],
        ["apply", *common, *factored, *calibration, "--blocks", str(COUNT), "--out", str(tmp_path / "factored")],
        [*sensitivity, "--out", str(tmp_path / "plain")],
        [*sensitivity, "--out", str(tmp_path / "fisher"), "--fisher"],
    ):
        assert run(cli, words) == 0
    expected = masked_blocks(opened(model).tokenizer, OTHER_TEXT, LENGTH, COUNT).inputs
    assert len(seen) == 4
    assert all(torch.equal(each, expected) for each in seen)
    plain, fisher = load_sensitivity(tmp_path / "plain"), load_sensitivity(tmp_path / "fisher")
    assert plain.run.text == fisher.run.text
