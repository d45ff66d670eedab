"""Whether the predicted frontier moves once the points found on it have been measured and fitted too. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from costmodel.cli.common import write_file
from costmodel.cli.workload_options import Setup
from costmodel.decomposition import Decomposition
from costmodel.spec_text import Rank
from validate.errors import RecordError
from validate.loop.points import Curve, Plan
from validate.loop.search import Search
from validate.records import Record

NAME = "moved.json"


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
    before: float
    after: float
    best: float


class Moved(Record, frozen=True, kw_only=True):
    """The second fit beside the first."""

    shifts: list[Shift]
    curves: list[Curve]

    @property
    def regret(self) -> float:
        """Mean of what the first frontier's points lose to the second's at equal predicted cost, nats."""
        return sum(shift.after - shift.best for shift in self.shifts) / max(1, len(self.shifts))

    @classmethod
    def read(cls, folder: Path) -> Moved:
        """The comparison in a folder.

        Raises:
            RecordError: when there is none, or it is malformed.
        """
        try:
            return msgspec.json.decode((folder / NAME).read_bytes(), type=cls)
        except OSError as error:
            raise RecordError("cannot read refit", value=str(folder / NAME), hint=error.strerror or "") from error
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RecordError(f"{folder / NAME}: not a refit", hint=str(error)) from error


def refit(
    setup: Setup, ranks: Sequence[Rank], folder: Path, quality: str, dropped: Mapping[frozenset[int], float]
) -> str:  # fmt: skip
    """Search again with the second quality file, write moved.json, and say what changed."""
    plan, search = Plan.read(folder), Search(setup, ranks, folder / quality, dropped)
    shifts = []
    for point in plan.points:
        if point.role != "frontier" or point.quality is None:
            continue
        objective = point.label.rpartition(" ")[0]
        config = Decomposition.from_json(point.config, setup.model)
        after = search.quality(config)
        cost = float(point.params) if objective == "params" else point.costs[objective.partition(".")[0]]
        best = search.best_within(objective, cost * (1 + 1e-9))
        if after is not None and best is not None:
            shifts.append(Shift(key=point.key, objective=objective, before=point.quality, after=after,
                                best=best.nats))  # fmt: skip
    moved = Moved(shifts=shifts, curves=[each.curve() for each in search.frontiers])
    write_file(folder / NAME, msgspec.json.format(msgspec.json.encode(moved), indent=1) + b"\n")
    return f"points of the first frontier lose {moved.regret:.4f} nats to the second's"
