"""Programs over layers against every set of layers, with interactions of all four kinds; and small rules of answers."""

from __future__ import annotations

import itertools
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from exploring import question_of, small_model

from costmodel.explore.by_class import listing
from costmodel.explore.by_layer.quality import FAR, LayerQuality
from costmodel.explore.by_site.answer import _words
from costmodel.explore.by_site.extremes import Extremes
from costmodel.explore.by_site.sample import _spread, sample_error
from costmodel.forward.workload import Workload
from costmodel.pricing.saving import saved_pct
from costmodel.space.make import design_space

LAYERS, PAIRS = 5, 3


def made_quality() -> LayerQuality:
    """Numbers that differ everywhere; the third layer is not free."""
    rng = np.random.default_rng(4)
    links = {name: rng.integers(-9, 40, (LAYERS - 1, PAIRS)) for name in ("enter", "leave", "both")}
    return LayerQuality(
        value=rng.integers(1, 50, (LAYERS, PAIRS)),
        free=np.array([True, True, False, True, True]),
        stay=rng.integers(3, 30, LAYERS - 1),
        **links,
    )


def quality_of(chosen: tuple[int, ...], quality: LayerQuality, pair: int) -> int:
    total = sum(int(quality.value[layer, pair]) for layer in range(LAYERS) if chosen[layer])
    for layer in range(LAYERS - 1):
        of_both: dict[tuple[int, int], Any] = {
            (0, 0): quality.stay[layer],
            (0, 1): quality.enter[layer, pair],
            (1, 0): quality.leave[layer, pair],
            (1, 1): quality.both[layer, pair],
        }
        total += int(of_both[chosen[layer], chosen[layer + 1]])
    return total


def sets_of(quality: LayerQuality) -> list[tuple[int, ...]]:
    options = [(0, 1) if free else (0,) for free in quality.free]
    return list(itertools.product(*options))


def test_the_least_quality_of_every_number_of_layers_is_that_of_all_sets() -> None:
    quality = made_quality()
    least = quality.least()
    for pair in range(PAIRS):
        for size in range(LAYERS + 1):
            every = [quality_of(chosen, quality, pair) for chosen in sets_of(quality) if sum(chosen) == size]
            assert least[size, pair] == (min(every) if every else FAR)


def test_sets_come_in_order_and_all_of_them() -> None:
    quality = made_quality()
    for pair, size in itertools.product(range(PAIRS), range(LAYERS)):
        every = sorted(quality_of(chosen, quality, pair) for chosen in sets_of(quality) if sum(chosen) == size)
        assert [found for found, _ in quality.ordered(pair, size)] == every


def test_the_total_is_over_all_sets_but_the_empty_ones() -> None:
    quality = made_quality()
    sets = [chosen for chosen in sets_of(quality) if any(chosen)]
    assert quality.total() == sum(quality_of(chosen, quality, pair) for pair in range(PAIRS) for chosen in sets)


def test_quantiles_of_a_sample_are_bounded_by_its_error() -> None:
    """Of 0 to 9,999 the value at a share is the share times 10,000, less one."""
    values = np.random.default_rng(0).permutation(10_000).astype(np.float64)
    found = _spread(values, Extremes(minimum=-5.0, maximum=12_000.0, mean=None, exact=("min", "max")), [])
    error = sample_error(10_000)
    assert found.quantile_bounds is not None
    low, high = found.quantile_bounds["0.5"]
    assert (low, high) == (np.ceil((0.5 - error) * 10_000) - 1, np.ceil((0.5 + error) * 10_000) - 1)
    assert (found.minimum, found.maximum) == (-5.0, 12_000.0)
    assert found.mean_standard_error == pytest.approx(np.sqrt(10_000 * 10_001 / 12) / 100, rel=1e-9)


def test_a_gap_is_told_as_a_share_of_the_range_that_was_found(tmp_path: Path) -> None:
    space = design_space(small_model(tmp_path), "per-site", ranks=[4])
    question = question_of(space, [Workload.prefill(8)], ["params"], top=1)
    pool: Any = SimpleNamespace(allowed=np.array([True, True]), metrics=np.array([[3000.0], [1000.0]]))
    assert "(10 % of its range)" in _words(question, pool, np.array([], dtype=np.int64), 200.0, 0.0)


def test_a_space_is_listed_up_to_the_most_that_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    space = design_space(small_model(tmp_path), ranks=[4])
    for most, allowed in ((space.valid_size, True), (space.valid_size - 1, False)):
        monkeypatch.setattr(listing, "MAX_LISTED", most)
        assert listing.listable(space) is allowed


def test_what_is_unknown_saves_nothing_that_can_be_told() -> None:
    assert saved_pct(4.0, 3.0) == 25
    assert saved_pct(4.0, None) is saved_pct(None, 3.0) is saved_pct(0.0, 3.0) is None
