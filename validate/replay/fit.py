"""The constants of a set-up from the benchmarks named for fitting; no other benchmark's rows are looked at."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from validate.replay.model import Floats, ReplayConstants, ScoringRun
from validate.replay.table import DEVICES, Benchmark, TableRow

_START_RATIO = 1.0
"""Ratio of the efficiencies where the search starts; predictions do not depend on it (a test tries others)."""
_LEAST = 0.02
_STEP = 0.01
"""Relative step of the latency fit's derivatives: wide enough to smooth over prices at whole lengths."""
_SCALE_PCT = 1.0
"""Residual in percent above which a row counts linearly: one run per point strays by about that much."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Latencies:
    """What the fit of the latencies gave: achieved peaks, and device seconds of all rows, benchmark after benchmark.

    Attributes:
        matrix_efficiency, memory_efficiency: as of `ReplayConstants`.
        busy_s, rest_s: limited by arithmetic, and by memory or kernel overhead, float64 (rows,).
    """

    matrix_efficiency: float
    memory_efficiency: float
    busy_s: Floats
    rest_s: Floats


def fit_constants(run: ScoringRun, benchmarks: Sequence[Benchmark]) -> ReplayConstants:
    """Fit all constants on all rows of `benchmarks`; harness time is the median of the rows' waiting."""
    harness_s = statistics.median(row.waiting_s / each.batch for each in benchmarks for row in _rows(each))
    times = _fit_latencies(run, benchmarks, harness_s)
    compute_w, memory_w, idle_w = _fit_powers(run, benchmarks, harness_s, times)
    return ReplayConstants(
        matrix_efficiency=times.matrix_efficiency,
        memory_efficiency=times.memory_efficiency,
        harness_s_per_request=harness_s,
        compute_w=compute_w,
        memory_w=memory_w,
        idle_w=idle_w,
    )


def _fit_latencies(run: ScoringRun, benchmarks: Sequence[Benchmark], harness_s: float) -> _Latencies:
    """Least squares with a soft L1 loss on the logarithm of each row's latency, with one mean length per benchmark as a
    further unknown.

    Only the ratio of the two efficiencies can be told: half the efficiency at half the unknown length takes the same
    time. The higher one is therefore 1, and the lengths found are those of a device that reaches its peak, hence upper
    bounds.
    """
    measured = [np.array([row.latency_s for row in _rows(each)]) for each in benchmarks]

    def constants(ratio: float) -> ReplayConstants:
        return ReplayConstants(
            matrix_efficiency=min(1.0, ratio),
            memory_efficiency=min(1.0, 1 / ratio),
            harness_s_per_request=harness_s,
            compute_w=1.0,
            memory_w=1.0,
            idle_w=1.0,
        )

    start = constants(_START_RATIO)
    lengths = np.array(
        [run.length_for(each, each.dense.latency_s - harness_s * each.batch, start) for each in benchmarks]
    )

    def device_times(x: Floats) -> list[tuple[Floats, Floats]]:
        now = constants(float(x[0]))
        return [
            run.device_times(each, float(length), now) for each, length in zip(benchmarks, x[1:] * lengths, strict=True)
        ]

    def residuals(x: Floats) -> Floats:
        parts = zip(benchmarks, device_times(x), measured, strict=True)
        return np.concatenate([100 * np.log((t + harness_s * each.batch) / true) for each, (t, _), true in parts])

    lowest = np.array([_LEAST, *(1 / lengths)])
    highest = np.array([1 / _LEAST, *(run.model.max_positions / lengths)])
    best = _solve(residuals, np.array([_START_RATIO, *np.ones(len(lengths))]), (lowest, highest), _STEP)
    found, times = constants(float(best[0])), device_times(best)
    return _Latencies(
        matrix_efficiency=found.matrix_efficiency,
        memory_efficiency=found.memory_efficiency,
        busy_s=np.concatenate([busy for _, busy in times]),
        rest_s=np.concatenate([device - busy for device, busy in times]),
    )


def _fit_powers(
    run: ScoringRun, benchmarks: Sequence[Benchmark], harness_s: float, times: _Latencies
) -> tuple[float, float, float]:
    """Watts limited by arithmetic, by memory, and while waiting: the same loss on the rows' energy and on power x
    latency, which may differ by a factor common to all rows.

    The power while waiting cannot be told from one benchmark's rows: its harness time is the same in each, so waiting
    and moving data trade against each other exactly. It lies between the device's idle power (clocks down) and the
    power of moving data (the pauses last half a millisecond, clocks stay up); the middle is taken. On the published
    table the ends instead cost up to 1.5 points of energy, the quarters up to 0.6.
    """
    energy = np.array([row.energy_j for each in benchmarks for row in _rows(each)])
    power = np.array([row.power_w * row.latency_s for each in benchmarks for row in _rows(each)])
    waiting_s = np.concatenate([np.full(len(_rows(each)), harness_s * each.batch) for each in benchmarks])
    scale = float((energy / (times.busy_s + times.rest_s + waiting_s)).mean())
    asleep_w = DEVICES * (run.hardware.idle_power_w or 0.0)

    def powers(y: Floats) -> tuple[float, float, float]:
        compute, memory = float(y[0]) * scale, float(y[0] * y[1]) * scale
        return compute, memory, (min(asleep_w, memory) + memory) / 2

    def residuals(y: Floats) -> Floats:
        compute, memory, waiting = powers(y)
        modelled = compute * times.busy_s + memory * times.rest_s + waiting * waiting_s
        return 100 * np.concatenate([np.log(modelled / energy), np.log(y[2] * modelled / power)])

    bounds = np.array([_LEAST, 0.0, 0.5]), np.array([50.0, 1.0, 2.0])
    return powers(_solve(residuals, np.array([1.0, 0.8, 1.0]), bounds, None))


def _rows(benchmark: Benchmark) -> list[TableRow]:
    """Dense, then the others."""
    return [benchmark.dense, *benchmark.rows]


def _solve(
    residuals: Callable[[Floats], Floats], start: Floats, bounds: tuple[Floats, Floats], step: float | None
) -> Any:
    from scipy.optimize import least_squares

    return least_squares(
        residuals,
        start,
        bounds=bounds,
        loss="soft_l1",
        f_scale=_SCALE_PCT,
        diff_step=step,
        x_scale="jac",
        xtol=1e-10,
        ftol=1e-10,
        gtol=1e-10,
    ).x
