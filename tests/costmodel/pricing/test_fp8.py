"""Passes in fp8 and caches of another type: what changes its size and what does not."""

import numpy as np
import pytest

from costmodel.cli import cli, run
from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import parse_decomposition
from costmodel.families.load import load_model
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.model import ModelSpec
from costmodel.pricing.estimate import estimate
from costmodel.pricing.phase import PhaseCosts
from costmodel.timing.calibration.load import find_calibration
from costmodel.units import DType

MODEL = load_model("llama-70m")
SITES = sum(tensor.weight_params for tensor in MODEL.tensors) * MODEL.num_layers


def costs(
    hardware: str = "h100-sxm-80gb",
    model: ModelSpec = MODEL,
    *,
    spec: str = "",
    new_tokens: int | None = None,
    **how: object,
) -> PhaseCosts:
    device, work = load_hardware(hardware), Workload.prefill(2048, runtime=Runtime.GRAPH, **how)
    decomposition = parse_decomposition([spec], model, Decomposition()) if spec else Decomposition()
    calibration = find_calibration("auto", device, work.dtype, work.runtime)
    answer = estimate(model, device, decomposition, [work], calibration=calibration, new_tokens=new_tokens)
    return answer.phases[0].decomposed


def test_fp8_halves_the_decomposable_weights_alone() -> None:
    half, fp8 = costs(), costs(dtype=DType.FP8)
    assert half.weight_bytes - fp8.weight_bytes == SITES
    assert (fp8.flops, fp8.params, fp8.kv_cache_bytes) == (half.flops, half.params, half.kv_cache_bytes)


@pytest.mark.parametrize("hardware", ["h100-sxm-80gb", "l4", "l40s"])
def test_fp8_is_faster_where_products_are_large(hardware: str) -> None:
    large = load_model("llama2-7b")
    assert costs(hardware, large, dtype=DType.FP8).latency_s < 0.9 * costs(hardware, large).latency_s


def test_factors_and_requests_run_in_fp8_too() -> None:
    small = costs(dtype=DType.FP8, spec="rank=8", new_tokens=4)
    assert small.weight_bytes < costs(dtype=DType.FP8).weight_bytes


def test_a_cache_in_fp8_takes_half_the_bytes_and_nothing_else() -> None:
    half, fp8 = costs(), costs(kv_dtype=DType.FP8)
    assert 2 * fp8.kv_cache_bytes == half.kv_cache_bytes
    assert fp8.weight_bytes == half.weight_bytes
    assert half.hbm_bytes - fp8.hbm_bytes == np.clip(half.hbm_bytes - fp8.hbm_bytes, half.kv_cache_bytes // 2, None)


def test_a_device_without_fp8_is_refused_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["estimate", "--model", "llama-70m", "--dtype", "fp8", "--hw"]
    assert run(cli, [*asked, "a100-sxm-80gb"]) == 2
    assert "a100-sxm-80gb has no matrix rate for --dtype: got 'fp8'" in capsys.readouterr().err
    assert run(cli, [*asked, "h100-sxm-80gb", "--kv-dtype", "fp8"]) == 0


def test_weights_of_another_type_are_refused_in_fp8(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["estimate", "--model", "llama-70m", "--hw", "l4", "--dtype", "fp8", "--weight-dtype", "int4"]
    assert run(cli, asked) == 2
    assert capsys.readouterr().err.count("\n") == 1
