"""Somebody else's measured table against the cost model, beside the lines that a prediction must beat.

Of a benchmark that is predicted nothing but its dense row is looked at: its waiting gives the harness time of that
run, the rest of its latency the tokens per batch, its memory what is no weight. Everything else comes from constants
that all benchmarks share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from costmodel.errors import InputError
from validate.replay.fit import fit_constants
from validate.replay.model import ReplayConstants, ScoringRun
from validate.replay.table import METRICS, Benchmark, TableRow

SCHEMA = 1
NULL_SLOPE = 0.6
"""Percent saved per percent of parameters: the null model that a prediction must beat."""
_REDUCTION_TOLERANCE = 0.01
"""Percentage points by which a table's parameter reduction may differ from the model's."""
PREDICTORS = ("predicted", "null_line", "fitted_line")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayRow:
    """A row with what is predicted for it; savings in percent of the dense row by METRICS.

    Attributes:
        null_line: NULL_SLOPE x parameter reduction.
        fitted_line: a line through the origin fitted on the same benchmarks as the constants; None without any.
    """

    fit_on: tuple[str, ...]
    benchmark: str
    row: TableRow
    measured: dict[str, float]
    predicted: dict[str, float]
    null_line: dict[str, float]
    fitted_line: dict[str, float] | None

    def to_json(self) -> dict[str, Any]:
        return {
            "fit_on": list(self.fit_on),
            "benchmark": self.benchmark,
            "layers": list(self.row.layers),
            "rank": self.row.rank,
            "param_reduction_pct": self.row.param_reduction_pct,
            "measured": self.measured,
            "predicted": self.predicted,
            "null_line": self.null_line,
            "fitted_line": self.fitted_line,
            "error_points": {metric: self.predicted[metric] - self.measured[metric] for metric in METRICS},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUp:
    """What a predicted benchmark's dense row says about its runs."""

    benchmark: str
    tokens_per_sequence: float
    harness_s_per_batch: float
    """Of the dense run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """One choice of benchmarks to fit on, and the predictions for all others."""

    fit_on: tuple[str, ...]
    constants: ReplayConstants
    setups: tuple[SetUp, ...]
    rows: tuple[ReplayRow, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "fit_on": list(self.fit_on),
            "constants": self.constants.to_json(),
            "set_ups": [{name: getattr(each, name) for name in each.__slots__} for each in self.setups],
            "mean_abs_error_points": mean_errors(self.rows),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """The answer: one split, or one for each benchmark."""

    run: ScoringRun
    splits: tuple[Split, ...]

    @property
    def rows(self) -> tuple[ReplayRow, ...]:
        """Of all splits."""
        return tuple(row for split in self.splits for row in split.rows)

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA,
            "model": self.run.model.name,
            "hardware": self.run.hardware.name,
            "rows": [row.to_json() for row in self.rows],
            "mean_abs_error_points": mean_errors(self.rows),
            "splits": [split.to_json() for split in self.splits],
        }


def replay(
    run: ScoringRun,
    benchmarks: Sequence[Benchmark],
    fit_on: Sequence[Benchmark] = (),
    constants: ReplayConstants | None = None,
) -> Replay:
    """Predict a table.

    Args:
        run: model, device and set-up.
        benchmarks: the table.
        fit_on: those to fit the constants on; the others are predicted.
        constants: known ones instead; then all benchmarks are predicted. Neither: each benchmark in turn is fitted on.

    Raises:
        InputError: when both are given, nothing is left to predict, or the table is not one of this model.
    """
    for benchmark in benchmarks:
        _check(run, benchmark)
    if constants is not None:
        if fit_on:
            raise InputError("constants are either read or fitted", hint="leave out --constants or --fit-on")
        return Replay(run=run, splits=(_split(run, benchmarks, (), constants),))
    chosen = [tuple(fit_on)] if fit_on else [(each,) for each in benchmarks]
    if len(chosen[0]) >= len(benchmarks):
        raise InputError(
            "no benchmark is left to predict",
            value=", ".join(each.name for each in chosen[0]),
            hint="fit on fewer, or give --constants",
        )
    return Replay(run=run, splits=tuple(_split(run, benchmarks, each, fit_constants(run, each)) for each in chosen))


def mean_errors(rows: Sequence[ReplayRow]) -> dict[str, dict[str, float] | None]:
    """Mean absolute error in percentage points by predictor and metric."""
    errors: dict[str, dict[str, float] | None] = {}
    for predictor in PREDICTORS:
        if any(getattr(row, predictor) is None for row in rows):
            errors[predictor] = None
        else:
            errors[predictor] = {
                metric: fmean(abs(getattr(row, predictor)[metric] - row.measured[metric]) for row in rows)
                for metric in METRICS
            }
    return errors


def _split(
    run: ScoringRun, benchmarks: Sequence[Benchmark], fit_on: Sequence[Benchmark], constants: ReplayConstants
) -> Split:
    names = tuple(each.name for each in fit_on)
    slopes = _slopes(fit_on)
    setups, rows = [], []
    for benchmark in benchmarks:
        if benchmark.name in names:
            continue
        dense = benchmark.dense
        length = run.length_for(benchmark, dense.latency_s - dense.waiting_s, constants)
        setups.append(SetUp(benchmark=benchmark.name, tokens_per_sequence=length, harness_s_per_batch=dense.waiting_s))
        for row, predicted in zip(benchmark.rows, predict(run, benchmark, length, constants), strict=True):
            removed = row.param_reduction_pct
            rows.append(
                ReplayRow(
                    fit_on=names,
                    benchmark=benchmark.name,
                    row=row,
                    measured=benchmark.measured(row),
                    predicted=predicted,
                    null_line=dict.fromkeys(METRICS, NULL_SLOPE * removed),
                    fitted_line={metric: slope * removed for metric, slope in slopes.items()} if slopes else None,
                )
            )
    return Split(fit_on=names, constants=constants, setups=tuple(setups), rows=tuple(rows))


def predict(run: ScoringRun, benchmark: Benchmark, length: float, constants: ReplayConstants) -> list[dict[str, float]]:
    """Savings of each row by METRICS at a mean padded length; of the measurements only the dense row's are used."""
    device, busy = run.device_times(benchmark, length, constants)
    harness = [benchmark.dense.waiting_s, *[constants.harness_s_per_request * benchmark.batch] * len(benchmark.rows)]
    latency = [float(each) + wait for each, wait in zip(device, harness, strict=True)]
    energy = [
        constants.compute_w * float(part) + constants.memory_w * float(each - part) + constants.idle_w * wait
        for each, part, wait in zip(device, busy, harness, strict=True)
    ]
    return [
        {
            "latency_pct": 100 * (1 - latency[index] / latency[0]),
            "energy_pct": 100 * (1 - energy[index] / energy[0]),
            "memory_pct": 100 * run.removed_bytes(row) / benchmark.dense.memory_bytes,
        }
        for index, row in enumerate(benchmark.rows, start=1)
    ]


def _slopes(benchmarks: Sequence[Benchmark]) -> dict[str, float]:
    """Least-squares slope through the origin of each saving over the parameter reduction."""
    pairs = [(row.param_reduction_pct, each.measured(row)) for each in benchmarks for row in each.rows]
    square = sum(removed**2 for removed, _ in pairs)
    return {m: sum(removed * saved[m] for removed, saved in pairs) / square for m in METRICS} if pairs else {}


def _check(run: ScoringRun, benchmark: Benchmark) -> None:
    for row in benchmark.rows:
        own = 100 * run.removed_bytes(row) / (run.dtype.bits // 8) / run.model.num_params
        if abs(own - row.param_reduction_pct) > _REDUCTION_TOLERANCE:
            where = f"{benchmark.name}, {len(row.layers)} layers at rank {row.rank}"
            raise InputError(
                f"{where}: the table's parameter reduction is not that of {run.model.name}",
                value=row.param_reduction_pct,
                allowed=f"{own:.4f} in form {run.form}",
            )
