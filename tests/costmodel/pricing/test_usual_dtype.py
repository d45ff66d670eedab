"""The type that is computed in where none is named is one that the device has."""

from __future__ import annotations

from dataclasses import replace

import pytest

from costmodel.errors import HardwareError
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.checks import usual_dtype
from costmodel.pricing.setup import WorkloadSettings
from costmodel.units import DType


@pytest.mark.parametrize(("name", "dtype"), [("a100-sxm-80gb", DType.BF16), ("t4", DType.FP16)])
def test_the_type_follows_the_device(name: str, dtype: DType) -> None:
    assert usual_dtype(load_hardware(name)) is dtype
    setup = WorkloadSettings(model="gpt2", hw=name).setup()
    assert {work.dtype for work in setup.workloads} == {dtype}


def test_a_device_without_any_type_of_activations_is_refused_bf16() -> None:
    """bf16 before fp16 before fp32, and bf16 where there is none of them."""
    device = load_hardware("a100-sxm-80gb")
    for rates, dtype in (
        ((DType.FP32, DType.FP16, DType.BF16), DType.BF16),
        ((DType.FP32, DType.FP16), DType.FP16),
        ((DType.FP32, DType.INT8), DType.FP32),
        ((DType.INT8,), DType.BF16),
    ):
        assert usual_dtype(replace(device, matrix_flops_per_s=dict.fromkeys(rates, 1e12))) is dtype


def test_a_type_that_is_named_and_that_the_device_lacks_is_an_error() -> None:
    with pytest.raises(HardwareError, match="t4 has no matrix rate for --dtype: got 'bf16'"):
        WorkloadSettings(model="gpt2", hw="t4", dtype="bf16").setup()
