"""The additive form survives its file, refuses what no fit gives, and says where it was not measured."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from costmodel.errors import CalibrationError
from costmodel.families.load import load_model
from costmodel.files.node import Node
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.timing.calibration.additive import AdditiveForm, read_additive
from costmodel.timing.calibration.file import read_elsewhere
from costmodel.timing.calibration.load import shipped_calibration
from costmodel.timing.calibration.passes import Reach
from costmodel.timing.columns import OpColumns
from costmodel.timing.datasheet import DatasheetRoofline, half_of
from costmodel.units import DType

H100 = load_hardware("h100-sxm-80gb")
REACH = Reach(low=-0.2, high=0.3, tokens=(1, 10), kv_len=(2, 20), models=("gpt2",))
FORM = replace(AdditiveForm.of(H100, DType.BF16), factors=(1.5, 2.0, 0.5, 3.0, 1.0, 0.25, 2e-6), reach=REACH)


def read(content: dict[str, Any]) -> AdditiveForm:
    nodes = {key: Node("form.json", value, CalibrationError, key) for key, value in content.items()}
    return read_additive(nodes)


def content() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(json.dumps(FORM.to_json()))
    return found


def test_a_form_is_read_back_as_it_was_written() -> None:
    assert read(content()) == FORM


def test_rates_begin_at_one_a_second() -> None:
    for name in content()["base"]:
        slow = content()
        slow["base"][name] = 1.0
        assert getattr(read(slow), name) == 1.0
        slow["base"][name] = 0.5
        with pytest.raises(CalibrationError, match=name):
            read(slow)


def test_gemms_that_cost_nothing_and_kernels_of_seconds_are_refused() -> None:
    free = content()
    free["factors"]["gemm"] = {"compute": 0, "memory": 0}
    with pytest.raises(CalibrationError, match=r"gemm.*one factor above 0"):
        read(free)
    free["factors"] = {**free["factors"], "gemm": {"compute": 0, "memory": 1}, "other": {"compute": 0, "memory": 0}}
    assert read(free).factors[:2] == (0, 1)
    with pytest.raises(CalibrationError, match="kernel_s"):
        read({**content(), "kernel_s": 1.5})


def test_a_pass_outside_of_what_was_measured_is_named() -> None:
    texts = REACH.outside(load_model("bert-base"), Workload.prefill(30))
    assert [text.split(" is ")[0] for text in texts[:2]] == ["batch x length 30", "kv_len 30"]
    assert "bert-base" in texts[2]
    assert REACH.outside(load_model("gpt2"), Workload.prefill(5)) == []


def test_classes_of_size_may_begin_below_one() -> None:
    entry = {"form": "gemm", "differs": "stack", "source": "s", "points": 3, "size_edges": [0.5, 2]}
    entry |= {"bias": [0, 0, 0], "sd": [1, 1, 1]}
    (found,) = read_elsewhere(Node("f", [entry], CalibrationError))["gemm"]
    assert found.size_edges.tolist() == [0.5, 2]


def test_products_in_fp8_run_at_its_rate_and_all_else_in_sixteen_bits() -> None:
    model = DatasheetRoofline.of(H100, DType.FP8, Runtime.GRAPH)
    one = np.array([1, 1])
    ops = OpColumns(
        kind="gemm", m=one, n=one, k=one, kernels=one, vector_flops=0 * one, executed_flops=10**15 * one, hbm_bytes=one
    )
    found = model.times(replace(ops, fp8=np.array([True, False]))).compute_s
    assert found.tolist() == [1e15 / H100.matrix_rate(DType.FP8), 1e15 / H100.matrix_rate(DType.BF16)]
    assert half_of(H100) is DType.BF16
    assert half_of(load_hardware("v100-sxm2-16gb")) is DType.FP16


def test_the_base_of_a_form_is_its_time_before_the_network() -> None:
    calibration = shipped_calibration(H100)
    assert calibration is not None
    form = calibration.shaped["gemm"]
    shape = np.array([[64.0], [4096.0], [4096.0]])
    base, factor = form.base_seconds(shape), form.net(form.features(shape))
    assert base.shape == (1,)
    assert base[0] > form.base.fixed_s
    assert np.abs(factor).max() < 2  # what the network corrects
