"""Where nothing keeps the limits: how near the space comes to each of them, and what stands in the way."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from costmodel.explore.answer import Answer, Found, Question
from costmodel.explore.objectives import Limit, Objective
from costmodel.explore.text import objective_text
from costmodel.space.base import DesignSpace


@dataclass(frozen=True, slots=True, kw_only=True)
class Nearest:
    """The best value of a limit's objective among configurations that keep every other limit.

    Attributes:
        limit: which.
        found: the configuration that comes nearest, None where the other limits cannot be kept either.
        alone: whether it is the only limit.
    """

    limit: Limit
    found: Found | None
    alone: bool

    @property
    def value(self) -> float | None:
        """What the nearest configuration reaches."""
        return None if self.found is None else self.found.objectives[self.limit.objective.name]

    @property
    def binds(self) -> bool:
        """Whether this limit alone is out of reach once the others are kept."""
        return self.value is not None and not self.limit.holds(self.value)

    def text(self) -> str:
        """One line for people."""
        name = self.limit.objective.name
        if self.value is None:
            return f"{self.limit}: no configuration keeps the other limits"
        reached = f"{'at best ' if self.binds else ''}{objective_text(name, self.value)}"
        if self.binds and self.limit.objective.saving and self.value <= 0:
            reached = "no configuration saves any"
        return f"{self.limit}: {reached}{'' if self.alone else ' within the others'}"

    def to_json(self, space: DesignSpace) -> dict[str, Any]:
        return {
            "limit": str(self.limit),
            "value": self.value,
            "config": None if self.found is None else space.config(self.found.number).to_json(),
        }


def nearest(question: Question, answer: Callable[[Question], Answer]) -> tuple[Nearest, ...]:
    """For each limit on the side that gets worse, how near the space comes to it within the others.

    Args:
        question: whose limits nothing keeps.
        answer: what answers a question.
    """
    found = []
    for limit in question.limits:
        if not limit.is_ceiling:
            continue
        others = tuple(other for other in question.limits if other is not limit)
        alone = dataclasses.replace(question, objectives=(_ordering(limit.objective),), limits=others, top=1)
        best = answer(alone).top
        priced = _priced(question, limit, best[0].number) if best else None
        found.append(Nearest(limit=limit, found=priced, alone=not others))
    return tuple(found)


def _ordering(objective: Objective) -> Objective:
    """What orders by an objective: the saving itself stands for the ends of its interval."""
    return dataclasses.replace(objective, saving="pct") if objective.saving in ("p05", "p95") else objective


def _priced(question: Question, limit: Limit, number: int) -> Found:
    batch = question.tables.batch(question.space.choices(number)[None])
    value = limit.objective.values(batch)[0].item()
    return Found(number=number, objectives={limit.objective.name: value})


def held_back(question: Question) -> str | None:
    """Why no rank helps where the host's launches take longer than the device's work, in words; else None."""
    for name, table in question.tables.phases.items():
        asked = any(limit.objective.part == name and limit.objective.metric == "latency_s" for limit in question.limits)
        dense = question.tables.dense.phase(name)
        if asked and float(dense.host_s) >= float(dense.device_s):
            work = table.pricer.work
            how = work.stack or work.runtime.value
            return (
                f"{name} waits for the host's launches under {how}: factors are more kernels and save no time; try "
                "--runtime graph or a stack that replays graphs (`costmodel stacks list`)"
            )
    return None
