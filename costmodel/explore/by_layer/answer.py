"""Answers about the homogeneous space when quality differs by layer: costs by classes, quality by programs."""

from __future__ import annotations

import dataclasses
import heapq
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.arrays import Floats, Ints
from costmodel.errors import InputError
from costmodel.explore.answer import EXACT, Answer, Found, Question
from costmodel.explore.by_class.homogeneous import HomogeneousClasses
from costmodel.explore.by_layer.bins import BinnedQuality, binned
from costmodel.explore.by_layer.quality import LayerQuality
from costmodel.explore.by_layer.sets import LayerSets
from costmodel.explore.distribution import Distribution, distribution
from costmodel.explore.pareto import tied_frontier
from costmodel.space.kinds import HomogeneousSpace


def answer_uneven(question: Question) -> Answer:
    """The answer for a homogeneous space whose quality is not alike in all layers.

    Best and frontier are exact, and so is everything about costs; the distribution of quality has a bin error, and a
    count within a limit on quality is given by bounds.

    Raises:
        InputError: on a lower limit of quality.
    """
    space, tables = question.space, question.tables
    assert isinstance(space, HomogeneousSpace)
    assert tables.quality is not None
    for limit in question.limits:
        if limit.objective.part == "quality" and not limit.is_ceiling:
            raise InputError("quality can only be limited from above here", value=str(limit), allowed="quality<=...")
    quality = LayerQuality.of(tables.quality, space)
    sets = LayerSets(tables, space, quality)
    goals = question.goals(sets.batch)
    allowed = np.flatnonzero(question.allowed(sets.batch))
    classes = HomogeneousClasses(tables, space)
    costs = [objective for objective in question.objectives if objective.part != "quality"]
    distributions: dict[str, Distribution | None] = {
        objective.name: distribution(objective.values(classes.batch), classes.counts) for objective in costs
    }
    guarantee, bins = EXACT, None
    limited = [limit for limit in question.limits if limit.objective.part == "quality"]
    if len(costs) < len(question.objectives) or limited:
        bins = _bins(sets, quality)
    if bins and len(costs) < len(question.objectives):
        distributions["quality"] = _quality_distribution(question, sets, quality, bins)
        distributions = {objective.name: distributions[objective.name] for objective in question.objectives}
        error = bins.error * tables.quality.quantum
        guarantee = f"exact but for quality's quantiles and histogram: each value within {error:.3g} of its bin"
    plain = dataclasses.replace(question, limits=tuple(x for x in question.limits if x not in limited))
    matching = int(classes.counts[plain.allowed(classes.batch)].sum())
    bounds = _matching_bounds(question, plain, sets, bins) if limited and bins else None
    exact = bounds is None or bounds[0] == bounds[1]
    return Answer(
        matching=(bounds[0] if bounds else matching) if exact else None,
        matching_bounds=None if exact else bounds,
        distinct_costs=None,
        distribution=distributions,
        top=tuple(_best(question, sets, goals, allowed)),
        frontier=tuple(_frontier(question, sets, goals, allowed)),
        guarantee=guarantee,
    )


def _best(question: Question, sets: LayerSets, goals: Floats, allowed: Ints) -> Iterator[Found]:
    """The best configurations in order, ties by quality, then number: classes enter as their least quality comes up."""
    order = allowed[np.lexsort(goals[allowed].T[::-1])].tolist()
    heap: list[tuple[Any, ...]] = []
    given: set[int] = set()
    streams: dict[int, Iterator[tuple[int, int]]] = {}
    entered = 0
    while len(given) < question.top and (heap or entered < len(order)):
        while entered < len(order) and (not heap or tuple(goals[order[entered]].tolist()) <= heap[0][0]):
            position = order[entered]
            entered += 1
            streams[position] = sets.members(position)
            _push(question, sets, streams, position, heap, given)
        if not heap:
            break
        _, number, position, found = heapq.heappop(heap)
        if number not in given:
            given.add(number)
            yield found
        _push(question, sets, streams, position, heap, given)


def _push(
    question: Question,
    sets: LayerSets,
    streams: dict[int, Iterator[tuple[int, int]]],
    position: int,
    heap: list[tuple[Any, ...]],
    given: set[int],
) -> None:
    """Put the next configuration of a class that keeps the limits on the heap, with its own costs."""
    for ticks, number in streams[position]:
        batch = question.tables.batch(question.space.choices(number)[None])
        if not question.allowed(batch)[0]:  # the class's costs are within the limits, so it is quality, which grows
            return
        if number not in given:
            key = (*question.goals(batch)[0].tolist(), ticks)
            heapq.heappush(heap, (key, number, position, question.found(batch, [(0, number)])[0]))
            return


def _frontier(question: Question, sets: LayerSets, goals: Floats, allowed: Ints) -> Iterator[Found]:
    """One configuration of least number for each point of the frontier."""
    for tied in tied_frontier(goals, allowed):
        number = min(next(sets.members(position))[1] for position in tied)
        yield question.found(question.tables.batch(question.space.choices(number)[None]), [(0, number)])[0]


def _bins(sets: LayerSets, quality: LayerQuality) -> BinnedQuality:
    return binned(quality, *_ends(sets, quality))


def _quality_distribution(
    question: Question, sets: LayerSets, quality: LayerQuality, bins: BinnedQuality
) -> Distribution:
    """Quality over all configurations: minimum, maximum and mean exact, the rest from the bins."""
    table = question.tables.quality
    assert table is not None
    dense = int(quality.stay.sum())
    counts = np.array([int(each) for each in bins.counts.sum(axis=0).tolist()], dtype=object)
    place = min(len(counts) - 1, max(0, round((dense - bins.lowest) / bins.width)))
    counts[place] += 1
    ends = _ends(sets, quality)
    ticks = np.clip(bins.lowest + bins.width * np.arange(len(counts)), *ends)
    occupied = counts > 0
    found = distribution(ticks[occupied] * np.float64(table.quantum), counts[occupied])
    mean = (quality.total() + dense) / question.space.valid_size
    return dataclasses.replace(
        found,
        minimum=ends[0] * table.quantum,
        maximum=ends[1] * table.quantum,
        mean=mean * table.quantum,
        bin_error=bins.error * table.quantum,
        exact=("min", "max", "mean"),
    )


def _ends(sets: LayerSets, quality: LayerQuality) -> tuple[int, int]:
    ticks = sets.batch.quality_ticks
    assert ticks is not None
    negated = dataclasses.replace(
        quality,
        value=-quality.value,
        stay=-quality.stay,
        enter=-quality.enter,
        leave=-quality.leave,
        both=-quality.both,
    )
    least = negated.least()[1:]
    return int(ticks.min()), max(-int(least.min()), int(ticks[0]))


def _matching_bounds(
    question: Question, plain: Question, sets: LayerSets, bins: BinnedQuality | None
) -> tuple[int, int]:
    """Between how many configurations keep all limits, from what is known of costs and of quality for each pair."""
    assert bins is not None
    assert question.tables.quality is not None
    ceiling = min(x.value for x in question.limits if x.objective.part == "quality") / question.tables.quality.quantum
    few, many = bins.at_most(ceiling)
    kept: npt.NDArray[np.bool_] = plain.allowed(sets.batch)[1:]
    free = int(sets.quality.free.sum())
    low = high = int(question.allowed(sets.batch)[0])
    within = [0] * len(few)
    for pair, size in zip(sets.pair[kept].tolist(), sets.size[kept].tolist(), strict=True):
        within[pair] += math.comb(free, size)
    for pair, (least, most) in enumerate(zip(few.tolist(), many.tolist(), strict=True)):
        low += max(0, int(least) + within[pair] - ((1 << free) - 1))
        high += min(int(most), within[pair])
    return low, high
