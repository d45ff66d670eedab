"""What is asked for is measured as it is asked for, or refused; only defaults adapt, and that is said."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from validating import BERT, LLAMA, FakeGpu

from costmodel.cli import run
from costmodel.decomposition.factors import Decomposition
from costmodel.errors import InputError
from costmodel.forward.workload import ExpertKernels
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import estimate
from costmodel.timing.calibration.load import find_calibration
from costmodel.units import DType
from validate.cli import cli
from validate.speed.planning import adaptations, cases, model_of, workloads
from validate.speed.predictions import Predictor
from validate.speed.settings import MeasureSettings


class SmallDevice(FakeGpu):
    """Takes the levels of a CPU."""

    kind = "cpu"


def plan(
    folder: Path, config: dict[str, Any] = LLAMA, positions: int = 64, **options: Any
) -> tuple[list[Any], list[str]]:
    """Cases of a model of so many positions, and what is said of them."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**config, "max_position_embeddings": positions}))
    settings = MeasureSettings(model=str(folder), **options)
    spec = model_of(settings)
    choice = workloads(settings, spec, SmallDevice(), DType.FP32)
    planned = cases(settings, spec, choice)
    return planned, adaptations(settings, spec, choice, planned)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"seq_len": (128,)}, "--seq-len is beyond the model: got 128; allowed: up to 64"),
        ({"seq_len": (16, 65)}, "--seq-len is beyond the model: got 65"),
        ({"kv_len": (4000,)}, "--kv-len is beyond the model: got 4000; allowed: up to 64"),
        ({"kv_len": (16,), "phase": "prefill"}, "--kv-len says nothing"),
        ({"seq_len": (16,), "phase": "decode"}, "--seq-len says nothing"),
        ({"kv_len": (16,), "config": BERT}, "--kv-len says nothing"),
    ],
)
def test_a_length_that_cannot_be_is_refused(options: dict[str, Any], told: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=told):
        plan(tmp_path, **options)


def test_lengths_that_are_asked_for_are_measured(tmp_path: Path) -> None:
    planned, told = plan(tmp_path, seq_len=(64,), kv_len=(63,), batch=(8,), samples=12)
    assert {case.work.kv_len for case in planned} == {64, 63}
    assert {case.work.batch for case in planned} == {8}
    assert told == []


def test_defaults_adapt_and_say_so(tmp_path: Path) -> None:
    planned, told = plan(tmp_path, samples=40)
    assert max(case.work.kv_len for case in planned) == 64
    assert [line.partition(" are")[0] for line in told] == ["prompts", "decode steps' lengths"]
    assert "64 positions" in told[0]
    assert plan(tmp_path, positions=2048, batch=(1,), samples=12)[1] == []


@pytest.mark.parametrize(
    ("runtime", "way"), [("auto", "looped"), ("eager", "looped"), ("onnx", "looped"), ("compile", "fused")]
)
def test_a_plan_says_how_experts_run_and_the_prediction_prices_that(runtime: str, way: str, tmp_path: Path) -> None:
    config = {**LLAMA, "model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 2}
    planned, _ = plan(tmp_path, config, runtime=runtime, samples=4)
    ways = {case.work.experts for case in planned}
    assert ways == {ExpertKernels(way)}
    hardware, work = load_hardware("amd-epyc-2t"), planned[0].work
    calibration = find_calibration("auto", hardware, DType.FP32, work.runtime, work.stack)
    assert calibration is not None
    predictor = Predictor(hardware=hardware, calibrations=[calibration])
    priced = {
        each.value: estimate(
            planned[0].spec, hardware, Decomposition(), [replace(work, experts=each)], calibration=calibration
        )
        for each in ExpertKernels
    }
    seconds = {name: answer.phases[0].dense.latency_s for name, answer in priced.items()}
    assert predictor.predictions(planned[0].spec, Decomposition(), work)[-1].dense_s == seconds[way]
    assert seconds["fused"] < seconds["looped"]


def test_the_command_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**LLAMA, "max_position_embeddings": 64}))
    arguments = ["--model", str(tmp_path), "--samples", "2", "--seq-len", "128", "--out", str(tmp_path / "out")]
    assert run(cli, arguments) == 2
    assert capsys.readouterr().err == "error: --seq-len is beyond the model: got 128; allowed: up to 64\n"
    assert not (tmp_path / "out").exists()
