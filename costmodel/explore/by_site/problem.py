"""The per-site problem: options of every site, and costs as convex functions of sums over sites.

Every cost is a sum over sites, or a convex function of such sums that grows with each: the larger of device and host
time, energy, a request's steps, the peak of live bytes. A `Functional` is a weighted sum that never exceeds the cost
(a tangent), which is what lower bounds and supported points are made of.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.arrays import Floats, Ints
from costmodel.errors import InputError
from costmodel.explore.answer import Question
from costmodel.explore.objectives import Limit, Objective
from costmodel.explore.tables import COLUMN, CostTables
from costmodel.space.kinds import PerSiteSpace

QUALITY = ("quality", "quality")
"""The coordinate of quality among coordinates (part, additive cost)."""
Coordinate = tuple[str, str]
TIME_OF = {
    "latency_s": "device_s",
    "latency_lower_s": "lower_s",
    "latency_upper_s": "upper_s",
    "latency_p05_s": "p05_s",
    "latency_p95_s": "p95_s",
    "tokens_per_s": "device_s",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Functional:
    """A weighted sum of coordinates and a constant; weights per tick or count."""

    weights: Mapping[Coordinate, float]
    constant: float = 0.0

    def plus(self, other: Functional, factor: float) -> Functional:
        """self + factor x other."""
        keys = {**self.weights, **other.weights}
        weights = {key: self.weights.get(key, 0.0) + factor * other.weights.get(key, 0.0) for key in keys}
        return Functional(weights=weights, constant=self.constant + factor * other.constant)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SiteProblem:
    """Options of a space's sites.

    Attributes:
        tables: prices of the options.
        open: bool (layers, tensors, 1 + R): which choices a site may take; choice 0, dense, is always one.
        state: int64 (layers, tensors, 1 + R): damage class of each choice.
    """

    tables: CostTables
    open: npt.NDArray[np.bool_]
    state: Ints = field(repr=False)

    @classmethod
    def of(cls, tables: CostTables, rank: int | None = None) -> SiteProblem:
        """All choices of the tables' space, or with `rank` dense and that candidate alone."""
        space = tables.space
        shape = (*space.free.shape, 1 + len(space.ranks[0]))
        allowed: npt.NDArray[np.bool_] = np.zeros(shape, dtype=np.bool_)
        allowed[:, :, 1:] = space.free[:, :, None] & space.possible[None]
        if isinstance(space, PerSiteSpace):
            for column, options in enumerate(space.options):
                repeated = np.setdiff1d(np.arange(shape[2]), options)
                allowed[:, column, repeated] = False
        if rank is not None:
            allowed[:, :, np.arange(shape[2]) != 1 + rank] = False
        allowed[:, :, 0] = True
        state = np.zeros(shape, dtype=np.int64) if tables.quality is None else tables.quality.state
        return cls(tables=tables, open=allowed, state=state)

    @property
    def interacting(self) -> bool:
        """Whether neighbouring layers interact, so that states matter."""
        return self.tables.quality is not None and bool(self.tables.quality.interactions.any())

    @property
    def num_states(self) -> int:
        """States a layer can be in; 1 where states do not matter."""
        return self.tables.quality.num_states if self.interacting and self.tables.quality else 1

    def ticks(self, coordinate: Coordinate) -> Ints:
        """What each choice adds to a coordinate, int64 (layers, tensors, 1 + R)."""
        if coordinate == QUALITY:
            assert self.tables.quality is not None
            return self.tables.quality.value
        delta = self.tables.parts[coordinate[0]].delta[:, :, COLUMN[coordinate[1]]]
        return np.broadcast_to(delta, self.open.shape)

    def base(self, coordinate: Coordinate) -> int:
        """A coordinate of the dense model without interactions."""
        return 0 if coordinate == QUALITY else int(self.tables.parts[coordinate[0]].base[COLUMN[coordinate[1]]])

    def values(self, functional: Functional) -> Floats:
        """What each choice adds to a functional, float64 (layers, tensors, 1 + R), infinite where not open."""
        total: Any = np.zeros(self.open.shape)
        for coordinate, weight in functional.weights.items():
            total += weight * self.ticks(coordinate)
        total[~self.open] = np.inf
        return total  # type: ignore[no-any-return]

    def links(self, functional: Functional) -> Floats:
        """What a pair of neighbouring layers' states adds, float64 (layers - 1, states, states)."""
        layers = self.open.shape[0]
        if not self.interacting or self.tables.quality is None:
            return np.zeros((layers - 1, 1, 1))
        return np.float64(functional.weights.get(QUALITY, 0.0)) * self.tables.quality.interactions

    def offset(self, functional: Functional) -> float:
        """The functional of the dense model, interactions left out."""
        return functional.constant + sum(w * self.base(each) for each, w in functional.weights.items())


def coordinates(tables: CostTables, objective: Objective) -> list[Coordinate]:
    """The sums that an objective is a growing function of; the peak of live bytes comes on top for memory.

    Raises:
        InputError: when the objective does not grow with its sums, so that no exact method applies.
    """
    metric, part = objective.metric, objective.part
    if part == "quality":
        return [QUALITY]
    if metric == "arithmetic_intensity":
        raise InputError(f"{objective.name} cannot be optimised site by site", hint="use the homogeneous space")
    if part == "request":
        both = [replaced(objective, "prefill", "latency_s" if metric != "energy_j" else "energy_j")]
        found = [] if metric == "tpot_s" else coordinates(tables, both[0])
        if metric != "ttft_s":
            names = ["device_s", *_host(tables, "step"), *(["busy_s"] if metric == "energy_j" else [])]
            found += [("step", name) for name in names]
        return found
    if metric in TIME_OF:
        names = [TIME_OF[metric], *_host(tables, part)]
    elif metric == "energy_j":
        names = ["device_s", "busy_s", *_host(tables, part)]
    elif metric == "peak_memory_bytes":
        names = ["weight_bytes"]
    else:
        names = [metric]
    return [(part, name) for name in names]


def ceiling(tables: CostTables, limit: Limit) -> float:
    """The largest value of the limit's metric that keeps it, up to rounding.

    Raises:
        InputError: when the limit bounds the better side, which the per-site method cannot take.
    """
    if not limit.is_ceiling:
        raise InputError(
            "this space takes limits on the worse side only",
            value=str(limit),
            allowed=f"{limit.objective.name}{'>=' if limit.objective.maximise else '<='}...",
        )
    objective = limit.objective
    if objective.metric == "tokens_per_s":
        return tables.phases[objective.part].pricer.work.tokens / max(limit.value, 1e-300)
    if not objective.saving:
        return limit.value
    dense = float(np.asarray(replaced(objective, objective.part, objective.metric).values(tables.dense)))
    return dense / max(limit.value, 1e-300) if objective.saving == "speedup" else dense * (1 - limit.value / 100)


def metric_of(objective: Objective) -> Objective:
    """The plain cost whose decrease is the objective's improvement."""
    metric = "latency_s" if objective.metric == "tokens_per_s" else objective.metric
    return replaced(objective, objective.part, metric)


def with_plain_limits(question: Question) -> Question:
    """The question with each limit on a saving's pessimistic end as three: of the latency and of its interval's ends.

    Raises:
        InputError: on a limit on the optimistic end, or an end as an objective.
    """
    for objective in question.objectives:
        if objective.saving in ("p05", "p95"):
            hint = f"use {objective.part}.saved.latency_pct, and the end in a --limit"
            raise InputError("this space cannot be ordered by the end of an interval", value=objective.name, hint=hint)
    limits = [plain for limit in question.limits for plain in _plain(question.tables, limit)]
    return dataclasses.replace(question, limits=tuple(limits))


def _plain(tables: CostTables, limit: Limit) -> list[Limit]:
    objective = limit.objective
    if objective.saving not in ("p05", "p95"):
        return [limit]
    if objective.saving == "p95" or not limit.is_ceiling:
        raise InputError("this space takes limits on the pessimistic end from below only", value=str(limit))
    objective.values(tables.dense)  # whether the end is known
    error = tables.phases[objective.part].pricer.ratio_error
    assert error is not None
    ceiling = (1 - limit.value / 100) / (1 + error)  # share of the dense latency
    if limit.value <= 0 and ceiling < 1:  # the unchanged pass saves exactly 0, which no ceiling tells from a loss
        raise InputError(
            "this space takes limits on the pessimistic end above 0 % only, or below the loss that is not sure",
            value=str(limit),
            allowed=f"above 0 %, or up to {-100 * error:.3g} %",
            hint=f"use {objective.part}.saved.latency_pct",
        )
    limits = []
    for metric in ("latency_s", "latency_p05_s", "latency_p95_s"):
        cost = Objective(name=f"{objective.part}.{metric}", part=objective.part, metric=metric)
        dense = float(np.asarray(cost.values(tables.dense)))
        limits.append(Limit(objective=cost, sign="<=", value=dense * ceiling))
    return limits


def all_coordinates(tables: CostTables, objectives: Sequence[Objective]) -> list[Coordinate]:
    """Coordinates of several objectives, each once."""
    return list(dict.fromkeys(each for objective in objectives for each in coordinates(tables, objective)))


def memory_parts(objectives: Sequence[Objective]) -> list[str]:
    """Phases whose peak memory some objective is."""
    return list(dict.fromkeys(o.part for o in objectives if o.metric == "peak_memory_bytes"))


def replaced(objective: Objective, part: str, metric: str) -> Objective:
    return Objective(name=objective.name, part=part, metric=metric)


def _host(tables: CostTables, part: str) -> list[str]:
    return ["host_s"] if tables.parts[part].pricer.time_model.host_launch_s else []
