"""Costs that add up, by name: on their own and over sites, runs and masks."""

from __future__ import annotations

import numpy as np
import pytest

from costmodel.pricing.costs import COUNTS, TIMES, Additive, PassCosts

HELD = ("params", "weight_bytes")


def numbered(shape: tuple[int, ...], start: int = 1) -> Additive:
    """Every cost another number at every place."""
    counts = np.arange(start, start + int(np.prod(shape)) * len(COUNTS)).reshape(*shape, len(COUNTS))
    times = np.arange(start, start + int(np.prod(shape)) * len(TIMES)).reshape(*shape, len(TIMES)) / 7
    return Additive(counts, times)


def test_costs_are_put_where_they_are_read_by_name() -> None:
    for names, read in ((COUNTS, Additive.count), (TIMES, Additive.time)):
        for name in names:
            costs = Additive.of((2, 3), **{name: np.arange(6).reshape(2, 3)})
            assert (read(costs, name) == np.arange(6).reshape(2, 3)).all()
            assert costs.counts.sum() + costs.times.sum() == 15
            assert (costs.counts.dtype, costs.times.dtype) == (np.int64, np.float64)
    assert Additive.of((4,), flops=3).count("flops").tolist() == [3] * 4


def test_costs_add_up_place_by_place_and_along_the_last_axis() -> None:
    one, two = numbered((2, 3)), numbered((2, 3), start=100)
    for name in COUNTS:
        assert ((one + two).count(name) == one.count(name) + two.count(name)).all()
        assert (one.sum().count(name) == one.count(name).sum(axis=1)).all()
        assert (one[np.array([1, 1, 0])].count(name) == one.count(name)[[1, 1, 0]]).all()
    for name in TIMES:
        assert ((one + two).time(name) == one.time(name) + two.time(name)).all()
        assert one.sum().time(name) == pytest.approx(one.time(name).sum(axis=1))
        assert (one[np.array([1, 1, 0])].time(name) == one.time(name)[[1, 1, 0]]).all()


def test_costs_count_where_a_mask_says_so() -> None:
    costs, mask = numbered((2, 3)), np.array([[True, False, True], [False, True, False]])
    masked = costs.where(mask)
    for name in COUNTS:
        assert (masked.count(name) == np.where(mask, costs.count(name), 0)).all()
    for name in TIMES:
        assert (masked.time(name) == np.where(mask, costs.time(name), 0)).all()


@pytest.mark.parametrize("runs", [1, 2, 5])
def test_runs_through_the_same_weights_repeat_all_but_what_is_held(runs: int) -> None:
    costs = numbered((2,))
    repeated = costs.repeated(runs)
    for name in COUNTS:
        assert (repeated.count(name) == costs.count(name) * (1 if name in HELD else runs)).all()
    for name in TIMES:
        assert (repeated.time(name) == costs.time(name) * runs).all()


def test_intensity_is_flops_over_traffic() -> None:
    named = dict.fromkeys(PassCosts.__slots__, np.array([1.0, 1.0]))
    costs = PassCosts(**{**named, "flops": np.array([6, 8]), "hbm_bytes": np.array([3, 16])})
    assert costs.arithmetic_intensity.tolist() == [2.0, 0.5]
