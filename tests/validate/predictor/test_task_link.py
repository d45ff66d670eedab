"""From a change of NLL to a task's accuracy: the curve, the errors of links that were held out, and who has none."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import msgspec
import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("safetensors")

from predicting import ITEMS, made_records, made_sensitivity, write_records
from scipy import optimize, stats

from validate.errors import RunError
from validate.predictor.crossval import random_folds
from validate.predictor.errors import mean_interval
from validate.predictor.evidence import Evidence, read_evidence
from validate.predictor.interval import half_widths
from validate.predictor.points import Floats
from validate.predictor.score import compress
from validate.predictor.task_link import TaskLink, fit_curve, fit_tasks

CHANCE = 0.25


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Of 80 configurations the last 15 not sampled."""
    found = made_sensitivity(gradients=False)
    records = made_records(found, 81, tasks=True)
    records[66:] = [msgspec.structs.replace(record, origin="given") for record in records[66:]]
    return read_evidence([write_records(tmp_path_factory.mktemp("tasks"), records)], found)


def accuracies(evidence: Evidence) -> Floats:
    return np.array([record.tasks[0].metrics["acc"].count("1") / ITEMS for record in evidence.points.records])


def fitted(evidence: Evidence, guess: Floats) -> tuple[list[TaskLink], list[dict[str, Any]]]:
    count = len(evidence.points)
    return fit_tasks(evidence, guess, random_folds(np.arange(count), 5, 0), np.arange(count) // 2)


def curve(change: Floats, dense: float, scale: float, power: float) -> Floats:
    return CHANCE + (dense - CHANCE) * np.array([math.exp(-((max(each, 0.0) / scale) ** power)) for each in change])


def best_curve(change: Floats, values: Floats, dense: float) -> tuple[float, float]:
    """Scale and power of least squares, by a search without derivatives; both are drawn to 1 a little."""

    def cost(vector: Floats) -> float:
        misfit = curve(change, dense, *np.exp(vector)) - values
        return float((misfit**2).sum() + (0.02 * vector**2).sum() * 0.02)

    best = optimize.minimize(cost, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-12}).x
    return math.exp(best[0]), math.exp(best[1])


def test_a_links_held_out_errors_are_those_of_fits_to_the_other_folds(evidence: Evidence) -> None:
    change, values = evidence.points.change, accuracies(evidence)
    guess = change * np.exp(np.random.default_rng(1).normal(0, 0.3, len(change)))
    (link,), (row,) = fitted(evidence, guess)
    folds, dense = random_folds(np.arange(len(change)), 5, 0), evidence.dense.tasks[0].metrics["acc"].count("1") / ITEMS
    found = {name: np.zeros(len(change)) for name in ("predicted", "measured", "constant")}
    half = np.zeros(len(change))
    for fold in range(5):
        out = folds == fold
        one = dense, *best_curve(change[~out], values[~out], dense)
        found["predicted"][out], found["measured"][out] = curve(guess[out], *one), curve(change[out], *one)
        found["constant"][out] = np.median(values[~out])
    misfit = np.abs(found["predicted"] - values)
    for fold in range(5):
        out = folds == fold
        order = np.argsort(guess[~out])
        half[out] = half_widths(compress(guess[~out])[order], misfit[~out][order], compress(guess[out]))
    low, high = (np.clip(found["predicted"] + sign * half, 0, 1) for sign in (-1, 1))
    counted = slice(0, 65)
    errors = {name: np.abs(each - values)[counted] for name, each in found.items()}
    gain = errors["predicted"] - errors["constant"]
    least, most = mean_interval(gain, (np.arange(len(change)) // 2)[counted])
    near = {"rel": 1e-3, "abs": 1e-6}
    assert row == {
        "task": "toy",
        "metric": "acc",
        "items": ITEMS,
        "chance": CHANCE,
        "dense": dense,
        "points": 80,
        "counted": 65,
        "mean_abs": pytest.approx(errors["predicted"].mean(), **near),
        "mean_abs_measured_change": pytest.approx(errors["measured"].mean(), **near),
        "mean_abs_constant": pytest.approx(errors["constant"].mean(), **near),
        "difference": pytest.approx(gain.mean(), **near),
        "difference_low": pytest.approx(least, **near),
        "difference_high": pytest.approx(most, **near),
        "spearman": pytest.approx(stats.spearmanr(found["predicted"][counted], values[counted]).statistic, abs=1e-3),
        "coverage": pytest.approx(((low <= values) & (values <= high))[counted].mean(), abs=1e-6),
        "interval_width": pytest.approx((high - low)[counted].mean(), **near),
        "noise": pytest.approx(np.sqrt(values * (1 - values) / ITEMS)[counted].mean()),
    }
    assert (link.scale, link.power) == pytest.approx(best_curve(change, values, dense), rel=1e-3)
    assert (link.task, link.metric, link.chance, link.dense) == ("toy", "acc", CHANCE, dense)
    order = np.argsort(guess)
    assert link.predicted == pytest.approx(compress(guess)[order])
    assert link.residual == pytest.approx(misfit[order], **near)


def test_a_link_falls_from_dense_to_chance_and_says_so_as_a_table() -> None:
    link = TaskLink(
        task="t",
        metric="acc",
        chance=0.25,
        dense=0.95,
        scale=0.5,
        power=1.5,
        predicted=np.linspace(-1, 5, 30),
        residual=np.full(30, 0.1),
    )
    assert link.accuracy(np.array([-1.0, 0.0, 0.5, 1e3])) == pytest.approx([0.95, 0.95, 0.25 + 0.7 / math.e, 0.25])
    low, high = link.interval(np.array([0.0, 0.5]))
    assert low == pytest.approx([0.85, 0.15 + 0.7 / math.e])
    assert high == pytest.approx([1.0, 0.35 + 0.7 / math.e])  # an accuracy is at most 1
    table = link.to_json()
    grid = np.array(table["nll_change"])
    assert (grid[0], grid[-1]) == (0.0, 5.0)
    assert (np.diff(grid) > 0).all()
    assert table["accuracy"] == pytest.approx(link.accuracy(grid).tolist())
    assert (table["low"], table["high"]) == tuple(pytest.approx(end.tolist()) for end in link.interval(grid))
    assert {name: table[name] for name in ("task", "metric", "chance", "dense", "scale_nats", "power", "level")} == {
        "task": "t",
        "metric": "acc",
        "chance": 0.25,
        "dense": 0.95,
        "scale_nats": 0.5,
        "power": 1.5,
        "level": 0.9,
    }


def with_tasks(evidence: Evidence, asked: int, **changes: Any) -> Evidence:
    """The first so many records asked, the dense model's task changed."""
    replace = msgspec.structs.replace
    dense = replace(evidence.dense, tasks=(replace(evidence.dense.tasks[0], **changes),))
    records = [
        record if place < asked else replace(record, tasks=()) for place, record in enumerate(evidence.points.records)
    ]
    return dataclasses.replace(evidence, dense=dense, points=dataclasses.replace(evidence.points, records=records))


def test_only_who_was_asked_counts(evidence: Evidence) -> None:
    change = evidence.points.change
    links, rows = fitted(with_tasks(evidence, 40), change)
    assert ([row["points"] for row in rows], [row["counted"] for row in rows]) == ([40], [40])
    assert links[0].predicted.shape == (40,)
    assert fitted(with_tasks(evidence, 39), change) == ([], [])


def test_where_none_of_the_sampled_was_asked_errors_are_counted_on_the_others(evidence: Evidence) -> None:
    replace = msgspec.structs.replace
    records = [
        replace(record, origin="sample", tasks=()) if place < 40 else replace(record, origin="given")
        for place, record in enumerate(evidence.points.records)
    ]
    points = dataclasses.replace(evidence.points, records=records)
    _, (row,) = fitted(dataclasses.replace(evidence, points=points), points.change)
    assert (row["points"], row["counted"]) == (40, 40)


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({"chance": None}, None),
        ({"metrics": {"f1": "1" * ITEMS, "acc": [0.5] * ITEMS}}, None),
        ({"metrics": {"acc": "01" * (ITEMS // 2)}, "chance": 0.5}, "dense is no better than guessing"),
    ],
)
def test_a_task_without_a_share_above_guessing_has_no_link(
    evidence: Evidence, changes: dict[str, Any], note: str | None
) -> None:
    links, rows = fitted(with_tasks(evidence, 80, **changes), evidence.points.change)
    assert (links, [row.get("note") for row in rows]) == ([], [note] if note else [])


def test_a_share_of_right_answers_goes_before_an_exact_match(evidence: Evidence) -> None:
    """Whatever filter its name has behind a comma."""
    replace = msgspec.structs.replace
    bits = evidence.dense.tasks[0].metrics["acc"]
    dense = with_tasks(evidence, 80, metrics={"exact_match,x": "0" * ITEMS, "acc,none": bits})
    records = [
        replace(
            record,
            tasks=(replace(record.tasks[0], metrics={"acc,none": record.tasks[0].metrics["acc"]}),),
        )
        for record in evidence.points.records
    ]
    own = dataclasses.replace(dense, points=dataclasses.replace(evidence.points, records=records))
    (link,), (row,) = fitted(own, evidence.points.change)
    assert link.metric == row["metric"] == "acc,none"
    (plain,), _ = fitted(evidence, evidence.points.change)
    assert (link.scale, link.power) == (plain.scale, plain.power)


def test_who_was_asked_something_else_is_refused(evidence: Evidence) -> None:
    with pytest.raises(RunError, match=f"{evidence.points.records[0].id} toy"):
        fitted(with_tasks(evidence, 80, prompts="other"), evidence.points.change)


def test_a_link_that_falls_at_once_is_held_within_bounds() -> None:
    """Where accuracies are those of guessing at a thousandth of a nat, and where they never fall."""
    change = np.linspace(1e-3, 2, 60)
    at_once, never = (fit_curve(CHANCE, 0.9, change, np.full(60, level)) for level in (CHANCE, 0.9))
    assert at_once[0] == pytest.approx(math.exp(-5), rel=1e-2)
    assert math.exp(-1.5) <= never[1] <= math.exp(1.5)
    assert never[0] <= math.exp(4) * (1 + 1e-9)
