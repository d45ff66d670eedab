"""Passes fitted on a probed device: known factors are found, the file is applied, and stands on probes alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from validating import GPT2, LLAMA, OPT, sample, tiny_spec

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import parse_decomposition
from costmodel.errors import CalibrationError
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import load_hardware, profile_folder
from costmodel.pricing.estimate import estimate
from costmodel.timing.calibration.load import load_calibration, shipped_calibration, time_model
from costmodel.timing.calibration.scaled import SCALED_KEYS
from costmodel.units import DType
from validate.calibration.whole.basis import ProbesBasis
from validate.calibration.whole.passes import Passes, _parts
from validate.calibration.whole.samples import fit_samples
from validate.speed.records import ModelRecord, Sample

HARDWARE = load_hardware("amd-epyc-2t")
SHIPPED = profile_folder() / "calibrations" / "amd-epyc-2t.json"
TRUE = np.array([1.3, 0.8, 3.0, 4e-6])
SPECS = ([], ["rank=2"], ["rank=9"], ["rank=24 form=tucker"], ["layers=1 form=drop"], ["layers=0,2 rank=12"])
WORKS = [
    Workload.prefill(64, batch=2, dtype=DType.FP32),
    Workload.decode(100, batch=8, dtype=DType.FP32),
    Workload.prefill(16, dtype=DType.FP32),
]


@pytest.fixture
def probes(tmp_path: Path) -> Path:
    """The shipped file as it was before passes were fitted."""
    raw = json.loads(SHIPPED.read_text())
    kept = {key: value for key, value in raw.items() if key not in SCALED_KEYS}
    path = tmp_path / "probes.json"
    path.write_text(json.dumps({**kept, "level": "probes"}))
    return path


def records(basis: ProbesBasis) -> list[Sample]:
    """Three models on a device whose factors are TRUE."""
    made = []
    for name, config in (("llama", LLAMA), ("gpt2", GPT2), ("opt", OPT)):
        spec = tiny_spec(config, name)
        model = ModelRecord(name=name, config=config, num_layers=3, weights="random", factors="random")
        for work in WORKS:
            for specs in SPECS:
                decomposition = parse_decomposition(list(specs), spec)
                own, dense = (
                    float(_parts(basis, spec, each, work) @ TRUE) for each in (decomposition, Decomposition())
                )
                place = len(made)
                made.append(
                    sample(
                        list(specs),
                        own / dense,
                        index=place,
                        work=work,
                        dense_s=dense,
                        model=model,
                        id=f"{place:016x}",
                        config=decomposition.to_json(),
                        hardware=HARDWARE.name,
                    )
                )
    return made


def test_known_factors_are_recovered_and_applied(probes: Path, tmp_path: Path) -> None:
    basis = ProbesBasis.of(probes, HARDWARE, DType.FP32, Runtime.EAGER)
    samples = records(basis)
    fit = fit_samples(samples, HARDWARE, probes)
    content = fit.content
    assert (content["form"], content["level"]) == ("scaled", "samples")
    assert content["factors"]["gemm"] == pytest.approx(1.3, rel=0.1)
    assert content["kernel_s"] == pytest.approx(4e-6, rel=0.1)
    rows = {row["protocol"]: row for row in content["errors"] if row["subset"] == "ratio to dense"}
    assert rows["samples, configurations held out (10 folds)"]["median_pct"] < 1
    assert rows["samples, whole models held out"]["median_pct"] < rows["probes, no model seen"]["median_pct"]
    assert "null model: time ~ 0.6 x parameters" in rows

    path = tmp_path / "mine.json"
    path.write_bytes(fit.to_bytes())
    assert path.stat().st_size < probes.stat().st_size + 10_000  # it holds the probes' forms, and no more white space
    calibration, record = load_calibration(path), samples[1]
    assert record.timing is not None
    spec = tiny_spec(LLAMA, "llama")
    found = estimate(spec, HARDWARE, record.decomposition(spec), [record.work()], calibration=calibration)
    phase = found.phases[0].decomposed
    assert phase.latency_s == pytest.approx(record.timing.candidate.median_s, rel=0.05)
    assert (phase.level, found.warnings) == ("samples", ())
    assert phase.latency_s == pytest.approx(found.phases[0].ops()[1].latency_s.sum())
    unknown = estimate(tiny_spec(LLAMA, "other"), HARDWARE, Decomposition(), [WORKS[0]], calibration=calibration)
    assert any("measured on gpt2, llama, opt, taken to hold for other" in text for text in unknown.warnings)


def test_seconds_of_kernels_that_scattered_passes_do_not_tell_stay_near_none(probes: Path) -> None:
    basis = ProbesBasis.of(probes, HARDWARE, DType.FP32, Runtime.EAGER)
    samples = records(basis)
    exact, every = Passes.of(samples, basis), np.arange(len(samples))
    factor = {"llama": 1.25, "gpt2": 0.8, "opt": 1.0}
    off = np.array([factor[each.model.name] for each in samples])
    scattered = replace(exact, seconds=exact.seconds * off[:, None])
    kernel_s = [
        float(replace(scattered, kernel_spread_s=spread).solve(every, every)[-1])
        for spread in (1e-8, basis.kernel_spread_s, 1.0)
    ]
    assert exact.solve(every, every)[-1] == pytest.approx(TRUE[-1], rel=0.1)
    assert kernel_s[0] < 1e-8 + 0.1 * kernel_s[2]
    assert kernel_s[0] < kernel_s[1] < kernel_s[2]


def test_the_shipped_file_scales_its_own_probes(probes: Path) -> None:
    shipped = shipped_calibration(HARDWARE)
    assert shipped is not None
    device = (HARDWARE, DType.FP32, Runtime.EAGER)
    spec, work = tiny_spec(LLAMA), WORKS[0]
    own = time_model(*device, shipped)
    bare = time_model(*device, load_calibration(probes))
    assert (own.level, bare.level) == ("samples", "probes")
    seconds = [
        estimate(spec, HARDWARE, Decomposition(), [work], calibration=each).phases[0].dense
        for each in (shipped, load_calibration(probes))
    ]
    assert seconds[0].latency_s != seconds[1].latency_s


def test_probes_of_another_device_are_refused(probes: Path) -> None:
    with pytest.raises(CalibrationError, match="no calibration from probes of this device"):
        ProbesBasis.of(probes, load_hardware("epyc-9654"), DType.FP32, Runtime.EAGER)
    with pytest.raises(CalibrationError, match="no calibration from probes of this device"):
        ProbesBasis.of(SHIPPED, HARDWARE, DType.FP32, Runtime.EAGER)
    with pytest.raises(CalibrationError, match="does not serve these records"):
        ProbesBasis.of(probes, HARDWARE, DType.BF16, Runtime.EAGER)


BROKEN: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "missing": (lambda raw: raw.pop("factors"), "factors is missing"),
    "class": (lambda raw: raw["factors"].pop("other"), "factors.other is missing"),
    "negative": (lambda raw: raw["factors"].update(attention=-1), "factors.attention: got -1"),
    "no GEMM": (lambda raw: raw["factors"].update(gemm=0), "factors.gemm: got 0"),
    "without probes": (lambda raw: raw.pop("forms"), "forms is missing"),
    "interval": (lambda raw: raw["interval"].update(low=0.5), "interval.low: got 0.5"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_malformed_file_is_one_line(tmp_path: Path, name: str) -> None:
    change, message = BROKEN[name]
    raw = json.loads(SHIPPED.read_text())
    change(raw)
    path = tmp_path / "calibration.json"
    path.write_text(json.dumps(raw))
    with pytest.raises(CalibrationError) as caught:
        load_calibration(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
