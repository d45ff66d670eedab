"""Assumptions say what the numbers at hand rest on: level, source of the host's launch time, and the rows' keys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from costmodel.decomposition.factors import Decomposition
from costmodel.errors import InputError
from costmodel.families.load import load_model
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import Estimate, estimate
from costmodel.pricing.setup import WorkloadSettings
from costmodel.timing.calibration.load import find_calibration, shipped_calibration
from costmodel.timing.calibration.record import Calibration
from costmodel.units import DType

GPT2, A100, EPYC = load_model("gpt2"), load_hardware("a100-sxm-80gb"), load_hardware("amd-epyc-2t")


def priced(hardware: str, dtype: DType = DType.BF16, calibration: str = "auto") -> Estimate:
    device, work = load_hardware(hardware), Workload.prefill(8, dtype=dtype)
    return estimate(
        GPT2, device, Decomposition(), [work], calibration=find_calibration(calibration, device, dtype, work.runtime)
    )


def level_of(calibration: Calibration | None) -> str:
    work = Workload.prefill(8, dtype=DType.FP32)
    return estimate(GPT2, EPYC, Decomposition(), [work], calibration=calibration).assumptions[0]


def test_the_first_assumption_says_what_was_measured() -> None:
    whole = shipped_calibration(EPYC)
    assert whole is not None
    assert "whole passes (samples)" in level_of(whole)
    assert "measured alone (probes)" in level_of(replace(whole, passes=None, level="probes"))
    assert "datasheet" in level_of(None)
    first = priced("h100-pcie-80gb", DType.FP16).assumptions[0]
    assert "h100-pcie-80gb was not measured for fp16" in first


@pytest.mark.parametrize(("verified", "source"), [(True, "verified"), (False, "unverified")])
def test_the_host_s_launch_time_says_whether_it_was_checked(verified: bool, source: str) -> None:
    figure = replace(next(iter(A100.figures.values())), verified=verified)
    hardware = replace(A100, figures={**A100.figures, "host_launch_s": figure})
    found = estimate(GPT2, hardware, Decomposition(), [Workload.prefill(8)])
    (text,) = (text for text in found.assumptions if text.startswith("eager: "))
    assert f"({source}, " in text


@pytest.mark.parametrize(("stack", "launches"), [("vllm", False), ("transformers", True), (None, True)])
def test_host_time_is_assumed_where_the_stack_launches_whatever_the_runtime_says(
    stack: str | None, launches: bool
) -> None:
    found = estimate(GPT2, A100, Decomposition(), [Workload.prefill(8, stack=stack)])
    assert any("of host time" in text for text in found.assumptions) == launches


def test_a_runtime_that_the_stack_does_not_have_is_refused() -> None:
    asked = WorkloadSettings(model="gpt2", hw="a100-sxm-80gb", stack="vllm", runtime=Runtime.EAGER)
    with pytest.raises(InputError, match="--runtime contradicts --stack vllm"):
        asked.setup()
    assert replace(asked, runtime=Runtime.GRAPH).setup() == replace(asked, runtime=None).setup()


def test_rows_of_operations_have_the_keys_of_the_contract() -> None:
    rows = estimate(GPT2, A100, Decomposition(), [Workload.prefill(8, runtime=Runtime.GRAPH)]).phases[0].op_rows()
    keys = ["name", "kind", "m", "n", "k", "flops", "vector_flops", "hbm_bytes", "kernels", "arithmetic_intensity"]
    keys += ["compute_s", "memory_s", "overhead_s", "latency_s", "bound"]
    assert {tuple(row) for row in rows} == {tuple(keys)}
