"""Answers about homogeneous spaces over several kinds of layers that are too many for classes.

The frontier and the best come from the sums that nothing dominates (`labels`), each priced in full: exact, or within a
gap that is printed. Extremes and means of sums are exact too (`extremes`); the rest of a distribution is from a sample.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from costmodel.arrays import Floats, Ints
from costmodel.errors import InputError
from costmodel.explore.answer import EXACT, EXACT_FIRST, Answer, Found, Question
from costmodel.explore.by_kind.extremes import extremes_of
from costmodel.explore.by_kind.kinds import MAX_KINDS, Kinds
from costmodel.explore.by_kind.labels import Labels, labels
from costmodel.explore.by_kind.metrics import Metrics
from costmodel.explore.by_site.extremes import Extremes
from costmodel.explore.by_site.problem import ceiling, memory_parts, metric_of, with_plain_limits
from costmodel.explore.by_site.sample import SAMPLE, SEED, sampled_answer
from costmodel.explore.objectives import Objective
from costmodel.explore.pareto import nondominated
from costmodel.explore.tables import CostBatch
from costmodel.explore.text import objective_text

_REPORTED = 1200
"""Most points of a frontier."""


def answer_by_kinds(question: Question) -> Answer:
    """The answer for a homogeneous space with layers of several kinds.

    Raises:
        InputError: on a cost that does not grow with sums over sites, a limit on the better side, or too many kinds.
    """
    question = with_plain_limits(question)
    tables = question.tables
    asked = [*question.objectives, *(limit.objective for limit in question.limits)]
    for objective in asked:
        if objective.metric == "arithmetic_intensity":
            hint = "leave it out, give fewer --ranks, or keep some tensors dense"
            raise InputError("no sum over weights, and the space is too large to list", value=objective.name, hint=hint)
    ceilings = [ceiling(tables, limit) for limit in question.limits]
    costs = [metric_of(objective) for objective in asked]
    peaks = memory_parts(costs)
    graded = any(cost.part == "quality" for cost in costs)
    kinds = Kinds.of(tables, peaks, graded=graded)
    what = "quality differs from layer to layer" if graded else "layers differ too much for the homogeneous space"
    if graded and tables.quality and tables.quality.interactions.any():
        hint = "leave quality out, or use --space per-site"
        raise InputError("quality of neighbouring layers interacts, and layers have different tensors", hint=hint)
    if len(kinds.layers) > MAX_KINDS:
        raise InputError(
            what,
            value=f"{len(kinds.layers)} kinds of layers",
            allowed=f"at most {MAX_KINDS} of a space too large to list",
            hint="leave quality out, or use --space per-site" if graded else "use --space per-site",
        )
    metrics = Metrics.of(kinds, costs, peaks)
    found = labels(metrics.parts())
    batch = kinds.batch(found.candidate, found.names, found.numbers)
    goals, allowed = question.goals(batch), question.allowed(batch)
    slack = {cost: metrics.slack(cost, found.slack) for cost in costs}
    exact = not found.slack.any()

    @functools.cache
    def known(objective: Objective) -> Extremes:
        values = np.asarray(objective.values(batch), dtype=np.float64)
        best = float(values.max() if objective.maximise else values.min())
        return extremes_of(metrics, objective, best, exact)

    kept = [known(limit.objective).settled(limit) for limit in question.limits]
    sample = kinds.sample(SAMPLE, SEED)
    if False in kept:
        return sampled_answer(question, sample, known, kept)
    positions = np.flatnonzero(allowed)
    front = positions[nondominated(goals[positions])]
    order = positions[np.lexsort(goals[positions].T[::-1])][: question.top]
    gap, best_gap = slack[costs[0]], 0.0
    if not exact and len(order):
        first = np.asarray(costs[0].values(batch), dtype=np.float64)
        near = np.ones(len(first), dtype=np.bool_)
        for limit, most in zip(question.limits, ceilings, strict=True):
            cost = metric_of(limit.objective)
            near &= np.asarray(cost.values(batch), dtype=np.float64) - slack[cost] <= most * (1 + 1e-12)
        best_gap = max(0.0, float(first[order[0]] - (first[near].min() - gap)))
    shown = front[_spread(goals[front, 0])]
    best, points = (_found(question, kinds, found, batch, some) for some in (order, shown))
    words = _words(question, slack, best_gap, batch, exact, len(positions) > 0)
    if len(shown) < len(front):
        words += f"; {len(shown)} of the frontier's {len(front)} points are listed"
    return sampled_answer(
        question,
        sample,
        known,
        kept,
        top=best,
        frontier=points,
        guarantee=words,
        frontier_gap=gap,
        top_gap=best_gap,
    )


def _spread(first: Floats) -> Ints:
    """Positions of at most _REPORTED points, evenly along the first objective, both ends among them."""
    if len(first) <= _REPORTED:
        return np.arange(len(first))
    order = np.argsort(first, kind="stable")
    return np.sort(order[np.linspace(0, len(first) - 1, _REPORTED).round().astype(np.int64)])


def _words(
    question: Question, slack: dict[Objective, float], best_gap: float, batch: CostBatch, exact: bool, some: bool
) -> str:
    if exact:
        return EXACT_FIRST if question.top > 1 and some else EXACT
    if not some:
        return "no configuration was found within the limits, which is no proof that there is none"
    amounts = []
    for objective in question.objectives:
        cost = metric_of(objective)
        values = np.asarray(cost.values(batch), dtype=np.float64)
        if slack[cost]:
            amounts.append(_amount(cost, slack[cost], float(np.ptp(values))))
    words = f"frontier: no configuration is better than one of it by more than {' and '.join(amounts) or 'rounding'}"
    limited = [metric_of(limit.objective) for limit in question.limits]
    if any(slack[cost] for cost in limited):
        words += " (where it keeps the limits by as much)"
    first = metric_of(question.objectives[0])
    span = float(np.ptp(np.asarray(first.values(batch), dtype=np.float64)))
    return f"{words}; best: within {_amount(first, best_gap, span) if best_gap else 'rounding'} of the optimum"


def _amount(cost: Objective, value: float, span: float) -> str:
    """An amount in the cost's unit and as a share of how far the cost ranges over what was found."""
    return f"{objective_text(cost.metric, value)} ({100 * value / span if span else 0:.2g} % of its range)"


def _found(
    question: Question, kinds: Kinds, found: Labels, batch: CostBatch, positions: Sequence[int] | Ints
) -> tuple[Found, ...]:
    chosen = []
    for position in np.asarray(positions, dtype=np.int64).tolist():
        one = slice(position, position + 1)
        choices = kinds.choices(int(found.candidate[position]), found.names[one], found.numbers[one])
        chosen.append((position, question.space.index_of(choices[0])))
    return question.found(batch, chosen)
