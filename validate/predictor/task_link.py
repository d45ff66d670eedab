"""From the change of NLL to a task's accuracy: falling, and never below that of guessing. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize

from validate.errors import RunError
from validate.predictor.errors import mean_interval, rank_correlation
from validate.predictor.points import FEWEST, Evidence, Floats, Ints
from validate.quality.records import QualityRecord, TaskRecord

_MAIN = ("acc", "exact_match")


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskLink:
    """accuracy = chance + (dense - chance) x exp(-(change / scale) ** power), for changes of at least 0.

    Attributes:
        task, metric: what is predicted.
        chance, dense: accuracy of guessing and of the dense model.
        scale: nats.
        power: above 0.
    """

    task: str
    metric: str
    chance: float
    dense: float
    scale: float
    power: float

    def accuracy(self, change: Floats) -> Floats:
        """Of changes of NLL in nats, float64 (n)."""
        return _curve(change, self.chance, self.dense, self.scale, self.power)

    def to_json(self) -> dict[str, Any]:
        return {"task": self.task, "metric": self.metric, "chance": self.chance, "dense": self.dense,
                "scale_nats": self.scale, "power": self.power}  # fmt: skip


def fit_tasks(
    evidence: Evidence, predicted: Floats, folds: Ints, families: Ints
) -> tuple[list[TaskLink], list[dict[str, Any]]]:  # fmt: skip
    """A link for every task on which the dense model is better than chance, and their held-out errors.

    Configurations that were not asked a task, those of another run, are left out of it; a task of too few is left out.
    Errors are counted on counted configurations, or if none was asked on those that were.

    Args:
        predicted: held-out changes of NLL, nats, float64 (n).
        folds: that they were held out in; links are held out in the same.
        families: of configurations that are resampled together.

    Returns:
        Links fitted to all points; rows with the mean absolute error of accuracies, from the predicted and from the
        measured change, beside the constant's.
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
        row: dict[str, Any] = {"task": task.name, "metric": metric, "items": task.items, "chance": task.chance,
                               "dense": dense, "points": len(values)}  # fmt: skip
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
            link = _fit(task, metric, dense, change[~out], values[~out])
            found["predicted"][out], found["measured"][out] = link.accuracy(guess[out]), link.accuracy(change[out])
            found["constant"][out] = values[~out].mean()
        sampled = evidence.points.counted[asked]
        counted = sampled if sampled.any() else ~sampled
        found, counts = {name: each[counted] for name, each in found.items()}, values[counted]
        errors = {name: np.abs(each - counts) for name, each in found.items()}
        low, high = mean_interval(errors["predicted"] - errors["constant"], families[asked][counted])
        links.append(_fit(task, metric, dense, change, values))
        rows.append({
            **row, "counted": int(counted.sum()), "mean_abs": float(errors["predicted"].mean()),
            "mean_abs_measured_change": float(errors["measured"].mean()),
            "mean_abs_constant": float(errors["constant"].mean()),
            "difference": float((errors["predicted"] - errors["constant"]).mean()),
            "difference_low": low, "difference_high": high, "spearman": rank_correlation(found["predicted"], counts),
            "noise": float(np.sqrt(counts * (1 - counts) / task.items).mean()),
        })  # fmt: skip
    return links, rows


def _fit(task: TaskRecord, metric: str, dense: float, change: Floats, values: Floats) -> TaskLink:
    chance = task.chance or 0.0

    def residual(vector: Floats) -> Floats:
        fitted = _curve(change, chance, dense, float(np.exp(vector[0])), float(np.exp(vector[1])))
        return np.append(fitted - values, 0.02 * vector)

    best = optimize.least_squares(residual, [0.0, 0.0], bounds=([-5.0, -1.5], [4.0, 1.5]))
    scale, power = np.exp(best.x)
    return TaskLink(task=task.name, metric=metric, chance=chance, dense=dense, scale=float(scale), power=float(power))


def _curve(change: Floats, chance: float, dense: float, scale: float, power: float) -> Floats:
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
