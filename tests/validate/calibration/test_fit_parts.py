"""The pieces of a fit beside their formulas, written out: start, network, process, rounding, folds, files."""

from __future__ import annotations

import dataclasses
import json
import math
import warnings

import numpy as np
import pytest

from costmodel.hardware.profile import load_hardware
from costmodel.timing.calibration.base import Base
from costmodel.timing.calibration.shaped import nominal_work
from costmodel.units import DType
from tests.fit_tables import BASE, form_of, table_of
from validate.calibration import few, process
from validate.calibration.base import fit_base
from validate.calibration.file import calibration_bytes
from validate.calibration.fit import device_of
from validate.calibration.net import TrainedNet, _cycle
from validate.calibration.shaped import cooled, folds_of, joined, rounded
from validate.calibration.tables import Floats
from validate.calibration.tiles import TileModel


def test_the_inputs_of_a_process_are_a_few_logarithms() -> None:
    shape = np.array([[4, 8, 64, 16, 2, 128]], dtype=np.float64).T
    assert few._attention_inputs(shape).tolist() == [[2 + 4, 3, 6, 4 - 1, 7]]
    form = form_of("gemm")
    model = TileModel(
        logs=np.full(18, -0.5), flops_per_s=3e14, bytes_per_s=2e12, cores=108, cache_bytes=4e7, element_bytes=2
    )
    product = np.array([[100, 512, 2048]], dtype=np.float64).T
    (coarse,), (rich,) = few._coarse(form, model, product), few._rich(form, model, product)
    assert coarse[:3].tolist() == pytest.approx([math.log2(112), 9, 11])
    beyond = math.log2(model.seconds(product)[0] / form.base_seconds(product)[0])
    assert (coarse[-1], rich[-1]) == pytest.approx((beyond, beyond))
    assert rich[:-1] == pytest.approx(form.features(product)[:, 0])
    from costmodel.timing.calibration.features import GEMM_TILES

    assert coarse[3:-1] == pytest.approx(
        [
            math.log2(math.ceil(math.ceil(100 / rows) * math.ceil(512 / columns) / 108) / (512 * 112))
            for rows, columns in GEMM_TILES
        ]
    )


def test_the_learning_rate_rises_for_three_tenths_and_falls_to_nothing() -> None:
    found = [_cycle(progress) for progress in (0.0, 0.15, 0.3, 0.65, 1.0)]
    assert found == pytest.approx([0.04, 0.52, 1.0, 0.5, 0.0])


def test_a_network_is_a_chain_of_rectified_sums() -> None:
    rng = np.random.default_rng(0)
    weights = tuple(rng.normal(size=size).astype(np.float32) for size in ((2, 3), (3, 1)))
    biases = tuple(rng.normal(size=size).astype(np.float32) for size in (3, 1))
    net = TrainedNet(centre=np.array([1.0, 2.0]), scale=np.array([2.0, 4.0]), weights=weights, biases=biases)
    first = np.maximum(np.array([[1.0, -0.5]]) @ weights[0] + biases[0], 0)
    assert net(np.array([[3.0, 0.0]])) == pytest.approx((first @ weights[1] + biases[1])[:, 0], rel=1e-6)


def test_numbers_are_rounded_to_significant_digits_as_deep_as_they_lie() -> None:
    assert rounded(123456.0, 3) == 123000.0
    assert rounded(7) == 7.0
    assert rounded(np.array([[1.23456789, 2e-9], [0.0, -98.76543211]])) == [[1.23457, 2e-9], [0.0, -98.7654]]
    assert rounded(np.float64(0.123456789)) == 0.123457
    assert rounded(np.array([1.0])) == [1.0]
    assert (rounded(np.float32(0.123456), 3), rounded(np.array(23456), 3)) == (0.123, 23500.0)


def test_rows_of_two_tables_are_joined_and_warm_ones_cooled() -> None:
    one, other = table_of("gemm", 3), table_of("gemm", 2)
    both = joined(one, other)
    assert (both.kind, len(both)) == ("gemm", 5)
    assert (both.shape[:, 3:] == other.shape).all()
    assert (both.seconds[3:] == other.seconds).all()
    cold = cooled(one, BASE, 2)
    fetch = 2 * one.shape[1] * one.shape[2] / BASE.bytes_per_s
    assert cold.seconds == pytest.approx((one.seconds**1.5 + fetch**1.5) ** (1 / 1.5))
    assert (cold.kind, cold.shape.tolist()) == ("gemm", one.shape.tolist())


def test_groups_are_dealt_to_folds_in_turn() -> None:
    groups = np.arange(40) // 2
    fold = folds_of(groups, 5, 1)
    assert (fold[::2] == fold[1::2]).all()
    assert np.bincount(fold).tolist() == [8] * 5
    assert (folds_of(groups, 5, 1) == fold).all()
    assert (folds_of(groups, 5, 2) != fold).any()


def test_a_search_begins_at_seven_tenths_of_the_datasheet() -> None:
    hardware = load_hardware("h100-sxm-80gb")
    found = device_of(hardware, DType.BF16, "gemm")
    assert found.start == Base(
        flops_per_s=pytest.approx(0.7 * hardware.matrix_rate(DType.BF16)),
        bytes_per_s=pytest.approx(0.7 * hardware.memory_bytes_per_s),
        fixed_s=4e-6,
        overlap=1.5,
    )
    assert (found.cores, found.cache_bytes) == (hardware.cores, hardware.caches[-1].bytes)
    assert (found.element_bytes, found.output_bytes) == (2, None)
    assert device_of(hardware, DType.BF16, "decode").start.fixed_s == 10e-6
    other = device_of(hardware, DType.BF16, "gemm:fp8")
    assert (other.element_bytes, other.output_bytes, other.start.fixed_s) == (1, 2, 4e-6)
    assert other.start.flops_per_s == pytest.approx(0.7 * hardware.matrix_rate(DType.FP8))
    bare = dataclasses.replace(hardware, caches=())
    assert device_of(bare, DType.BF16, "gemm").cache_bytes == 2**20
    table = table_of("gemm", 3)
    for mine, theirs in zip(other.work(table), nominal_work("gemm", table.shape, 1, 2), strict=True):
        assert (mine == theirs).all()


def test_a_base_without_arithmetic_keeps_its_rate() -> None:
    moved = 2.0 ** np.arange(10, 30)
    found = fit_base(np.zeros(20), moved, 2e-6 + moved / 8e11, BASE)
    assert found.bytes_per_s == pytest.approx(8e11, rel=1e-3)
    assert found.fixed_s == pytest.approx(2e-6, rel=1e-3)
    assert found.flops_per_s == pytest.approx(BASE.flops_per_s, rel=1e-3)


def test_a_file_has_a_line_for_each_key_and_each_entry_of_the_long_ones() -> None:
    content = {"schema": 1, "errors": [{"a": 1}, {"a": 2.5}], "streams": {"norm": {"low": -0.5}}, "forms": {}}
    data = calibration_bytes(content)
    assert json.loads(data) == content
    assert data.decode() == (
        '{\n "schema": 1,\n "errors": [\n  {"a":1},\n  {"a":2.5}\n ],\n'
        ' "streams": {\n  "norm": {"low":-0.5}\n },\n "forms": {}\n}\n'
    )
    with pytest.raises(ValueError, match="Out of range"):
        calibration_bytes({"low": math.nan})


def test_between_the_measured_shapes_of_attention_a_process_teaches_what_it_saw(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A factor that grows with the keys alone is learned; what lies between is within the measured range."""
    monkeypatch.setattr(process, "STEPS", 8)
    form, table = form_of("decode"), table_of("decode", 60)
    factor = np.exp(0.1 * np.log2(table.shape[2]))
    table = dataclasses.replace(table, seconds=form.base_seconds(table.shape) * factor)
    taught = few._taught_attention(form, table, table.shape)
    assert np.abs(taught - np.log(factor)).mean() < 0.05
    assert np.corrcoef(taught, np.log(factor))[0, 1] > 0.95
    monkeypatch.setattr(few, "TAUGHT", 100)
    between: Floats = few._between(form, table)
    assert between.shape == (6, 160)
    assert (between[:, :60] == table.shape).all()
    assert (between >= form.low[:, None]).all()
    assert (between <= form.high[:, None]).all()


def test_a_processs_hyperparameters_are_searched_within_bounds() -> None:
    """Amplitude, a length for each input, and noise: the search begins at the variance, at 4 and at a tenth of it."""
    kernel = process._kernel(0.5, 2)
    assert np.exp(kernel.theta) == pytest.approx([0.5, 4.0, 4.0, 0.05])
    lengths = [math.log(0.1), math.log(100)]
    assert kernel.bounds == pytest.approx(np.array([[-12, 4], lengths, lengths, [-14, 2]]))
    assert np.exp(process._kernel(0.0, 1).theta) == pytest.approx([1e-6, 4.0, 1e-6])


def test_of_a_search_only_that_it_ended_at_a_bound_is_not_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def search(objective: object, start: Floats, bounds: object) -> tuple[Floats, float]:
        warnings.warn("something else", UserWarning, stacklevel=1)
        return start, 0.0

    monkeypatch.setattr(process, "_search", search)
    features = np.arange(12.0)[:, None]
    with pytest.warns(UserWarning, match="something else"):
        process.fit_process(features, features[:, 0])
