"""What docs/deploy.md says of runtimes is what the records hold and what the cost model predicts."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import parse_decomposition
from costmodel.families.load import load_model
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import load_hardware
from costmodel.model import ModelSpec
from costmodel.pricing.estimate import estimate
from costmodel.timing.calibration.load import find_calibration
from costmodel.units import DType
from validate.runtimes.stacks import stack_options
from validate.speed.statistics import ratio_interval

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "deploy.md").read_text()
ROW = re.compile(
    r"^\| (.+?) \| ((?:prompt|step) .*?) \| (.+?) \| ([0-9.]+) \[(.*?), (.*?)\] \| ([0-9.]+) \|$", re.MULTILINE
)
"""Runtime, pass, configuration; ratio and its interval; predicted."""
RECORDS = json.loads((ROOT / "benchmarks" / "runtimes.json").read_text())
NAMES = {"dense, a second time": "dense again"} | {f"{share} % fewer": f"{share} %" for share in (10, 20, 40)}
"""Configurations of the page whose records have another name."""


def record_of(runtime: str, kind: str) -> dict[str, Any]:
    """The first series of a runtime and a pass, which the table shows."""
    name = "onnx" if runtime == "ONNX Runtime" else "compile"
    phase = "prefill" if kind.startswith("prompt") else "decode"
    return next(each for each in RECORDS if (each["runtime"], each["phase"]) == (name, phase))


def configuration(words: str, model: ModelSpec) -> Decomposition:
    """From a SPEC, or a line of a study's records: its file, its method and the share that was asked for."""
    if ".jsonl" not in words:
        return parse_decomposition([words], model)
    file, method, asked = re.fullmatch(r"(\S+), (.+), asked (\S+)", words).groups()  # type: ignore[union-attr]
    lines = map(json.loads, (ROOT / file).read_text().splitlines())
    (found,) = [each["config"] for each in lines if (each["method"], each["asked"]) == (method, float(asked))]
    return Decomposition.from_json(found, model)


def test_measured_ratios_are_of_the_records() -> None:
    rows = ROW.findall(PAGE)
    assert len(rows) == 14
    for runtime, kind, what, *figures, _ in rows:
        record = record_of(runtime, kind)
        assert str(record["tokens"]) in kind
        seconds = record["seconds"]
        found = ratio_interval(seconds[NAMES.get(what, what)], seconds["dense"])
        assert [float(figure) for figure in figures] == pytest.approx(found, abs=6e-4), (runtime, kind, what)


def test_predictions_are_those_of_today() -> None:
    hardware = load_hardware("amd-epyc-2t")
    for runtime, kind, what, *_, predicted in ROW.findall(PAGE):
        record = record_of(runtime, kind)
        model = load_model(record["model"], num_layers=record.get("num_layers"))
        make = Workload.prefill if record["phase"] == "prefill" else Workload.decode
        options = stack_options(record["runtime"], "cpu", DType.FP32, model)
        work = make(record["tokens"], dtype=DType.FP32, **options)
        words = record["configurations"].get(NAMES.get(what, what), "")
        chosen = configuration(words, model) if words else Decomposition()
        calibration = find_calibration("auto", hardware, work.dtype, work.runtime, work.stack)
        assert calibration is not None
        (phase,) = estimate(model, hardware, chosen, [work], calibration=calibration).phases
        ratio = phase.decomposed.latency_s / phase.dense.latency_s
        assert float(predicted) == pytest.approx(ratio, abs=6e-4), (runtime, kind, what)


def test_the_text_says_how_far_the_rows_are_from_the_prediction() -> None:
    off = [
        (runtime, kind, 100 * (float(measured) / float(predicted) - 1))
        for runtime, kind, what, measured, *_, predicted in ROW.findall(PAGE)
        if "second time" not in what
    ]
    assert len(off) == 12
    (holds,) = re.findall(r"In a prompt the prediction holds to (\d+) %", PAGE)
    assert max(abs(each) for _, kind, each in off if kind.startswith("prompt")) <= int(holds)
    ((low, high),) = re.findall(r"The steps by ONNX Runtime in this table are (\d+) to (\d+) % below it", PAGE)
    steps = [-each for runtime, kind, each in off if kind.startswith("step") and runtime == "ONNX Runtime"]
    assert (round(min(steps)), round(max(steps))) == (int(low), int(high))
