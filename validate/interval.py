"""A number with its 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """A value and its 95 % interval; both ends None where the observations say nothing of the spread."""

    value: float
    low: float | None
    high: float | None

    def to_json(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


def interval_text(interval: Interval | None, digits: int = 3, *, signed: bool = True, share: bool = False) -> str:
    """A value with its interval, `+0.012 [-0.003, +0.031]`; a dash for None.

    Args:
        share: whether it is one, shown in per cent: `1.2 % [0.3, 2.1]`.
    """
    if interval is None:
        return "-"
    form, scale = f"{'+' if signed else ''}.{digits}f", 100 if share else 1
    text = f"{scale * interval.value:{form}}{' %' if share else ''}"
    if interval.low is None or interval.high is None:
        return text
    return f"{text} [{scale * interval.low:{form}}, {scale * interval.high:{form}}]"
