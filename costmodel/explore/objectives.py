"""Objectives and limits: the estimate's keys by name, which way is better, and their values for many configurations."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from costmodel.arrays import Floats, Ints
from costmodel.errors import InputError, nearest
from costmodel.explore.names import (
    METRICS,
    MORE_IS_BETTER,
    PHASES,
    REQUEST_METRICS,
    REQUEST_SAVED,
    SAME_IN_ALL,
    SAVED,
    all_names,
)
from costmodel.explore.tables import CostBatch
from costmodel.pricing.saving import saving_ends
from costmodel.units import parse_amount, unit_of

_UNKNOWN = {
    "energy_j": "the profile lacks a power figure",
    "latency_p05_s": "no calibration gives intervals",
    "latency_p95_s": "no calibration gives intervals",
    "tpot_s": "one new token takes no decode step",
}
"""Why a cost can be None."""
_PERCENT = ("pct", "p05", "p95")
"""Savings in percent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Priced:
    """What is priced, hence which names mean something: the phases in order, a request or not, a quality or not."""

    phases: tuple[str, ...]
    request: bool = False
    quality: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """One number per configuration.

    Attributes:
        name: as it was asked for; the key of every answer.
        part: prefill, decode, request or quality.
        metric: the cost's key.
        saving: relative to the dense model `pct`, its ends `p05` and `p95`, or `speedup`; else empty.
    """

    name: str
    part: str
    metric: str
    saving: str = ""

    @property
    def maximise(self) -> bool:
        """Whether more is better."""
        return bool(self.saving) or self.metric in MORE_IS_BETTER

    def values(self, batch: CostBatch) -> Floats | Ints:
        """Values of the batch's configurations, in the metric's unit, int64 where it is a count.

        Raises:
            InputError: when the cost is unknown (energy without a power figure, an interval without a calibration).
        """
        if self.saving in ("p05", "p95"):
            return self._end(batch)
        found: Floats | Ints = self._metric(batch)
        if not self.saving:
            return found
        dense: Any = np.float64(self._metric(batch.tables.dense))
        relative: Floats = dense / found if self.saving == "speedup" else 100 * (dense - found) / dense
        return relative

    def goal(self, batch: CostBatch) -> Floats:
        """Values as float64 with the sign that makes less better."""
        values = np.asarray(self.values(batch), dtype=np.float64)
        return -values if self.maximise else values

    def _end(self, batch: CostBatch) -> Floats:
        """An end of the saving's 90 % interval."""
        tables = batch.tables
        priced = tables.phases[self.part].pricer
        ends = saving_ends(tables.dense.phase(self.part), batch.phase(self.part), priced.ratio_error)
        if ends is None:
            raise InputError(f"{self.name} is unknown: no calibration gives intervals", hint="leave it out")
        return ends[0 if self.saving == "p05" else 1]

    def _metric(self, batch: CostBatch) -> Any:
        if self.part == "quality":
            return batch.quality()
        if self.part == "request":
            values = getattr(batch.request, self.metric)
        elif self.metric == "tokens_per_s":
            values = batch.tables.phases[self.part].pricer.work.tokens / batch.phase(self.part).latency_s
        else:
            values = getattr(batch.phase(self.part), self.metric)
        if values is None:
            raise InputError(f"{self.name} is unknown: {_UNKNOWN[self.metric]}", hint="leave it out")
        return values


def parse_objective(text: str, priced: Priced) -> list[Objective]:
    """The objective of a name, one for each phase where the name leaves out a phase that matters.

    Args:
        text: `decode.latency_s`, `saved.params_pct`, `prefill.saved.latency_pct`, `request.energy_j`, `quality`, ...
        priced: what the name can refer to.

    Raises:
        InputError: on an unknown name, or one whose phase is not asked for.
    """
    name = text.strip()
    if name == "quality":
        if not priced.quality:
            raise InputError(
                "the objective quality needs --quality",
                hint="give a quality FILE, or prior for a guess that knows no weights",
            )
        return [Objective(name=name, part="quality", metric="quality")]
    words = name.split(".")
    where = [word for word in words if word in (*PHASES, "request")]
    rest = [word for word in words if word not in (*PHASES, "request")]
    saved = len(rest) == 2 and rest[0] == "saved"
    key = rest[-1] if rest else ""
    metrics: dict[str, str] = {metric: metric for metric in METRICS}
    if where == ["request"]:
        metrics = dict(REQUEST_SAVED) if saved else {metric: metric for metric in REQUEST_METRICS}
    elif saved:
        metrics = dict(SAVED)
    if len(where) > 1 or len(rest) != 1 + saved or key not in metrics:
        raise InputError("unknown objective", value=text, hint=nearest(name, known_names(priced)))
    metric, saving = metrics[key], _saving(key) if saved else ""
    if where == ["request"] and not priced.request:
        raise InputError("a request is not priced", value=text, hint="add --new-tokens N")
    if where and where[0] != "request" and where[0] not in priced.phases:
        raise InputError("the phase is not priced", value=text, allowed=" or ".join(priced.phases), hint="see --phase")
    parts = where or (priced.phases[:1] if metric in SAME_IN_ALL else priced.phases)
    return [
        Objective(name=name if where or len(parts) == 1 else f"{part}.{name}", part=part, metric=metric, saving=saving)
        for part in parts
    ]


def parse_objectives(texts: Sequence[str], priced: Priced) -> list[Objective]:
    """Objectives in order, each once.

    Raises:
        InputError: on an unknown or repeated name, or one that leaves out the phase where two are priced.
    """
    found: list[Objective] = []
    for text in texts:
        each = parse_objective(text, priced)
        if len(each) > 1:
            choices = " or ".join(objective.name for objective in each)
            raise InputError("the objective's phase is missing", value=text, hint=f"write {choices}")
        if each[0].name in [objective.name for objective in found]:
            raise InputError("objective given twice", value=text)
        found += each
    if not found:
        raise InputError("no objective", hint="for example --objectives decode.latency_s,saved.params_pct")
    return found


def known_names(priced: Priced) -> list[str]:
    """Every name that `parse_objective` takes, phases written out."""
    return all_names(priced.phases, request=priced.request, quality=priced.quality)


def _saving(key: str) -> str:
    """How a saving's key relates to dense."""
    return {"speedup": "speedup", "latency_p05_pct": "p05", "latency_p95_pct": "p95"}.get(key, "pct")


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "==": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_LIMIT = re.compile(r"\s*([A-Za-z_.0-9]+?)\s*(<=|>=|==|=|<|>)\s*([^\s<=>](?:[^<=>]*[^\s<=>])?)\s*", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A bound on one objective: `decode.latency_s<=0.02`."""

    objective: Objective
    sign: str
    """One of <=, >=, ==, <, >."""
    value: float

    def __str__(self) -> str:
        number = int(self.value) if self.value.is_integer() and abs(self.value) < 1e15 else self.value
        return f"{self.objective.name}{self.sign}{number}"

    def met(self, batch: CostBatch) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Which of the batch's configurations keep it."""
        kept: np.ndarray[Any, np.dtype[np.bool_]] = self.holds(self.objective.values(batch))
        return kept

    def holds(self, values: Any) -> Any:
        """Whether values of the objective keep it."""
        return _OPERATORS[self.sign](values, self.value)

    @property
    def is_ceiling(self) -> bool:
        """Whether it bounds the side that gets worse, so that a better value never breaks it."""
        return self.sign in (("<=", "<") if not self.objective.maximise else (">=", ">"))


def parse_limit(text: str, priced: Priced) -> list[Limit]:
    """Read `NAME OP NUMBER`, the number in the name's unit or with one; without a phase it holds in every phase priced.

    Raises:
        InputError: on a malformed text, a lone =, an unknown name, a unit of something else, a number that is not
            finite, or a negative bound of something that cannot be negative.
    """
    match = _LIMIT.fullmatch(text)
    if not match:
        raise InputError(
            "not a limit",
            value=text,
            allowed="NAME OP NUMBER with OP one of <= >= == < >",
            hint="for example --limit 'decode.latency_s<=20ms'",
        )
    name, sign, number = match.groups()
    objectives = parse_objective(name, priced)
    if sign == "=":
        bound = ">=" if objectives[0].maximise else "<="
        raise InputError(
            "a limit with =",
            value=text,
            hint=f"write {name}{bound}{number} for a bound, {name}=={number} for exactly that",
        )
    value = parse_amount(number, unit_of(name), name)
    if not math.isfinite(value):
        raise InputError("a limit must be finite", value=number)
    if value < 0 and not (objectives[0].saving in _PERCENT or objectives[0].part == "quality"):
        raise InputError("a negative limit on what is never negative", value=text, allowed="0 or more")
    if objectives[0].saving in _PERCENT and value > 100:
        raise InputError("more than 100 % cannot be saved", value=text, allowed="at most 100")
    return [Limit(objective=objective, sign=sign, value=value) for objective in objectives]
