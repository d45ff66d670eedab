"""Answers about spaces too large for classes: frontier and best by knapsack methods, quantiles by sampling.

First the exact method (`labels`). Where it would take too long: supported points and the lines through them (`hull`), a
program on a grid (`grid`), multipliers for limits (`limits`). Every configuration found is priced in full, so what is
reported is attained; the lower bounds say how much better anything else could be. Extremes and means of the costs come
from their sums (`extremes`), the rest of a distribution from a sample.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Choices, Floats, Ints
from costmodel.errors import InputError
from costmodel.explore.answer import EXACT, EXACT_FIRST, Answer, Found, Question
from costmodel.explore.by_site.extremes import extremes
from costmodel.explore.by_site.grid import WORK, Grid, grid
from costmodel.explore.by_site.hull import Hull, fill, hull
from costmodel.explore.by_site.labels import exact_labels
from costmodel.explore.by_site.multipliers import best_of_all, best_under_limits
from costmodel.explore.by_site.problem import (
    Functional,
    SiteProblem,
    all_coordinates,
    ceiling,
    memory_parts,
    metric_of,
    with_plain_limits,
)
from costmodel.explore.by_site.sample import sampled_answer, uniform_sample
from costmodel.explore.by_site.tangents import tangents, useful
from costmodel.explore.objectives import Objective
from costmodel.explore.pareto import nondominated
from costmodel.explore.text import objective_text
from costmodel.space.kinds import PerLayerSpace

_POINTS = 2000
_REPORTED = 1200
"""Most points of a frontier that is not exact; the gap is that of the points reported."""
_EQUAL = 1e-9
"""Share of its range by which two second objectives must differ to count as different in the gap."""
_ROUNDING = 1e-11
"""Share of the largest cost below which a gap is that of floats, not of the method."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Pool:
    """Distinct configurations, priced."""

    choices: Choices
    goals: Floats
    allowed: np.ndarray[tuple[int], np.dtype[np.bool_]]
    metrics: Floats
    """The plain costs whose decrease is the objectives' improvement, float64 (n, objectives)."""


def answer_by_sites(question: Question) -> Answer:
    """The answer for a per-site space, or a per-layer space that is too large or uneven for classes.

    Raises:
        InputError: on more than two objectives where the exact method is out of reach, or a limit on the better side.
    """
    question = with_plain_limits(question)
    tables, space = question.tables, question.space
    for limit in question.limits:
        ceiling(tables, limit)
    asked = [*question.objectives, *(limit.objective for limit in question.limits)]
    metrics = [metric_of(objective) for objective in asked]
    coordinates = all_coordinates(tables, metrics)
    raised = any(tables.phases[part].raises_peak for part in memory_parts(metrics))
    candidates = range(len(space.ranks[0])) if isinstance(space, PerLayerSpace) else [None]
    problems = [SiteProblem.of(tables, rank) for rank in candidates]
    known = functools.partial(extremes, tables, problems)
    kept = [known(limit.objective).settled(limit) for limit in question.limits]
    sample = uniform_sample(question)
    if False in kept:
        return sampled_answer(question, sample, known, kept)
    exact = [None if raised else exact_labels(problem, coordinates) for problem in problems]
    gap = slack = 0.0
    guarantee = EXACT
    found = [choices for choices in exact if choices is not None]
    missed = len(found) < len(problems)
    if missed:
        if len(question.objectives) > 2:
            raise InputError(
                f"a {space.kind} space of this size takes two objectives",
                value=len(question.objectives),
                hint="name two with --objectives, or use the homogeneous space",
            )
        found, bounds = _approximate(question, problems)
        bests, lowest = _limited(question, problems) if question.top else ([], None)
        pool = _price(question, [*found, *bests])
    else:
        pool = _price(question, found)
    allowed = np.flatnonzero(pool.allowed)
    front = allowed[nondominated(pool.goals[allowed])]
    order = allowed[np.lexsort(pool.goals[allowed].T[::-1])][: question.top]
    if missed:
        front = front[_spread(pool.metrics[front, 0])]
        gap = _frontier_gap(pool, front, bounds, lowest)
        slack = _best_gap(question, pool, order, bounds, lowest)
        guarantee = _words(question, pool, order, gap, slack)
    elif question.top > 1:
        guarantee = EXACT_FIRST
    best, points = _found(question, pool, order.tolist()), _found(question, pool, front.tolist())
    return sampled_answer(
        question,
        sample,
        known,
        kept,
        top=best,
        frontier=points,
        guarantee=guarantee,
        frontier_gap=gap,
        top_gap=slack,
    )


def _spread(first: Floats) -> Ints:
    """Positions of at most _REPORTED points that cover the range of the first objective's metric evenly."""
    if len(first) <= _REPORTED:
        return np.arange(len(first))
    order = np.argsort(first, kind="stable")
    wanted = np.linspace(first[order[0]], first[order[-1]], _REPORTED // 2)
    after = np.minimum(np.searchsorted(first[order], wanted), len(first) - 1)
    return np.sort(order[np.unique(np.concatenate([after, np.maximum(after - 1, 0)]))])


Bound = Callable[[Floats], Floats]
"""Lower bounds of the first objective's metric, given ceilings of the second's."""


def _approximate(question: Question, problems: Sequence[SiteProblem]) -> tuple[list[Choices], list[Bound]]:
    """Configurations along the frontier, and for each problem what none of its configurations can go below."""
    tables = question.tables
    firsts = useful(problems, tangents(tables, metric_of(question.objectives[0])))
    seconds = [Functional(weights={})]
    if len(question.objectives) > 1:
        seconds = useful(problems, tangents(tables, metric_of(question.objectives[1])))
    pairs = list(itertools.product(firsts, seconds))
    found, bounds = [], []
    for problem in problems:
        lines: list[Hull | Grid] = []
        for first, second in pairs:
            supported = hull(problem, first, second)
            lines.append(supported)
            found.append(fill(problem, supported.choices, 2 * _POINTS // (len(pairs) * len(problems))))
            programmed = grid(problem, first, second, _POINTS // len(problems), WORK // (len(pairs) * len(problems)))
            lines.append(programmed)
            found.append(programmed.choices)
        bounds.append(_highest(lines))
    return found, bounds


def _highest(lines: Sequence[Hull | Grid]) -> Bound:
    return lambda second: np.max([each.least_first(second) for each in lines], axis=0)


def _limited(question: Question, problems: Sequence[SiteProblem]) -> tuple[list[Choices], float | None]:
    """Candidates for the best within the limits, and a lower bound of the first objective's metric."""
    tables = question.tables
    firsts = useful(problems, tangents(tables, metric_of(question.objectives[0])))
    limits = [
        (functional, ceiling(tables, limit))
        for limit in question.limits
        for functional in useful(problems, tangents(tables, metric_of(limit.objective)))
    ]
    if not limits:
        free = [best_of_all(problem, firsts) for problem in problems]
        return [each.choices for each in free], min(each.lower for each in free)
    results = [best_under_limits(problem, firsts, limits) for problem in problems]
    return [each.choices for each in results], min(each.lower for each in results)


def _price(question: Question, found: Sequence[Choices]) -> _Pool:
    """Price distinct configurations in full."""
    joined = np.concatenate(found)
    small = joined.reshape(len(joined), -1).astype(np.int16)
    _, first = np.unique(small.view(np.dtype((np.void, small.shape[1] * 2))).ravel(), return_index=True)
    choices = joined[np.sort(first)]
    batch = question.tables.batch(choices)
    metrics = [np.asarray(metric_of(o).values(batch), dtype=np.float64) for o in question.objectives]
    return _Pool(
        choices=choices,
        goals=question.goals(batch),
        allowed=question.allowed(batch),
        metrics=np.stack(metrics, axis=-1),
    )


def _frontier_gap(pool: _Pool, front: Ints, bounds: Sequence[Bound], lowest: float | None) -> float:
    """Largest amount by which some configuration could undercut the frontier in the first objective's metric.

    Between two neighbours of the frontier the better first objective is the one with the worse second; whoever wants
    a second objective below that gets the other. Second objectives that differ by less than _EQUAL of their range count
    as equal.
    """
    if not len(front):
        return 0.0
    metrics = pool.metrics[front]
    metrics = metrics[np.argsort(metrics[:, 0], kind="stable")]
    highest = float(pool.metrics[:, -1].max())
    allowances = np.array([highest + abs(highest)])
    if metrics.shape[1] > 1:
        allowances = np.append(allowances, metrics[:-1, 1] - _EQUAL * np.ptp(pool.metrics[:, 1]))
    floor = np.min([bound(allowances) for bound in bounds], axis=0)
    if lowest is not None:
        floor = np.maximum(floor, lowest)
    return float(np.max(metrics[: len(floor), 0] - floor, initial=0.0))


def _best_gap(question: Question, pool: _Pool, order: Ints, bounds: Sequence[Bound], lowest: float | None) -> float:
    """Amount by which the first objective's metric could be below that of the best one found within the limits."""
    if not len(order):
        return 0.0
    best = float(pool.metrics[order[0], 0])
    floor = -np.inf if lowest is None else lowest
    for limit in question.limits or ():
        if len(question.objectives) > 1 and metric_of(limit.objective) == metric_of(question.objectives[1]):
            allowance = np.array([ceiling(question.tables, limit)])
            floor = max(floor, float(np.min([bound(allowance) for bound in bounds])))
    if not question.limits:
        highest = float(pool.metrics[:, -1].max())
        floor = max(floor, float(np.min([bound(np.array([highest + abs(highest)])) for bound in bounds])))
    return max(0.0, best - floor)


def _words(question: Question, pool: _Pool, order: Ints, gap: float, slack: float) -> str:
    if not pool.allowed.any():
        return "no configuration was found within the limits, which is no proof that there is none"
    first = metric_of(question.objectives[0])
    least, most = pool.metrics[:, 0].min(), pool.metrics[:, 0].max()
    words = f"frontier: within {_amount(first, gap, most - least, most)} of the least {first.metric} possible"
    if len(question.objectives) > 1:
        words += f" at every {question.objectives[1].name}"
    own = [metric_of(objective).metric for objective in question.objectives]
    if any(metric_of(limit.objective).metric not in own for limit in question.limits):
        words += " (bound without regard to limits on other costs)"
    if len(order):
        words += f"; best: within {_amount(first, slack, most - least, most)} of the optimum"
    return words


def _amount(objective: Objective, value: float, span: float, largest: float) -> str:
    """An amount in the metric's unit and as a share of how far the metric ranges over what was found."""
    if value <= _ROUNDING * largest:
        return "rounding"
    return f"{objective_text(objective.metric, value)} ({100 * value / span if span else 0:.2g} % of its range)"


def _found(question: Question, pool: _Pool, positions: Sequence[int]) -> tuple[Found, ...]:
    if not positions:
        return ()
    chosen = pool.choices[list(positions)]
    numbers = [question.space.index_of(choices) for choices in chosen]
    return question.found(question.tables.batch(chosen), list(enumerate(numbers)))
