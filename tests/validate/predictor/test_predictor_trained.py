"""From a trained model's checkpoint to explored quality: measured, fitted, and read by `costmodel explore`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("scipy")

from trained import Trained, trained_bert, trained_llama

from costmodel.cli import cli as costmodel_cli
from costmodel.cli import run
from validate.cli import cli
from validate.predictor import additivity, fit
from validate.predictor.crossval import candidates


@pytest.mark.parametrize(
    ("make", "forms"),
    [
        (trained_llama, 2),
        pytest.param(trained_llama, 9, marks=pytest.mark.slow),
        pytest.param(trained_bert, 9, marks=pytest.mark.slow),
    ],
)
def test_measured_configurations_predict_others(
    make: type[Trained], forms: int, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(additivity, "REFITS", 20)
    monkeypatch.setattr(fit, "candidates", lambda evidence: candidates(evidence)[:forms])
    trained, records, file = make(), str(tmp_path / "records"), str(tmp_path / "model.sensitivity")
    device = ["--device", "cpu", "--length", "64"]
    calibration = ["--text", str(trained.calibration), "--blocks", "16", "--fisher", "--out", file]
    assert run(cli, ["sensitivity", "--model", str(trained.model), *calibration, *device]) == 0
    text = ["--text", str(trained.text), "--blocks", "8", "--samples", "60", "--threads", "1", "--out", records]
    assert run(cli, ["quality", "--model", str(trained.model), *text, *device]) == 0
    capsys.readouterr()
    out = str(tmp_path / "quality.json")
    words = ["--sensitivity", file, "--ranks", "25%,50%,75%", "--out", out, "--format", "json"]
    assert run(cli, ["quality", "fit", records, *words]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["predictor"]["spearman"] > 0.6  # such small changes of such small models are noise in part
    own, *nulls = (row for row in found["errors"] if row["band"] == "all" and row["protocol"].startswith("10-fold"))
    assert own["mean_abs"] < min(row["mean_abs"] for row in nulls)
    words = ["--space", "per-site", "--ranks", "25%,50%,75%", "--objectives", "params,quality", "--format", "json"]
    explored = ["--model", str(trained.model), "--hw", "a100-sxm-80gb", "--quality", out]
    assert run(costmodel_cli, ["explore", *explored, *words]) == 0
    assert len(json.loads(capsys.readouterr().out)["frontier"]) > 5
