"""The interval of a ratio on series whose truth is known, by hand where that is possible, and when a series may end."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

pytest.importorskip("torch")

from validating import FakeGpu

from costmodel.forward.workload import Runtime
from validate.speed import statistics
from validate.speed.timing import MIN_PAIRS, TimingPlan, compare

T_OF_11 = 2.200985
"""97.5 % quantile of Student's t with 11 degrees of freedom, from a table."""
T_OF_3 = 3.182446
"""The same with 3 degrees of freedom."""
RATIO = 0.8


def interleaved(seconds: np.ndarray) -> tuple[list[float], list[float]]:
    """Calls in turn, the first of each pair faster by RATIO."""
    return (RATIO * seconds[::2]).tolist(), seconds[1::2].tolist()


def width(candidate: Sequence[float], reference: Sequence[float], copies: int = 1) -> float:
    """ln of the interval's upper end over its lower."""
    _, low, high = statistics.ratio_interval(candidate, reference, copies)
    return math.log(high / low)


@pytest.mark.parametrize("pace", [1e-3, -1e-3, 0.02])
def test_a_steady_drift_cancels_in_each_pair(pace: float) -> None:
    """A against the mean of the B on both sides; the first A has none before it and is off by one step."""
    logs = statistics.paired_log_ratios(*interleaved(np.exp(pace * np.arange(100))))
    assert logs[1:] == pytest.approx(math.log(RATIO), abs=1e-12)
    assert logs[0] == pytest.approx(math.log(RATIO) - pace, abs=1e-12)


def test_the_ratio_is_free_of_a_drift_that_is_linear_in_time() -> None:
    ratio, low, high = statistics.ratio_interval(*interleaved(1 + np.arange(400) / 500))
    assert ratio == pytest.approx(RATIO, rel=1e-5)
    assert low <= ratio <= high


def test_the_interval_of_a_drift_between_blocks_by_hand() -> None:
    """Twelve blocks of four pairs that agree within a block: t over twelve medians, the middle of all pairs."""
    medians = np.array([0.00, 0.02, -0.01, 0.03, 0.01, -0.02, 0.00, 0.04, -0.03, 0.01, 0.02, -0.01])
    candidate = np.repeat(RATIO * np.exp(medians), 4)
    ratio, low, high = statistics.ratio_interval(candidate.tolist(), [1.0] * 48)
    margin = T_OF_11 * np.std(medians, ddof=1) / math.sqrt(12)
    assert math.log(ratio / RATIO) == pytest.approx(0.005)
    assert (math.log(ratio / low), math.log(high / ratio)) == pytest.approx((margin, margin), rel=1e-5)
    # one pair fewer than two a block: pairs are taken as independent
    few = np.repeat(RATIO * np.exp(medians), 2)[:23]
    assert width(few.tolist(), [1.0] * 23) != pytest.approx(2 * margin, rel=0.02)


def test_the_interval_of_copies_of_which_one_kind_alone_differs_by_hand() -> None:
    """Welch's test has the three degrees of freedom of the copies that differ; equal spreads would give it six."""
    levels = np.array([0.0, 0.02, 0.04, 0.12])
    candidate = RATIO * np.exp(np.tile(levels, 24))
    reference = np.exp(np.tile([0.0, 1e-4, -1e-4, 0.0], 24))  # scipy warns of none at all
    margin = T_OF_3 * np.std(levels, ddof=1) / math.sqrt(4)
    assert width(candidate.tolist(), reference.tolist(), copies=4) == pytest.approx(2 * margin, rel=1e-2)


def test_the_order_of_pairs_matters() -> None:
    """The same pairs, as a slow drift and shuffled: order statistics alone would see no difference."""
    pairs = RATIO * np.exp(0.1 * np.sin(np.linspace(0, 2 * math.pi, 480)))
    shuffled = np.random.default_rng(0).permutation(pairs)
    assert width(pairs.tolist(), [1.0] * 480) > 2 * width(shuffled.tolist(), [1.0] * 480)


def test_the_interval_holds_where_the_ratio_drifts_over_seconds() -> None:
    """200 series of 240 pairs in which one of the two is slowed now and then, for as long as five pairs."""
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        noise = rng.normal(0, 0.02, 240)
        drift = np.zeros(240)
        for index in range(1, 240):
            drift[index] = 0.8 * drift[index - 1] + 0.02 * rng.standard_normal()
        _, low, high = statistics.ratio_interval((RATIO * np.exp(noise + drift)).tolist(), [1.0] * 240)
        covered += low <= RATIO <= high
    assert 175 <= covered <= 198


def test_pairs_that_are_independent_have_the_interval_of_order_statistics() -> None:
    """By hand: of 23 pairs the 7th and the 17th leave out 3.5 %, the 8th and the 16th 9.3 % (binomial, p = 1/2)."""
    values = np.arange(1, 24) / 100
    values = np.random.default_rng(1).permutation(values)
    ratio, low, high = statistics.ratio_interval(np.exp(values).tolist(), [1.0] * 23)
    assert [math.log(each) for each in (ratio, low, high)] == pytest.approx([0.12, 0.07, 0.17])


class Stopwatch(FakeGpu):
    """Calls take what they return times noise; each request for times is written down."""

    def __init__(self, sigma: float, seed: int = 0) -> None:
        super().__init__()
        self.now, self.asked = 0.0, list[int]()
        self._rng, self._sigma = np.random.default_rng(seed), sigma

    def time(self, works: Sequence[Callable[[], object]], runtime: Runtime) -> list[float]:
        self.asked.append(len(works) // 2)
        values = [float(work()) * math.exp(self._rng.normal(0, self._sigma)) for work in works]  # type: ignore[arg-type]
        self.now += sum(values)
        return values


def compared(device: Stopwatch, plan: TimingPlan) -> tuple[int, list[int]]:
    """The length of the series, and how many pairs were added before each look at the interval."""
    timing = compare(device, [lambda: 0.01], [lambda: 0.01], plan, Runtime.EAGER, clock=lambda: device.now)
    pairs, added = len(timing.candidate.seconds), list[int]()
    while sum(added) < pairs:
        added.insert(0, device.asked.pop())
    assert sum(added) == pairs
    return pairs, added


def test_the_interval_is_looked_at_a_few_times_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time the series has grown by a quarter: a look after every pair would stop where chance has it."""
    looks = list[int]()
    real = statistics.ratio_interval

    def counted(candidate: Sequence[float], reference: Sequence[float], copies: int = 1) -> tuple[float, float, float]:
        looks.append(len(candidate))
        return real(candidate, reference, copies)

    monkeypatch.setattr(statistics, "ratio_interval", counted)
    pairs, added = compared(Stopwatch(sigma=0.5), TimingPlan(precision=1e-4, budget_s=1e9, max_pairs=1000))
    assert looks == np.cumsum(added).tolist()
    assert looks[0] == added[0] == MIN_PAIRS
    assert all(later == math.ceil(1.25 * earlier) for earlier, later in itertools.pairwise(looks))
    assert 1000 <= pairs < 1250
    assert len(looks) == 18


def test_a_series_that_runs_out_of_time_is_looked_at_no_more_often() -> None:
    pairs, added = compared(Stopwatch(sigma=0.5), TimingPlan(precision=1e-4, budget_s=5.0))
    assert 100 < pairs < 300
    assert len(added) <= 2 + math.log(pairs / MIN_PAIRS) / math.log(1.25)
