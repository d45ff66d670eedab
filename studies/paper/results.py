"""What the case studies measured: each point with its intervals, and differences between points. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from studies.paper.points import Point
from studies.paper.tests_of_claims import Difference, paired_p
from validate.errors import RunError
from validate.interval import Interval
from validate.quality.case import DENSE
from validate.quality.intervals import change, share
from validate.quality.records import QualityRecord, TaskRecord

Floats = NDArray[np.float64]
NLL = "nll"
"""The measure that every record has: negative log-likelihood, nats per token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Items of one task answered right, as shares.

    Attributes:
        share: with Wilson's interval.
        change: against dense, paired by item.
    """

    share: Interval
    change: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A point and what was measured there.

    Attributes:
        change: of NLL against dense, nats per token.
        removed: share of the parameters.
        accuracy: by task; empty where no tasks were measured.
    """

    point: Point
    record: QualityRecord
    change: Interval
    removed: float
    accuracy: Mapping[str, Accuracy] = field(default_factory=dict)


class Results:
    """The points of all studies with their records.

    A measure is a cost: NLL, or by its name a task, whose cost is the share of items answered wrong.

    Args:
        points: of the studies.
        records: that hold all of them, and the dense model.

    Raises:
        RunError: when a point has no record, it failed, or it was asked other items than the dense model.
    """

    def __init__(self, points: Sequence[Point], records: Sequence[QualityRecord]) -> None:
        known = {record.id: record for record in records}
        dense = next((record for record in records if record.is_dense), None)
        if dense is None or dense.text is None:
            raise RunError("no dense record with text")
        self.dense, self.tokens = dense, dense.text.tokens
        self.tasks = {task.name: task for task in dense.tasks if isinstance(task.metrics.get("acc"), str)}
        spec = dense.spec()
        self.found: list[Found] = []
        self._counts = {NLL: np.array(self.tokens, dtype=np.float64)}
        self._counts |= {name: np.ones(task.items) for name, task in self.tasks.items()}
        self._costs = {measure: {DENSE.id(spec, dense.model.sha256): _cost(dense, measure)} for measure in self._counts}
        measured: dict[str, tuple[Interval, dict[str, Accuracy]]] = {}
        for point in points:
            record = known.get(point.case.id(spec, dense.model.sha256))
            if record is None or record.text is None or not self._asked_the_same(record):
                reason = record.failure.reason if record is not None and record.failure else "not measured"
                raise RunError("a case has no result", value=f"{point.study} {point.series} {point.x}", hint=reason)
            if record.id not in measured:
                for measure, costs in self._costs.items():
                    costs[record.id] = _cost(record, measure)
                measured[record.id] = self._change(record.id, NLL), self._accuracy(record)
            nll, accuracy = measured[record.id]
            self.found.append(
                Found(
                    point=point, record=record, change=nll, removed=1 - record.params / dense.params, accuracy=accuracy
                )
            )

    @property
    def measures(self) -> list[str]:
        """NLL and the tasks."""
        return list(self._counts)

    def of(self, study: str, panel: str | None = None, series: str | None = None) -> list[Found]:
        """Points of a study in their order."""
        return [
            each
            for each in self.found
            if each.point.study == study and panel in (None, each.point.panel) and series in (None, each.point.series)
        ]

    def difference(self, more: Sequence[Found], less: Sequence[Found], measure: str = NLL) -> Difference:
        """Mean cost of the first minus that of the second, paired by block or item."""
        costs = self._costs[measure]
        first, second = (np.mean([costs[each.record.id] for each in group], axis=0) for group in (more, less))
        return self._decide(first, second, measure)

    def by_size(self, more: Sequence[Found], less: Sequence[Found], measure: str = NLL) -> Difference:
        """The same difference of costs beyond dense per percent of the parameters removed."""
        costs, dense = self._costs[measure], self._costs[measure][self.dense.id]
        first, second = (
            np.mean([(costs[each.record.id] - dense) / (100 * each.removed) for each in group], axis=0)
            for group in (more, less)
        )
        return self._decide(first, second, measure)

    def interaction(
        self, pairs: Sequence[Found], singles: Mapping[int, Found], beside: Sequence[Found] = (), measure: str = NLL
    ) -> Difference:
        """Mean over pairs of layers of what both cost together beyond the sum of what each costs alone, minus the same
        of the pairs `beside`, if there are any."""
        own = self._beyond(pairs, singles, measure)
        return self._decide(own, self._beyond(beside, singles, measure) if beside else np.zeros_like(own), measure)

    def _beyond(self, pairs: Sequence[Found], singles: Mapping[int, Found], measure: str) -> Floats:
        costs, dense = self._costs[measure], self._costs[measure][self.dense.id]
        alone = {layer: costs[single.record.id] - dense for layer, single in singles.items()}
        rows = [costs[pair.record.id] - dense - sum(alone[layer] for layer in layers_of(pair)) for pair in pairs]
        mean: Floats = np.mean(rows, axis=0)
        return mean

    def _decide(self, first: Floats, second: Floats, measure: str) -> Difference:
        counts = self._counts[measure]
        found = change(first.tolist(), second.tolist(), counts.tolist())
        return Difference(found.value, found.low, found.high, paired_p(first - second, counts))

    def _change(self, identity: str, measure: str) -> Interval:
        costs = self._costs[measure]
        return change(costs[identity].tolist(), costs[self.dense.id].tolist(), self._counts[measure].tolist())

    def _accuracy(self, record: QualityRecord) -> dict[str, Accuracy]:
        found: dict[str, Accuracy] = {}
        for name, task in self.tasks.items():
            own, other = _right(record, name), _right(self.dense, name)
            found[name] = Accuracy(share=share(round(sum(own)), task.items), change=change(own, other))
        return found

    def _asked_the_same(self, record: QualityRecord) -> bool:
        prompts = {task.name: task.prompts for task in record.tasks}
        return all(prompts.get(name) == task.prompts for name, task in self.tasks.items())

    def accuracy_of_dense(self) -> dict[str, Interval]:
        """By task, with Wilson's interval."""
        return {name: share(round(sum(_right(self.dense, name))), task.items) for name, task in self.tasks.items()}

    def singles(self, series: str) -> dict[int, Found]:
        """Each layer alone, by its number."""
        return {int(each.point.x): each for each in self.of("position", series=series)}

    def twins(self) -> list[tuple[Found, Found]]:
        """Every configuration once, with plain and with whitened factors."""
        by_config: dict[str, dict[str, Found]] = {}
        for each in self.found:
            if each.record.factors != "none":
                by_config.setdefault(str(each.record.config), {}).setdefault(each.record.factors, each)
        return [(pair["plain"], pair["whitened"]) for pair in by_config.values() if len(pair) == 2]


def layers_of(found: Found) -> list[int]:
    """The layers that a configuration touches."""
    sites = {int(name.split(".")[1]) for name in found.record.config["ranks"]}
    return sorted(sites | set(found.record.config["drop"]))


def _cost(record: QualityRecord, measure: str) -> Floats:
    if measure == NLL:
        assert record.text is not None  # by the caller
        return np.array(record.text.nll)
    return 1 - np.array(_right(record, measure))


def _right(record: QualityRecord, name: str) -> list[float]:
    task: TaskRecord = next(task for task in record.tasks if task.name == name)
    return [float(each) for each in task.metrics["acc"]]
