"""The constants of a set-up from the benchmarks named for fitting; no other benchmark's rows are looked at."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from validate.replay.model import Floats, ReplayConstants, ScoringRun
from validate.replay.table import DEVICES, Benchmark

_START_RATIO = 1.0
"""Ratio of the efficiencies where the search starts; predictions do not depend on it (a test tries others)."""
_LEAST = 0.02
_STEP = 0.01
"""Relative step of the latency fit's derivatives: wide enough to smooth over prices at whole lengths."""
_SCALE_PCT = 1.0
"""Residual in percent above which a row counts linearly: one run per point strays by about that much."""


def fit_constants(run: ScoringRun, benchmarks: Sequence[Benchmark]) -> ReplayConstants:
    """Fit all constants on all rows of `benchmarks`.

    Harness time: the median of the rows' waiting. Efficiencies: least squares with a soft L1 loss on the logarithm of
    each row's latency, with one mean length per benchmark as a further unknown. Only the ratio of the two efficiencies
    can be told: half the efficiency at half the unknown length takes the same time. The higher one is therefore 1, and
    the lengths found are those of a device that reaches its peak, hence upper bounds. Powers: the same on the rows'
    energy and on power x latency, which may differ by a factor common to all rows.

    The power while waiting cannot be told from one benchmark's rows: its harness time is the same in each, so waiting
    and moving data trade against each other exactly. It lies between the device's idle power (clocks down) and the
    power of moving data (the pauses last half a millisecond, clocks stay up); the middle is taken. On the published
    table the ends instead cost up to 1.5 points of energy, the quarters up to 0.6.
    """
    waiting = [row.waiting_s / each.batch for each in benchmarks for row in (each.dense, *each.rows)]
    harness = statistics.median(waiting)
    latency = [np.array([row.latency_s for row in (each.dense, *each.rows)]) for each in benchmarks]

    def constants(ratio: float) -> ReplayConstants:
        return ReplayConstants(
            matrix_efficiency=min(1.0, ratio),
            memory_efficiency=min(1.0, 1 / ratio),
            harness_s_per_request=harness,
            compute_w=1.0,
            memory_w=1.0,
            idle_w=1.0,
        )

    start = constants(_START_RATIO)
    lengths = [run.length_for(each, each.dense.latency_s - harness * each.batch, start) for each in benchmarks]

    def late(x: Floats) -> Floats:
        parts = []
        for each, measured, scale, length in zip(benchmarks, latency, x[1:], lengths, strict=True):
            device, _ = run.device_times(each, float(scale * length), constants(float(x[0])))
            parts.append(100 * np.log((device + harness * each.batch) / measured))
        return np.concatenate(parts)

    lowest = np.array([_LEAST, *(1 / np.array(lengths))])
    highest = np.array([1 / _LEAST, *(run.model.max_positions / np.array(lengths))])
    x = _solve(late, np.array([_START_RATIO, *np.ones(len(lengths))]), (lowest, highest), _STEP)
    found = constants(float(x[0]))
    times = [
        run.device_times(each, float(scale * length), found)
        for each, scale, length in zip(benchmarks, x[1:], lengths, strict=True)
    ]
    rows = [row for each in benchmarks for row in (each.dense, *each.rows)]
    energy = np.array([row.energy_j for row in rows])
    power = np.array([row.power_w * row.latency_s for row in rows])
    busy = np.concatenate([part for _, part in times])
    rest = np.concatenate([device - part for device, part in times])
    idle = np.repeat([harness * each.batch for each in benchmarks], [len(part) for _, part in times])
    scale = float((energy / (busy + rest + idle)).mean())

    def powers(y: Floats) -> tuple[float, float, float]:
        compute, memory = float(y[0]) * scale, float(y[0] * y[1]) * scale
        return compute, memory, (min(asleep, memory) + memory) / 2

    def hungry(y: Floats) -> Floats:
        compute, memory, waiting = powers(y)
        modelled = compute * busy + memory * rest + waiting * idle
        return 100 * np.concatenate([np.log(modelled / energy), np.log(y[2] * modelled / power)])

    asleep = DEVICES * (run.hardware.idle_power_w or 0.0)
    y = _solve(hungry, np.array([1.0, 0.8, 1.0]), (np.array([_LEAST, 0.0, 0.5]), np.array([50.0, 1.0, 2.0])), None)
    compute, memory, waiting = powers(y)
    return ReplayConstants(
        matrix_efficiency=found.matrix_efficiency,
        memory_efficiency=found.memory_efficiency,
        harness_s_per_request=harness,
        compute_w=compute,
        memory_w=memory,
        idle_w=waiting,
    )


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
