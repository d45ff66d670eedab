"""The answer to a goal on one device: whether and by what it is reached, and what weights in fewer bits save."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import describe
from costmodel.explore.goal import Goal
from costmodel.forward.workload import Workload
from costmodel.model import ModelSpec
from costmodel.pricing.phase import PhaseCosts
from costmodel.pricing.several import IMPOSSIBLE, Refusal

Reason = Literal[
    "reached", "launch-bound", "compute-bound", "floor", "damage", "uncertain", "fits", "does-not-fit", "impossible"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the goal is reached, why or why not, in a word and in a sentence."""

    code: Literal["yes", "no"]
    reason: Reason
    text: str

    def to_json(self) -> dict[str, str]:
        return {"code": self.code, "reason": self.reason, "text": self.text}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantised:
    """What weights in fewer bits save, alone and with the configuration; None where the device cannot or none is."""

    weight_dtype: str
    saved_pct: float | None
    with_config_pct: float | None

    def to_json(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """The answer for one device, stack and workload.

    Attributes:
        dense: costs of the dense pass.
        config: the least damaging configuration that reaches the goal; None where none does.
        saved_pct, saved_p05_pct, saved_p95_pct: of the goal's cost by that configuration, with its 90 % interval.
        most_saved_pct: the most that any configuration tried saves, whatever it damages.
        damage: of the configuration, in the unit of `damage_metric`.
        held_by_one: whether one device alone holds the dense pass.
        warnings: what a user should know of the dense pass, such as more tokens than the model has positions.
    """

    model: ModelSpec
    hardware: str
    workload: Workload
    goal: Goal
    dense: PhaseCosts
    verdict: Verdict
    config: Decomposition | None
    saved_pct: float | None
    saved_p05_pct: float | None
    saved_p95_pct: float | None
    most_saved_pct: float
    damage: float | None
    damage_metric: str
    measured: bool
    quantised: tuple[Quantised, ...]
    warnings: tuple[str, ...]
    held_by_one: bool

    def to_json(self, following: str | None) -> dict[str, Any]:
        """The contract's row; `following` is the next command."""
        work = self.workload
        return {
            "hardware": self.hardware,
            "stack": work.stack,
            "workload": {**work.to_json(), "hardware": self.hardware, "stack": work.stack},
            "dense": self.dense.to_json(),
            "verdict": self.verdict.to_json(),
            "config": None if self.config is None else self.config.to_json(),
            "saved_pct": self.saved_pct,
            "saved_p05_pct": self.saved_p05_pct,
            "saved_p95_pct": self.saved_p95_pct,
            "most_saved_pct": self.most_saved_pct,
            "quantised": [each.to_json() for each in self.quantised],
            "next": following,
            "saved_of": self.goal.metric,
            "spec": self.spec,
            "damage": self.damage,
            "warnings": list(self.warnings),
        }

    @property
    def spec(self) -> str | None:
        """The configuration as SPECs."""
        return None if self.config is None else describe(self.config, self.model)


def refusal_json(refusal: Refusal, goal: Goal) -> list[dict[str, Any]]:
    """The contract's rows of a question that cannot be answered: where it was asked, and why not."""
    names = (
        "dense",
        "config",
        "saved_pct",
        "saved_p05_pct",
        "saved_p95_pct",
        "most_saved_pct",
        "next",
        "spec",
        "damage",
    )
    return [
        {
            "hardware": refusal.hardware,
            "stack": place.stack,
            "workload": {**place.to_json(), "hardware": refusal.hardware},
            "verdict": {"code": "no", "reason": IMPOSSIBLE, "text": refusal.text},
            "quantised": [],
            "saved_of": goal.metric,
            "warnings": [],
            **dict.fromkeys(names),
        }
        for place in refusal.places
    ]
