"""What a recommendation must reach: faster by a share, smaller by a share, or fitting into a size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from costmodel.arrays import Floats
from costmodel.errors import InputError
from costmodel.explore.tables import CostBatch
from costmodel.pricing.saving import saving_ends
from costmodel.units import parse_amount, require_unit, si

Kind = Literal["faster", "smaller", "fits"]
METRIC: dict[Kind, str] = {"faster": "latency_s", "smaller": "weight_bytes", "fits": "peak_memory_bytes"}
"""The cost whose saving answers each kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """`amount` is percent of the dense cost to save, or for `fits` the most bytes at the peak."""

    kind: Kind
    amount: float

    @classmethod
    def of(
        cls, faster: str | float | None = None, smaller: str | float | None = None, fits: str | float | None = None
    ) -> Goal:
        """The one that is named: `faster="20%"`, `smaller="25%"` or `fits="24GB"`; a number without a unit is percent,
        or bytes.

        Raises:
            InputError: when none or several are named, the amount is out of range, or a number without a unit is so
                small that it may mean 20 % by 0.2, or 24 GB by 24.
        """
        asked: dict[Kind, str | float | None] = {"faster": faster, "smaller": smaller, "fits": fits}
        named = [(kind, str(amount)) for kind, amount in asked.items() if amount is not None]
        if len(named) != 1:
            given = ", ".join(f"--{kind} {text}" for kind, text in named) or "none"
            allowed = "one of --faster 20%, --smaller 25%, --fits 24GB"
            raise InputError("what must it reach?", value=given, allowed=allowed)
        kind, text = named[0]
        unit = "B" if kind == "fits" else "%"
        amount = parse_amount(text, unit, f"--{kind}")
        if not 0 < amount < (np.inf if kind == "fits" else 100):
            allowed = "above 0" if kind == "fits" else "above 0 % and below 100 %"
            raise InputError(f"--{kind} out of range", value=text, allowed=allowed)
        require_unit(text, amount, unit, f"--{kind}")
        return cls(kind=kind, amount=amount)

    def __str__(self) -> str:
        if self.kind == "fits":
            return f"fits into {si(self.amount, 'B')}"
        return f"{self.amount:g} % {self.kind}"

    @property
    def metric(self) -> str:
        """The cost that is saved."""
        return METRIC[self.kind]

    def saved(self, batch: CostBatch, phase: str) -> tuple[Floats, Floats | None, Floats | None]:
        """Percent saved of each configuration, and the ends of its 90 % interval, None where they are unknown.

        Bytes are counted, not measured: their ends are the saving itself.
        """
        costs, dense = batch.phase(phase), batch.tables.dense.phase(phase)
        before, after = getattr(dense, self.metric), getattr(costs, self.metric)
        saved = 100 * (before - after) / np.float64(before)
        if self.kind != "faster":
            return saved, saved, saved
        ends = saving_ends(dense, costs, batch.tables.phases[phase].pricer.ratio_error)
        return (saved, None, None) if ends is None else (saved, *ends)

    def least_pct(self, dense: float) -> float:
        """Percent of the dense cost that must be saved; negative where `fits` leaves room."""
        return 100 * (1 - self.amount / dense) if self.kind == "fits" else self.amount
