"""Healing: nearer to dense on other text, the same when it was stopped, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

import torch
from click.testing import CliRunner
from quality_cases import LLAMA, OTHER_TEXT, TEXT, checkpoint
from schemas import checker

from costmodel.errors import CostModelError, InputError
from validate.cli import cli
from validate.heal import run as heal_run
from validate.heal.distil import factor_weights, judge
from validate.heal.settings import HealSettings
from validate.models.artefact import open_factored
from validate.models.blocks import text_blocks
from validate.models.pretrained import open_pretrained
from validate.quality.job import Job
from validate.quality.settings import QualitySettings

SETTINGS = HealSettings(steps=12, rate=3e-3, blocks=16, judge_blocks=8, length=32, batch=4, keep_every=5, device="cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dense model, its factors, and two texts."""
    place = tmp_path_factory.mktemp("heal")
    checkpoint(place / "dense", LLAMA, scale=4.0)
    (place / "text.txt").write_text(TEXT)
    (place / "other.txt").write_text(OTHER_TEXT)
    call = ["apply", "--model", str(place / "dense"), "--decompose", "rank=8", "--out", str(place / "factored")]
    assert CliRunner().invoke(cli, call, catch_exceptions=False).exit_code == 0
    return place


def healed(folder: Path, name: str, **changes: object) -> heal_run.Healed:
    given = {
        "factored": folder / "factored",
        "dense": str(folder / "dense"),
        "text": folder / "text.txt",
        "judge_text": folder / "other.txt",
        "out": folder / name,
        "settings": SETTINGS,
    }
    return heal_run.heal(**{**given, **changes})  # type: ignore[arg-type]


def test_healing_brings_factors_nearer_to_dense_wherever_it_was_stopped(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = healed(folder, "whole")
    assert found.after_kl < 0.9 * found.before_kl
    assert found.change.high is not None
    record = json.loads((folder / "whole" / "heal.json").read_text())
    checker("healed").validate(record)
    assert record["after_kl"] == found.after_kl
    weights = factor_weights(open_factored(folder / "whole").model)
    assert any(
        not torch.equal(weight, weights[name])
        for name, weight in factor_weights(open_factored(folder / "factored").model).items()
    )
    assert Job.read(QualitySettings(model=str(folder / "whole"), text=str(folder / "text.txt"))).cases == []

    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(heal_run, "_write", stopped)
        with pytest.raises(KeyboardInterrupt):
            healed(folder, "again")
    kept = folder / "again.partial"
    (state,) = kept.glob("state-*.safetensors")
    state.rename(kept / "state-0010.safetensors")  # its content is of step 12, which is what counts
    assert healed(folder, "again") == found

    steps = heal_run.Distillation.run
    with monkeypatch.context() as patch:
        patch.setattr(heal_run.Distillation, "run", lambda work, until: stopped() if until > 5 else steps(work, until))
        with pytest.raises(KeyboardInterrupt):
            healed(folder, "cut")
    assert healed(folder, "cut") == found
    for name, weight in factor_weights(open_factored(folder / "cut").model).items():
        assert torch.equal(weight, weights[name])
    assert not (folder / "cut.partial").exists()


def test_what_is_judged_is_what_is_written(folder: Path) -> None:
    dense, narrow, out = folder / "dense", folder / "bf16", folder / "bf16 healed"
    call = ["apply", "--model", str(dense), "--decompose", "rank=8", "--dtype", "bf16", "--out", str(narrow)]
    assert CliRunner().invoke(cli, call, catch_exceptions=False).exit_code == 0
    settings = replace(SETTINGS, steps=2, judge_blocks=2)
    found = healed(folder, out.name, factored=narrow, settings=settings)
    truth, written = open_pretrained(dense), open_factored(out)
    blocks = text_blocks(truth.model, truth.spec, truth.tokenizer, OTHER_TEXT, 32, 2)
    again = judge(truth.model, written.model, blocks)
    assert found.after_kl == pytest.approx(sum(again.kl) / sum(blocks.tokens), rel=1e-6)


def test_what_cannot_be_healed_is_one_line(folder: Path) -> None:
    with pytest.raises(CostModelError, match="--judge-text is the text to learn from"):
        healed(folder, "x", judge_text=folder / "text.txt")
    with pytest.raises(CostModelError, match="exists"):
        healed(folder, "factored")
    int8 = ["apply", "--model", str(folder / "dense"), "--decompose", "rank=8", "--weight-dtype", "int8"]
    assert CliRunner().invoke(cli, [*int8, "--out", str(folder / "int8")], catch_exceptions=False).exit_code == 0
    with pytest.raises(InputError, match=r"in int8 cannot be healed: got .*; give a folder .* without --weight-dtype$"):
        healed(folder, "x", factored=folder / "int8")
    other = checkpoint(folder / "other", LLAMA, scale=3.0)
    with pytest.raises(InputError, match=r"--dense is not what the factors were made of: got .*/other"):
        healed(folder, "x", dense=str(other))
    call = ["heal", str(folder / "dense"), "--dense", str(folder / "dense"), "--out", str(folder / "x")]
    texts = ["--text", str(folder / "text.txt"), "--judge-text", str(folder / "other.txt")]
    result = CliRunner().invoke(cli, [*call, *texts])
    assert result.exit_code != 0
    assert not (folder / "x").exists()
