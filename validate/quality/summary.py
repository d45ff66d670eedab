"""Records as rows: each configuration beside the dense model, with intervals of what changed. No torch."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from validate.errors import RunError
from validate.interval import Interval
from validate.quality.intervals import IDENTICAL, change, mcnemar, mean, rank_correlations, share
from validate.quality.records import QualityRecord, TaskRecord, TextRecord

BANDS = (0.05, 0.2, 1.0)
"""Bounds, in nats per token, of the bands that changes of NLL are counted by."""

_LARGEST_NLL = 709.0
"""exp of it is a float."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextRow:
    """Text measures of one configuration, per token.

    Attributes:
        nll: mean negative log-likelihood in nats.
        perplexity: exp(nll); of a masked LM the exponential of its masked NLL. None where no float holds it.
        nll_change, kl: with paired 95 % intervals.
        flips: share of tokens whose likeliest prediction is not the dense model's.
        hits: share of tokens predicted right.
    """

    nll: float
    perplexity: float | None
    nll_change: Interval
    kl: Interval
    flips: float
    hits: float

    @property
    def perplexity_reason(self) -> str | None:
        """Why there is no perplexity; None where there is one."""
        return f"exp({self.nll:g}) is beyond the largest float" if self.perplexity is None else None

    def to_json(self) -> dict[str, Any]:
        return {
            "nll": self.nll,
            "perplexity": self.perplexity,
            "perplexity_reason": self.perplexity_reason,
            "nll_change": self.nll_change.to_json(),
            "kl": self.kl.to_json(),
            "flips": self.flips,
            "hits": self.hits,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskRow:
    """One metric of one task, or of all subjects of a group together, every item counting once.

    Attributes:
        value: with its own 95 % interval: Wilson's for a share of right answers. Of pairs Spearman's correlation.
        change: against dense, with its paired interval.
        p: of McNemar's exact test; None where items are not right or wrong.
        flips: share of items with another answer than the dense model's; None where there are no choices.
        truth_nll: mean negative log-likelihood of the right choice among all choices.
    """

    task: str
    metric: str
    items: int
    chance: float | None
    value: Interval
    change: Interval
    p: float | None
    flips: float | None
    truth_nll: float | None

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "metric": self.metric,
            "items": self.items,
            "chance": self.chance,
            "value": self.value.to_json(),
            "change": self.change.to_json(),
            "mcnemar_p": self.p,
            "flips": self.flips,
            "truth_nll": self.truth_nll,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One configuration; `text` is None and `tasks` empty where it failed or they were not asked for."""

    record: QualityRecord
    params_removed: float
    text: TextRow | None = None
    tasks: Sequence[TaskRow] = field(default=())

    def to_json(self) -> dict[str, Any]:
        record = self.record
        failure = (
            None
            if record.failure is None
            else {"stage": record.failure.stage, "kind": record.failure.kind, "reason": record.failure.reason}
        )
        return {
            "id": record.id,
            "index": record.index,
            "status": record.status,
            "failure": failure,
            "origin": record.origin,
            "factors": record.factors,
            "artefact": record.artefact and record.artefact.name,
            "config": record.config,
            "params": record.params,
            "params_removed_pct": 100 * self.params_removed,
            "text": self.text.to_json() if self.text else None,
            "tasks": [row.to_json() for row in self.tasks],
            "seconds": record.seconds,
        }


def rows(records: Sequence[QualityRecord]) -> list[Row]:
    """A row per record, each compared with the dense model's record.

    Raises:
        RunError: when there is no dense record, or records were not measured on the same text and tasks.
    """
    dense = next((record for record in records if record.is_dense), None)
    if records and dense is None:
        raise RunError("records without the dense model", value=records[0].id, hint="measure it: --resume does")
    return [_row(record, dense) for record in records if dense is not None]


def bands(found: Iterable[Row]) -> dict[str, int]:
    """How many configurations fall in each band of the change of NLL; below the first bound also what improves."""
    edges = [-math.inf, *BANDS, math.inf]
    names = [
        f"below {BANDS[0]:g}",
        *(f"{low:g} to {high:g}" for low, high in itertools.pairwise(BANDS)),
        f"above {BANDS[-1]:g}",
    ]
    counts = dict.fromkeys(names, 0)
    for row in found:
        if row.text is not None and not row.record.is_dense:
            value = row.text.nll_change.value
            place = next(index for index in range(len(names)) if value < edges[index + 1])
            counts[names[place]] += 1
    return counts


def _row(record: QualityRecord, dense: QualityRecord) -> Row:
    removed = 1 - record.params / dense.params
    if record.failure is not None or dense.failure is not None:
        return Row(record=record, params_removed=removed)
    text = _text(record.text, dense.text, record.id) if record.text and dense.text else None
    return Row(record=record, params_removed=removed, text=text, tasks=_tasks(record, dense))


def _text(own: TextRecord, dense: TextRecord, name: str) -> TextRow:
    if (own.source.sha256, own.tokens, own.length) != (dense.source.sha256, dense.tokens, dense.length):
        raise RunError("a record is of another text than the dense model's", value=name)
    tokens = sum(own.tokens)
    nll = sum(own.nll) / tokens
    return TextRow(
        nll=nll,
        perplexity=math.exp(nll) if nll < _LARGEST_NLL else None,
        nll_change=change(own.nll, dense.nll, own.tokens),
        kl=change(own.kl, [0.0] * len(own.kl), own.tokens),
        flips=sum(own.flips) / tokens,
        hits=sum(own.hits) / tokens,
    )


def _tasks(record: QualityRecord, dense: QualityRecord) -> list[TaskRow]:
    found: list[TaskRow] = []
    other = {task.name: task for task in dense.tasks}
    for task in record.tasks:
        if task.name not in other or not _alike(task, other[task.name]):
            raise RunError("a record was asked something else than the dense model", value=f"{record.id} {task.name}")
    pairs = [(task, other[task.name]) for task in record.tasks]
    for group in dict.fromkeys(task.group for task in record.tasks):
        members = [pair for pair in pairs if pair[0].group == group]
        alike = len({tuple(task.metrics) for task, _ in members}) == 1
        split = [members] if alike and len(members) > 2 else [[member] for member in members]  # mmlu; not mc1 with mc2
        for part in split:
            name = group if len(part) > 1 else part[0][0].name
            found += [_task(name, metric, part) for metric in part[0][0].metrics]
    return found


def _alike(task: TaskRecord, other: TaskRecord) -> bool:
    """Whether the same was asked and noted of both."""
    kept = [(each.prompts, each.items, each.answers is None, each.truth_nll is None) for each in (task, other)]
    kinds = [{name: type(row) for name, row in each.metrics.items()} for each in (task, other)]
    return kept[0] == kept[1] and kinds[0].keys() == kinds[1].keys()


def _task(name: str, metric: str, pairs: Sequence[tuple[TaskRecord, TaskRecord]]) -> TaskRow:
    if scores := pairs[0][0].scores:
        return _correlated(name, pairs[0], scores)
    mine, theirs = ([float(each) for pair in pairs for each in pair[side].metrics[metric]] for side in (0, 1))
    binary = all(isinstance(task.metrics[metric], str) for pair in pairs for task in pair)
    bits = ["".join(str(pair[side].metrics[metric]) for pair in pairs) for side in (0, 1)] if binary else None
    answers = [[answer for pair in pairs for answer in pair[side].answers or []] for side in (0, 1)]
    truth = [value for task, _ in pairs for value in task.truth_nll or []]
    chances = [(task.chance, task.items) for task, _ in pairs]
    items = len(mine)
    return TaskRow(
        task=name,
        metric=metric,
        items=items,
        chance=sum(chance * count for chance, count in chances if chance is not None) / items
        if all(chance is not None for chance, _ in chances)
        else None,
        value=share(round(sum(mine)), items) if binary else mean(mine),
        change=IDENTICAL if all(own is other for own, other in pairs) else change(mine, theirs),
        p=mcnemar(*bits) if bits else None,
        flips=sum(a != b for a, b in zip(*answers, strict=True)) / items if len(answers[0]) == items else None,
        truth_nll=sum(truth) / items if len(truth) == items else None,
    )


def _correlated(name: str, pair: tuple[TaskRecord, TaskRecord], scores: Sequence[float]) -> TaskRow:
    """How well the order of a record's values is that of the scores."""
    mine, theirs = ([float(value) for row in each.metrics.values() for value in row] for each in pair)
    value, moved = rank_correlations(mine, theirs, scores)
    return TaskRow(
        task=name,
        metric="spearman",
        items=len(scores),
        chance=None,
        value=value,
        change=IDENTICAL if pair[0] is pair[1] else moved,
        p=None,
        flips=None,
        truth_nll=None,
    )
