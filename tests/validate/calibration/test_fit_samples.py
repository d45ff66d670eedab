"""Fits to records of whole passes: known factors are found, nothing held out is seen, the file is applied."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from validating import LLAMA, sample, tiny_spec, write_config

from costmodel.cli import main as costmodel
from costmodel.decomposition.factors import Decomposition
from costmodel.errors import CalibrationError
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import estimate
from costmodel.timing.calibration.load import find_calibration, load_calibration
from costmodel.timing.columns import OpColumns
from costmodel.units import DType
from validate.calibration.whole.basis import RooflineBasis
from validate.calibration.whole.passes import MIN_SAMPLES, Passes, _parts
from validate.calibration.whole.samples import SamplesFit, fit_samples
from validate.cli import main as validate
from validate.errors import FitError
from validate.speed.records import SAMPLES, Identity, Sample

HARDWARE = load_hardware("epyc-9654")
BASIS = RooflineBasis.of(HARDWARE, DType.FP32, Runtime.EAGER)
TRUE = (2.0, 3.0, 4.0, 1.5, 2.5, 1.2, 3e-6)
SPECS = (
    [],
    ["rank=2"],
    ["rank=9"],
    ["rank=24 form=tucker"],
    ["tensors=mlp rank=16"],
    ["tensors=attn rank=5"],
    ["layers=1 form=drop"],
    ["layers=0,2 rank=12"],
    ["rank=32"],
)
WORKS = [
    Workload.prefill(64, batch=2, dtype=DType.FP32),
    Workload.decode(100, batch=8, dtype=DType.FP32),
    Workload.prefill(16, dtype=DType.FP32),
    Workload.decode(33, dtype=DType.FP32),
]


@functools.cache
def records(noise: float = 0.0, seed: int = 0) -> list[Sample]:
    """A run on a device whose factors are TRUE."""
    basis, rng, made = BASIS, np.random.default_rng(seed), []
    for index, (work, specs) in enumerate((work, specs) for work in WORKS for specs in SPECS):
        record = sample(list(specs), 1.0, index=index, work=work)
        spec = record.spec()
        own, dense = (
            float(_parts(basis, spec, each, work) @ TRUE) * math.exp(noise * rng.standard_normal())
            for each in (record.decomposition(spec), Decomposition())
        )
        made.append(sample(list(specs), own / dense, index=index, work=work, dense_s=dense))
    return made


@functools.cache
def fitted() -> SamplesFit:
    """To `records` without noise."""
    return fit_samples(records(), HARDWARE)


def run_folder(folder: Path, samples: list[Sample]) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "samples.jsonl").write_bytes(b"".join(map(SAMPLES.encode, samples)))
    return folder


def call(main: Callable[[list[str]], None], *arguments: str) -> int:
    """The exit code of a command."""
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    return int(caught.value.code or 0)


def test_known_factors_are_recovered() -> None:
    fit = fitted()
    assert len(fit.predicted) == len(SPECS) * len(WORKS)
    for record in records():
        assert record.timing is not None
        dense, own = fit.predicted[record.id]
        assert own / dense == pytest.approx(record.timing.ratio, rel=0.03)
        assert dense == pytest.approx(record.timing.dense.median_s, rel=0.1)
    assert fit.content["kernel_s"] == pytest.approx(TRUE[-1], rel=0.1)
    assert fit.content["errors"][0]["subset"] == "ratio to dense"
    assert fit.content["errors"][0]["points"] == (len(SPECS) - 1) * len(WORKS)
    assert 0 < fit.content["errors"][0]["signs"] <= (len(SPECS) - 1) * len(WORKS)
    assert fit.content["errors"][0]["sign_pct"] == 100


def test_a_fit_to_passes_of_a_stack_serves_that_stack_alone(tmp_path: Path) -> None:
    by_stack = [
        msgspec.structs.replace(each, workload={**each.workload, "stack": "llama.cpp-cpu"}) for each in records()
    ]
    path = tmp_path / "calibration.json"
    path.write_bytes(fit_samples(by_stack, HARDWARE).to_bytes())
    calibration = find_calibration(str(path), HARDWARE, DType.FP32, Runtime.EAGER, "llamafile")
    assert calibration is not None
    assert calibration.stack == "llama.cpp-cpu"
    for other in (None, "eager"):
        with pytest.raises(CalibrationError, match=r"runs of a stack: got '.*'; allowed: --stack llama.cpp-cpu"):
            find_calibration(str(path), HARDWARE, DType.FP32, Runtime.EAGER, other)
    # the stack's own figures are in the passes already, and are not applied a second time
    work = replace(WORKS[0], stack="llama.cpp-cpu")
    plain = records()
    path.write_bytes(fitted().to_bytes())
    bare = estimate(tiny_spec(LLAMA), HARDWARE, Decomposition(), [WORKS[0]], calibration=load_calibration(path))
    own = estimate(tiny_spec(LLAMA), HARDWARE, Decomposition(), [work], calibration=calibration)
    assert own.phases[0].dense.latency_s == pytest.approx(bare.phases[0].dense.latency_s, rel=1e-9)
    with pytest.raises(FitError, match="one type and stack"):
        fit_samples([*by_stack, *plain], HARDWARE)


def test_noise_shows_in_the_held_out_error_and_the_interval() -> None:
    clean, noisy = fitted().content, fit_samples(records(noise=0.1), HARDWARE).content
    assert noisy["errors"][0]["median_pct"] > 3 > clean["errors"][0]["median_pct"]
    assert noisy["interval"]["high"] - noisy["interval"]["low"] > 0.2


def test_heads_in_pairs_are_read_once_for_two_sequences_of_a_prefill_and_once_in_all_of_a_decode_step() -> None:
    works = [Workload.prefill(8, batch=batch, dtype=DType.FP32) for batch in (1, 2, 5)]
    works.append(Workload.decode(9, batch=5, dtype=DType.FP32))
    samples = [sample([], 1.0, index=index, work=work) for index, work in enumerate(works)]
    paired, whole = (Passes.of(samples, BASIS, heads_in_pairs=pairs).parts[:, 1] for pairs in (True, False))
    spec = samples[0].spec()

    def head(batch: int) -> Any:
        work = replace(works[0], batch=batch)
        ops = [op for op in forward_ops(spec, Decomposition(), work) if op.name == "lm_head"]
        return BASIS.parts(OpColumns.of(ops)).sum(axis=-1)

    assert np.allclose(paired - whole, [0 * head(1), head(1) - head(2), 3 * head(1) - head(5), 0 * head(1)], atol=1e-15)


def test_a_record_of_another_model_than_its_configuration_names_is_refused() -> None:
    good = records()
    other = msgspec.structs.replace(good[3], identity=[Identity(name="params", expected=7, found=7)])
    with pytest.raises(FitError, match="measured another"):
        fit_samples([*good[:3], other, *good[4:]], HARDWARE)


def test_nothing_held_out_is_fitted_to() -> None:
    samples = records()
    problem = Passes.of(samples, BASIS)
    for name in set(problem.configurations):
        test = np.flatnonzero(np.array(problem.configurations) == name)
        own, dense = problem.unseen(test)
        assert len(test)
        held = {json.dumps(samples[i].config) for i in test if samples[i].strata.form != "dense"}
        assert held.isdisjoint(json.dumps(samples[i].config) for i in own)
        passes = {json.dumps(samples[i].workload) for i in test}
        assert passes.isdisjoint(json.dumps(samples[i].workload) for i in dense)
        assert not [i for i in own if samples[i].strata.form == "dense" and json.dumps(samples[i].workload) in passes]


def test_a_held_out_prediction_does_not_depend_on_its_measurement() -> None:
    samples = records(noise=0.05)
    problem = Passes.of(samples, BASIS)
    predicted, _ = problem.held_out(problem.configurations)
    chosen = [i for i, each in enumerate(problem.configurations) if each == problem.configurations[1]]
    seconds = problem.seconds.copy()
    seconds[chosen, 0] *= 7
    changed, _ = replace(problem, seconds=seconds).held_out(problem.configurations)
    assert (changed[chosen] == predicted[chosen]).all()
    assert (changed != predicted).any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_times_that_are_no_times_are_passed_over(bad: float) -> None:
    good = records()
    timing = good[3].timing
    assert timing is not None
    series = msgspec.structs.replace(timing.candidate, median_s=bad)
    broken = msgspec.structs.replace(good[3], timing=msgspec.structs.replace(timing, candidate=series))
    fit = fit_samples([*good[:3], broken, *good[4:]], HARDWARE)
    assert broken.id not in fit.predicted
    assert np.isfinite([each for pair in fit.predicted.values() for each in pair]).all()
    json.loads(fit.to_bytes(), parse_constant=pytest.fail)


def test_too_few_and_mixed_records_are_refused() -> None:
    for samples in ([], records()[: MIN_SAMPLES - 1], [sample(["rank=2"], None)] * 20):
        with pytest.raises(FitError, match="usable samples; allowed: at least 8"):
            fit_samples(samples, HARDWARE)
    with pytest.raises(FitError, match="another device"):
        fit_samples(records(), load_hardware("epyc-7763"))
    with pytest.raises(FitError, match="too few configurations"):
        fit_samples([records()[1]] * 10, HARDWARE)


def test_estimate_applies_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_folder(tmp_path / "run", records())
    assert call(validate, "fit", str(folder)) == 0
    assert "ratio to dense" in capsys.readouterr().out
    path = folder / "calibration.json"
    calibration = load_calibration(path)
    spec, record = tiny_spec(LLAMA), records()[1]
    found = estimate(spec, HARDWARE, record.decomposition(spec), [record.work()], calibration=calibration)
    phase = found.phases[0].decomposed
    assert record.timing is not None
    assert phase.latency_s == pytest.approx(record.timing.candidate.median_s, rel=0.1)
    assert phase.latency_p05_s is not None
    assert phase.latency_p05_s <= phase.latency_s <= phase.latency_p95_s  # type: ignore[operator]
    assert (phase.level, found.warnings) == ("samples", ())
    assert phase.latency_s == pytest.approx(found.phases[0].ops()[1].latency_s.sum())

    model = write_config(tmp_path / "other", LLAMA)
    code = call(
        costmodel,
        "estimate",
        "--model",
        str(model),
        "--hw",
        "epyc-9654",
        "--calibration",
        str(path),
        "--dtype",
        "fp32",
        "--seq-len",
        "100",
        "--decompose",
        "rank=4",
        "--format",
        "json",
    )
    result = json.loads(capsys.readouterr().out)
    assert code == 0
    assert {each["decomposed"]["level"] for each in result["phases"]} == {"samples"}
    assert any("taken to hold for other" in text for text in result["warnings"])


def test_the_report_has_the_level_and_writes_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = run_folder(tmp_path / "run", records())
    assert call(validate, "report", str(folder), "--format", "json") == 0
    result = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in result["ratio_errors"]][:2] == ["datasheet", "samples"]
    assert result["paths"]["calibration"] == str(folder / "calibration.json")
    assert load_calibration(folder / "calibration.json").level == "samples"
    assert "samples is fitted to this run" in (folder / "report.html").read_text()

    few = run_folder(tmp_path / "few", records()[:3])
    assert call(validate, "report", str(few)) == 0
    assert "note: no calibration.json: 3 usable samples; allowed: at least 8" in capsys.readouterr().out
    assert not (few / "calibration.json").exists()
    assert call(validate, "fit", str(few)) == 1
    assert capsys.readouterr().err == "error: 3 usable samples; allowed: at least 8\n"


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "form": (lambda raw: raw.update(form="cubic"), "form: got 'cubic'; allowed: additive, scaled"),
    "form type": (lambda raw: raw.update(form=[]), "form: got "),
    "missing": (lambda raw: raw.pop("base"), "base is missing"),
    "unknown": (lambda raw: raw.update(extra=1), "unknown key in the file: got 'extra'"),
    "negative": (lambda raw: raw["factors"]["gemm"].update(memory=-1), "factors.gemm.memory: got -1"),
    "not finite": (lambda raw: raw.update(kernel_s=math.nan), "kernel_s: got nan"),
    "no GEMM": (lambda raw: raw["factors"].update(gemm={"compute": 0, "memory": 0}), "factors.gemm: got '0 and 0'"),
    "class": (lambda raw: raw["factors"].pop("other"), "factors.other is missing"),
    "rate": (lambda raw: raw["base"].update(memory_bytes_per_s=0), "base.memory_bytes_per_s: got 0"),
    "interval": (lambda raw: raw["interval"].update(low=0.5), "interval.low: got 0.5"),
    "range": (lambda raw: raw["range"].update(tokens=[5, 2]), "range.tokens: got "),
    "models": (lambda raw: raw["range"].update(models="tiny"), "range.models: got 'tiny'; allowed: a list"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_malformed_file_is_one_line(tmp_path: Path, name: str) -> None:
    change, message = BROKEN[name]
    raw = dict(json.loads(fitted().to_bytes()))
    change(raw)
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(CalibrationError) as caught:
        load_calibration(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
