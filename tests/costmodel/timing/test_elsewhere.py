"""Forms of other types, weights that were never cold, and what other laboratories measured, in calibration files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from costmodel.errors import CalibrationError
from costmodel.forward.workload import Runtime
from costmodel.hardware.profile import load_hardware, profile_folder
from costmodel.timing.calibration.load import find_calibration, load_calibration, time_model
from costmodel.timing.columns import OpColumns
from costmodel.units import DType

H100 = profile_folder() / "calibrations" / "h100-sxm-80gb.json"
ENTRY = {
    "form": "gemm",
    "differs": "laboratory",
    "source": "somebody",
    "points": 100,
    "size_edges": [64.5],
    "bias": [0.1, 0.4],
    "sd": [0.05, 0.1],
}
SHAPE = np.array([[16.0, 4096, 4096], [4096, 4096, 4096]]).T


def edited(tmp_path: Path, change: Callable[[dict[str, Any]], Any]) -> Path:
    raw = json.loads(H100.read_text())
    change(raw)
    path = tmp_path / "h100-sxm-80gb.json"
    path.write_text(json.dumps(raw))
    return path


def test_the_interval_holds_what_another_laboratory_measured(tmp_path: Path) -> None:
    alone = load_calibration(edited(tmp_path, lambda raw: raw.update(elsewhere=[]))).shaped["gemm"]
    both = load_calibration(edited(tmp_path, lambda raw: raw.update(elsewhere=[ENTRY]))).shaped["gemm"]
    ours, theirs = (form.times(SHAPE, *form.nominal_work(SHAPE)) for form in (alone, both))
    assert theirs.latency_s.tolist() == ours.latency_s.tolist()
    assert (theirs.p05_s <= ours.p05_s).all()
    ends = np.log(theirs.p95_s / theirs.latency_s)
    assert ends == pytest.approx([0.1 + 1.645 * 0.05, 0.4 + 1.645 * 0.1])
    assert (ends >= np.log(ours.p95_s / ours.latency_s)).all()


def test_weights_that_were_never_read_out_of_memory_are_outside_of_what_was_measured(tmp_path: Path) -> None:
    path = edited(tmp_path, lambda raw: raw["forms"]["gemm"].update(cold_bytes=2 * 4096 * 4096 + 1))
    form = load_calibration(path).shaped["gemm"]
    shapes = np.array([[16.0, 4096, 4096], [16, 4096, 8192], [16, 8192, 4096], [16, 1024, 8192]])
    assert form.outside(shapes.T).tolist() == [True, False, False, True]


def test_gemms_in_fp8_have_a_form_of_their_own() -> None:
    hardware = load_hardware("h100-sxm-80gb")
    calibration = find_calibration("auto", hardware, DType.FP8, Runtime.GRAPH)
    assert calibration is not None
    model = time_model(hardware, DType.FP8, Runtime.GRAPH, calibration)
    m, n, k = SHAPE.astype(np.int64)
    zero = np.zeros_like(m)
    fp8 = np.array([True, False])
    moved = np.where(fp8, k * (m + n), 2 * k * (m + n)) + 2 * m * n
    columns = OpColumns(
        kind="gemm",
        m=m,
        n=n,
        k=k,
        executed_flops=2 * m * n * k,
        vector_flops=zero,
        hbm_bytes=moved,
        kernels=zero + 1,
        fp8=fp8,
    )
    found = model.times(columns).latency_s
    for row, name in enumerate(("gemm:fp8", "gemm")):
        form = calibration.shaped[name]
        shape = SHAPE[:, row : row + 1]
        assert found[row] == form.times(shape, *form.nominal_work(shape)).latency_s[0]
    assert calibration.shaped["gemm:fp8"].nominal_work(SHAPE)[1].tolist() == (k * (m + n) + 2 * m * n).tolist()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("form", "norm", "elsewhere[0].form: got 'norm'; allowed: gemm, gemm:fp8"),
        ("differs", "mood", "elsewhere[0].differs: got 'mood'; allowed: laboratory, stack"),
        ("size_edges", [2, 1], "elsewhere[0].size_edges: got [2, 1]; allowed: increasing numbers"),
        ("bias", [0.1], "elsewhere[0].bias"),
        ("sd", [-0.1, 0.1], "elsewhere[0].sd"),
        ("points", 0, "elsewhere[0].points: got 0"),
    ],
)
def test_a_malformed_entry_is_one_line(tmp_path: Path, key: str, value: Any, message: str) -> None:
    path = edited(tmp_path, lambda raw: raw.update(elsewhere=[{**ENTRY, key: value}]))
    with pytest.raises(CalibrationError) as caught:
        load_calibration(path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
