"""Every error and interval of a calibration from whole passes is of times that its fit had not seen.

As in test_held_out.py, times are changed strongly: what was predicted of them must stay, the rest must move.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from validating import LLAMA, sample, timing

from costmodel.arrays import Floats
from costmodel.decomposition.factors import Decomposition
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.units import DType
from validate.calibration.spread import ends
from validate.calibration.whole.basis import RooflineBasis
from validate.calibration.whole.passes import FOLDS, Passes, _parts
from validate.calibration.whole.samples import MIN_MODELS, SamplesFit, fit_samples
from validate.cli import main as validate
from validate.speed.metrics import evaluate
from validate.speed.records import SAMPLES, ModelRecord, Sample

HARDWARE = load_hardware("epyc-9654")
BASIS = RooflineBasis.of(HARDWARE, DType.FP32, Runtime.EAGER)
TRUE = np.array([2.0, 3.0, 4.0, 1.5, 2.5, 1.2, 3e-6])
WORKS = [Workload.prefill(64, batch=2, dtype=DType.FP32), Workload.decode(33, batch=4, dtype=DType.FP32)]
RANKS = [[], *([f"rank={rank}"] for rank in (2, 5, 9, 16, 24)), ["tensors=mlp rank=12"], ["tensors=attn rank=7"]]
MODELS = ("narrow", "middle", "wide", "deep")
WILD = 1 / 3
"""Too short counts more than too long where errors are relative to what was measured."""


def records(own: Sequence[float] = (1.0, 1.0, 1.0, 1.0)) -> list[Sample]:
    """Four models on a device of known factors, with a little noise; all times of a model `own` times as long."""
    rng, made = np.random.default_rng(3), []
    for place, (name, factor) in enumerate(zip(MODELS, own, strict=True)):
        layers = 3 + place % 2
        config = {**LLAMA, "intermediate_size": 96 + 32 * place, "num_hidden_layers": layers}
        model = ModelRecord(name=name, config=config, num_layers=layers, weights="random", factors="random")
        for work in WORKS:
            for specs in RANKS:
                index = len(made)
                record = sample(list(specs), 1.0, index=index, work=work, model=model, id=f"{name} {index}")
                spec = record.spec()
                seconds = [
                    factor * float(_parts(BASIS, spec, each, work) @ TRUE * np.exp(0.05 * rng.standard_normal()))
                    for each in (record.decomposition(spec), Decomposition())
                ]
                made.append(timed(record, *seconds))
    return made


def timed(record: Sample, own_s: float, dense_s: float) -> Sample:
    return msgspec.structs.replace(record, timing=timing(own_s / dense_s, dense_s=dense_s))


@pytest.fixture(scope="module")
def samples() -> list[Sample]:
    return records()


@pytest.fixture(scope="module")
def fit(samples: list[Sample]) -> SamplesFit:
    return fit_samples(samples, HARDWARE)


def names_of(samples: Sequence[Sample]) -> list[str]:
    return [each.model.name for each in samples]


def wild(problem: Passes, test: Floats) -> Passes:
    """All that may not be looked at when samples `test` are predicted takes a third of its time."""
    own, dense = problem.unseen(test)
    seconds = WILD * problem.seconds
    seconds[own, 0] = problem.seconds[own, 0]
    seconds[dense, 1] = problem.seconds[dense, 1]
    return replace(problem, seconds=seconds)


@pytest.mark.parametrize("by", ["configurations", "models"])
def test_a_group_is_predicted_by_those_who_have_not_seen_it(samples: list[Sample], by: str) -> None:
    """Neither its own passes under any workload nor its dense ones."""
    problem = Passes.of(samples, BASIS)
    groups = problem.configurations if by == "configurations" else names_of(samples)
    before, folds = problem.held_out(groups)
    assert folds == (FOLDS if by == "configurations" else len(MODELS))
    names = list(dict.fromkeys(groups))
    for fold in range(folds):
        test = np.array([names.index(name) % folds == fold for name in groups])
        after, _ = wild(problem, np.flatnonzero(test)).held_out(groups)
        assert after[test] == pytest.approx(before[test], rel=1e-9)
        for other in set(range(folds)) - {fold}:
            rest = np.array([names.index(name) % folds == other for name in groups])
            assert np.abs(np.log(after[rest] / before[rest])).max() > 0.05


def test_what_is_held_out_is_its_configuration_and_its_dense_model(samples: list[Sample]) -> None:
    """Under all workloads the one, under its own the other; of whole models nothing is left."""
    problem = Passes.of(samples, BASIS)
    for test in range(len(samples)):
        own, dense = problem.unseen(np.array([test]))
        mine = samples[test]
        for index, other in enumerate(samples):
            same_model = other.model.name == mine.model.name
            same_pass = same_model and other.workload == mine.workload
            same = same_model and other.config == mine.config and mine.strata.form != "dense"
            assert (index in own) == (not same and not (same_pass and other.strata.form == "dense"))
            assert (index in dense) == (not same_pass)
    for name in MODELS:
        members = np.flatnonzero(np.array(names_of(samples)) == name)
        for left in problem.unseen(members):
            assert sorted({*left, *members}) == list(range(len(samples)))
            assert not set(left) & set(members)


def test_predictions_of_a_fit_do_not_depend_on_their_measurements(samples: list[Sample], fit: SamplesFit) -> None:
    problem = Passes.of(samples, BASIS)
    names = list(dict.fromkeys(problem.configurations))
    test = np.array([names.index(name) % FOLDS == 4 for name in problem.configurations])
    seconds = problem.seconds.copy()
    seconds[test, 0] *= WILD
    changed = [timed(each, *pair) for each, pair in zip(samples, seconds.tolist(), strict=True)]
    after = fit_samples(changed, HARDWARE)
    for each, held in zip(samples, test, strict=True):
        if held:
            assert after.predicted[each.id] == pytest.approx(fit.predicted[each.id], rel=1e-9)
    assert sum(after.predicted[each.id] != fit.predicted[each.id] for each in samples) > len(samples) / 2


def test_the_interval_is_of_held_out_errors(samples: list[Sample], fit: SamplesFit) -> None:
    """Of both passes of each sample; those of the fit to all samples are smaller."""
    residuals = np.array([
        np.log(measured / predicted)
        for each in samples if each.timing is not None
        for measured, predicted in zip(
            (each.timing.dense.median_s, each.timing.candidate.median_s), fit.predicted[each.id], strict=True
        )
    ])  # fmt: skip
    low, high = ends(residuals)
    assert fit.content["interval"]["low"] == pytest.approx(low, rel=1e-4)
    assert fit.content["interval"]["high"] == pytest.approx(high, rel=1e-4)
    assert low < -0.05
    assert high > 0.05


def test_each_protocol_has_the_errors_of_its_own_predictions() -> None:
    """Times of one model are four times as long, so that knowing it and not knowing it are different things."""
    samples = records(own=(1.0, 1.0, 1.0, 4.0))
    fit = fit_samples(samples, HARDWARE)
    unseen, _ = Passes.of(samples, BASIS).held_out(names_of(samples))
    levels = {
        f"samples, configurations held out ({FOLDS} folds)": dict(fit.predicted),
        "samples, whole models held out": {
            each.id: (dense, own) for each, (own, dense) in zip(samples, unseen.tolist(), strict=True)
        },
    }
    found = evaluate(samples, levels)
    for subset, expected in (("ratio to dense", found.ratios), ("seconds", found.latencies)):
        errors = {row.name: row for row in expected}
        rows = {row["protocol"]: row for row in fit.content["errors"] if row["subset"] == subset}
        for name in levels:
            assert rows[name]["points"] == errors[name].count
            assert rows[name]["mean_pct"] == pytest.approx(100 * errors[name].mean, rel=0.01)
        known, unknown = (rows[name]["mean_pct"] for name in levels)
        assert known != pytest.approx(unknown, rel=0.01)


def test_whole_models_are_held_out_where_there_are_enough(samples: list[Sample]) -> None:
    for count in (MIN_MODELS - 1, MIN_MODELS):
        chosen = [each for each in samples if each.model.name in MODELS[:count]]
        protocols = {row["protocol"] for row in fit_samples(chosen, HARDWARE).content["errors"]}
        assert ("samples, whole models held out" in protocols) == (count == MIN_MODELS)


def test_the_report_shows_the_held_out_errors(
    tmp_path: Path, samples: list[Sample], fit: SamplesFit, capsys: pytest.CaptureFixture[str]
) -> None:
    """The level `samples` of a run's own report is not in sample either."""
    (tmp_path / "samples.jsonl").write_bytes(b"".join(map(SAMPLES.encode, samples)))
    with pytest.raises(SystemExit) as caught:
        validate(["report", str(tmp_path), "--format", "json"])
    assert caught.value.code == 0
    shown: dict[str, Any] = json.loads(capsys.readouterr().out)
    rows = {(row["subset"], row["protocol"]): row for row in fit.content["errors"]}
    held_out = f"samples, configurations held out ({fit.folds} folds)"
    for key, subset in (("ratio_errors", "ratio to dense"), ("latency_errors", "seconds")):
        (row,) = (row for row in shown[key] if row["name"] == "samples")
        assert 100 * row["mean"] == pytest.approx(rows[subset, held_out]["mean_pct"], rel=0.01)
