"""From the change of NLL to a task's accuracy: falling, and never below that of guessing. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from validate.errors import RunError
from validate.predictor.errors import mean_interval, rank_correlation
from validate.predictor.evidence import Evidence
from validate.predictor.interval import LEVEL, half_widths
from validate.predictor.points import FEWEST, Floats, Ints
from validate.predictor.score import compress
from validate.quality.records import QualityRecord, TaskRecord

_MAIN = ("acc", "exact_match")
_GRID = (0.0, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
"""Predicted changes of NLL that a link is tabulated at, nats."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TaskLink:
    """accuracy = chance + (dense - chance) x exp(-(change / scale) ** power), for changes of at least 0.

    Attributes:
        task, metric: what is predicted.
        chance, dense: accuracy of guessing and of the dense model.
        scale: nats.
        power: above 0.
        predicted, residual: held-out changes of NLL on the compressed scale, rising, and what the accuracy that they
            give is off by, float64 (n) each.
    """

    task: str
    metric: str
    chance: float
    dense: float
    scale: float
    power: float
    predicted: Floats
    residual: Floats

    def accuracy(self, change: Floats) -> Floats:
        """Of changes of NLL in nats, float64 (n)."""
        return accuracy_at(change, self.chance, self.dense, self.scale, self.power)

    def interval(self, change: Floats) -> tuple[Floats, Floats]:
        """The ends of the 90 % intervals of accuracies as measured on these items, of predicted changes of NLL."""
        return _around(self.accuracy(change), half_widths(self.predicted, self.residual, compress(change)))

    def to_json(self) -> dict[str, Any]:
        grid = np.array(_GRID)
        low, high = self.interval(grid)
        return {
            "task": self.task,
            "metric": self.metric,
            "chance": self.chance,
            "dense": self.dense,
            "scale_nats": self.scale,
            "power": self.power,
            "nll_change": list(_GRID),
            "accuracy": self.accuracy(grid).tolist(),
            "low": low.tolist(),
            "high": high.tolist(),
            "level": LEVEL,
        }


def fit_tasks(
    evidence: Evidence, predicted: Floats, folds: Ints, families: Ints
) -> tuple[list[TaskLink], list[dict[str, Any]]]:
    """A link for every task on which the dense model is better than chance, and their held-out errors.

    Configurations that were not asked a task, those of another run, are left out of it; a task of too few is left out.
    Errors are counted on counted configurations, or if none was asked on those that were.

    Args:
        predicted: held-out changes of NLL, nats, float64 (n).
        folds: that they were held out in; links are held out in the same.
        families: of configurations that are resampled together.

    Returns:
        Links fitted to all points, with intervals from the residuals of all folds; rows with the mean absolute error of
        accuracies, from the predicted and from the measured change, beside the constant's, and the share of accuracies
        inside 90 % intervals from the residuals of the other folds.
    """
    links, rows = [], []
    for task in evidence.dense.tasks:
        metric = _metric(task)
        if task.chance is None or metric is None:
            continue
        asked = np.array([any(each.name == task.name for each in record.tasks) for record in evidence.points.records])
        if asked.sum() < FEWEST:
            continue
        values = np.array(
            [_accuracy(evidence.points.records[place], task, metric) for place in np.flatnonzero(asked).tolist()]
        )
        change, guess, fold_of = evidence.points.change[asked], predicted[asked], folds[asked]
        dense = _accuracy(evidence.dense, task, metric)
        row: dict[str, Any] = {
            "task": task.name,
            "metric": metric,
            "items": task.items,
            "chance": task.chance,
            "dense": dense,
            "points": len(values),
        }
        if dense <= task.chance:
            rows.append({**row, "note": "dense is no better than guessing"})
            continue
        found = {
            "predicted": np.zeros(len(values)),
            "measured": np.zeros(len(values)),
            "constant": np.zeros(len(values)),
        }
        for fold in range(int(folds.max()) + 1):
            out = fold_of == fold
            if not out.any():
                continue
            fitted = task.chance, dense, *fit_curve(task.chance, dense, change[~out], values[~out])
            found["predicted"][out], found["measured"][out] = (
                accuracy_at(guess[out], *fitted),
                accuracy_at(change[out], *fitted),
            )
            found["constant"][out] = np.median(values[~out])
        places, residual = compress(guess), np.abs(found["predicted"] - values)
        order, half = np.argsort(places, kind="stable"), np.zeros(len(values))
        for fold in np.unique(fold_of):
            others = order[fold_of[order] != fold]
            half[fold_of == fold] = half_widths(places[others], residual[others], places[fold_of == fold])
        low, high = _around(found["predicted"], half)
        covered, width = (low <= values) & (values <= high), high - low
        scale, power = fit_curve(task.chance, dense, change, values)
        links.append(
            TaskLink(
                task=task.name,
                metric=metric,
                chance=task.chance,
                dense=dense,
                scale=scale,
                power=power,
                predicted=places[order],
                residual=residual[order],
            )
        )
        sampled = evidence.points.counted[asked]
        counted = sampled if sampled.any() else ~sampled
        found, counts = {name: each[counted] for name, each in found.items()}, values[counted]
        errors = {name: np.abs(each - counts) for name, each in found.items()}
        least, most = mean_interval(errors["predicted"] - errors["constant"], families[asked][counted])
        rows.append(
            {
                **row,
                "counted": int(counted.sum()),
                "mean_abs": float(errors["predicted"].mean()),
                "mean_abs_measured_change": float(errors["measured"].mean()),
                "mean_abs_constant": float(errors["constant"].mean()),
                "difference": float((errors["predicted"] - errors["constant"]).mean()),
                "difference_low": least,
                "difference_high": most,
                "spearman": rank_correlation(found["predicted"], counts),
                "coverage": float(covered[counted].mean()),
                "interval_width": float(width[counted].mean()),
                "noise": float(np.sqrt(counts * (1 - counts) / task.items).mean()),
            }
        )
    return links, rows


def fit_curve(chance: float, dense: float, change: Floats, values: Floats) -> tuple[float, float]:
    """Scale, nats, and power of the curve through accuracies at changes of NLL, nats, float64 (n) each."""

    def residual(vector: Floats) -> Floats:
        fitted = accuracy_at(change, chance, dense, float(np.exp(vector[0])), float(np.exp(vector[1])))
        return np.append(fitted - values, 0.02 * vector)

    best = optimize.least_squares(residual, [0.0, 0.0], bounds=([-5.0, -1.5], [4.0, 1.5]))
    scale, power = np.exp(best.x)
    return float(scale), float(power)


def _around(accuracy: Floats, half: Floats) -> tuple[Floats, Floats]:
    return np.clip(accuracy - half, 0.0, 1.0), np.clip(accuracy + half, 0.0, 1.0)


def accuracy_at(change: Floats, chance: float, dense: float, scale: float, power: float) -> Floats:
    """Of changes of NLL in nats, float64 (n)."""
    return np.asarray(chance + (dense - chance) * np.exp(-((np.maximum(change, 0.0) / scale) ** power)))


def _metric(task: TaskRecord) -> str | None:
    names: Sequence[str] = [name for name, values in task.metrics.items() if isinstance(values, str)]
    return next((name for wanted in _MAIN for name in names if name.partition(",")[0] == wanted), None)


def _accuracy(record: QualityRecord, task: TaskRecord, metric: str) -> float:
    own = next((each for each in record.tasks if each.name == task.name), None)
    if own is None or own.prompts != task.prompts:
        raise RunError("a record was asked something else than the dense model", value=f"{record.id} {task.name}")
    values = own.metrics[metric]
    return sum(map(float, values)) / len(values)
