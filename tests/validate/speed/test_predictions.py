"""Which calibration predicts a run: never one that does not serve it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from costmodel.decomposition.factors import Decomposition
from costmodel.errors import CalibrationError
from costmodel.families.load import load_model
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import HardwareProfile, load_hardware, profile_folder
from costmodel.units import DType
from validate.speed.predictions import Predictor, calibrations_for

A100, MI300X = load_hardware("a100-sxm-80gb"), load_hardware("mi300x")
BOTH = {Runtime.EAGER, Runtime.GRAPH}
MODEL = load_model("llama-70m")


@pytest.fixture
def own(tmp_path: Path) -> str:
    """As `validate fit` leaves it on a GPU: of replayed graphs alone, and told from the shipped one by its level."""
    return write(tmp_path / "calibration.json", A100)


def write(path: Path, hardware: HardwareProfile) -> str:
    content = json.loads((profile_folder() / "calibrations" / "a100-sxm-80gb.json").read_text())
    content |= {"hardware": hardware.name, "runtimes": ["graph"], "level": "samples"}
    path.write_text(json.dumps(content))
    return str(path)


def levels(predictor: Predictor, runtime: Runtime, dtype: DType = DType.BF16) -> list[str]:
    work = Workload.decode(129, dtype=dtype, runtime=runtime)
    return [each.level for each in predictor.predictions(MODEL, Decomposition(), work)]


def test_a_run_that_the_file_does_not_serve_falls_back_to_the_shipped_calibration(own: str) -> None:
    calibrations, notes = calibrations_for(own, A100, DType.BF16, BOTH)
    predictor = Predictor(hardware=A100, calibrations=calibrations)
    assert levels(predictor, Runtime.GRAPH) == ["datasheet", "samples"]
    assert levels(predictor, Runtime.EAGER) == ["datasheet", "probes"]
    assert notes == [
        f"{own} does not serve eager runs, which are predicted by the calibration that ships for a100-sxm-80gb"
    ]


def test_without_a_shipped_one_it_falls_back_to_the_generation(tmp_path: Path) -> None:
    own = write(tmp_path / "calibration.json", MI300X)
    calibrations, notes = calibrations_for(own, MI300X, DType.BF16, BOTH)
    predictor = Predictor(hardware=MI300X, calibrations=calibrations)
    assert levels(predictor, Runtime.GRAPH) == ["datasheet", "samples"]
    assert levels(predictor, Runtime.EAGER) == ["datasheet", "generation"]
    assert notes == [f"{own} does not serve eager runs, which are predicted by what is known of devices like mi300x"]


def test_a_calibration_is_not_used_for_a_type_that_it_does_not_serve(own: str) -> None:
    calibrations, _ = calibrations_for(own, A100, DType.BF16, {Runtime.GRAPH})
    assert levels(Predictor(hardware=A100, calibrations=calibrations), Runtime.GRAPH, DType.FP32) == ["datasheet"]


def test_a_file_that_serves_no_run_is_refused(own: str) -> None:
    with pytest.raises(CalibrationError, match="does not serve this runtime"):
        calibrations_for(own, A100, DType.BF16, {Runtime.EAGER})
    with pytest.raises(CalibrationError, match="does not serve this dtype"):
        calibrations_for(own, A100, DType.FP32, BOTH)
    with pytest.raises(CalibrationError, match="another device"):
        calibrations_for(own, MI300X, DType.BF16, BOTH)


@pytest.mark.parametrize(("option", "count"), [("none", 0), ("auto", 1)])
def test_words_instead_of_a_file_need_no_note(option: str, count: int) -> None:
    calibrations, notes = calibrations_for(option, A100, DType.BF16, BOTH)
    assert (len(calibrations), notes) == (count, [])
