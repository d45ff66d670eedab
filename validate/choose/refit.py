"""Whether the predicted frontier moves once the points found on it have been measured and fitted too. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from costmodel.decomposition.factors import Decomposition
from costmodel.files.write import write_file
from costmodel.model import ModelSpec
from validate.choose.points import Curve, Plan
from validate.choose.search import Search
from validate.errors import RecordError
from validate.interval import Interval
from validate.quality.intervals import mean
from validate.store.decode import Signed, read_as
from validate.store.record_format import Record

NAME = "moved.json"
MOVED = 0.01
"""Nats per token that the first frontier's points must lose to the second's for the frontier to have moved."""


class Shift(Record, frozen=True, kw_only=True):
    """A measured point of the first frontier under the second fit.

    Attributes:
        key: of the configuration.
        objective: the cost at which it is compared.
        before: increase of NLL that the first fit predicted.
        after: that the second predicts.
        best: the least that the second fit predicts of any configuration that costs no more.
    """

    key: str
    objective: str
    before: Signed
    after: Signed
    best: Signed


class Moved(Record, frozen=True, kw_only=True):
    """The second fit beside the first."""

    shifts: list[Shift]
    curves: list[Curve]

    @property
    def regret(self) -> float:
        """Mean of what the first frontier's points lose to the second's at equal predicted cost, nats."""
        return sum(shift.after - shift.best for shift in self.shifts) / max(1, len(self.shifts))

    @property
    def sentence(self) -> str:
        """Whether the frontier moved, for people."""
        if not self.shifts:
            return "with the new points fitted too, no point of the first frontier can be compared"
        lost = mean([shift.after - shift.best for shift in self.shifts])
        change = mean([shift.after - shift.before for shift in self.shifts])
        verb = "moved" if self.moved else "did not move"
        return (
            f"with the new points fitted too, the frontier {verb}: at equal predicted cost the best configurations of "
            f"the second fit are predicted to lose {_text(lost)} nats less than the {len(self.shifts)} points of the "
            f"first, which themselves are now predicted {_text(change, signed=True)} nats from before"
        )

    @property
    def moved(self) -> bool:
        """Whether the loss is more than a tenth of what the points lose, and more than MOVED nats."""
        scale = sum(abs(shift.after) for shift in self.shifts) / max(1, len(self.shifts))
        return self.regret > max(MOVED, 0.1 * scale)

    def to_json(self) -> dict[str, Any]:
        """For the verdict."""
        return {"moved": self.moved, "regret": self.regret, "points": len(self.shifts), "sentence": self.sentence}

    @classmethod
    def read(cls, folder: Path) -> Moved:
        """The comparison in a folder.

        Raises:
            RecordError: when there is none, or it is malformed.
        """
        return read_as(folder / NAME, cls, "refit", RecordError)


def refit(search: Search, model: ModelSpec, folder: Path) -> str:
    """Hold the first frontier against a search with the second quality file, write moved.json, say what changed."""
    plan = Plan.read(folder)
    shifts = []
    for point in plan.points:
        if point.role != "frontier" or point.quality is None:
            continue
        objective = point.label.rpartition(" ")[0]
        config = Decomposition.from_json(point.config, model)
        after = search.quality(config)
        cost = float(point.params) if objective == "params" else point.costs[objective.partition(".")[0]]
        best = search.best_within(objective, cost * (1 + 1e-9))
        if after is not None and best is not None:
            shifts.append(Shift(key=point.key, objective=objective, before=point.quality, after=after, best=best.nats))
    moved = Moved(shifts=shifts, curves=[each.curve() for each in search.frontiers])
    write_file(folder / NAME, msgspec.json.format(msgspec.json.encode(moved), indent=1) + b"\n")
    return f"points of the first frontier lose {moved.regret:.4f} nats to the second's"


def _text(interval: Interval, signed: bool = False) -> str:
    sign = "+" if signed else ""
    if interval.low is None or interval.high is None:
        return f"{interval.value:{sign}.3f}"
    return f"{interval.value:{sign}.3f} [{interval.low:{sign}.3f}, {interval.high:{sign}.3f}]"
