"""Whether a dense model is the one that records are of. No torch."""

from __future__ import annotations

from typing import Protocol

from validate.errors import RunError, reason_of
from validate.quality.records import QualityRecord, TextRecord

TOLERANCE = 1e-3
"""Nats per token by which a dense model measured again may differ: roundings of another machine, not another model."""


class HasDense(Protocol):
    """What can measure the dense model on the text."""

    def dense_text(self) -> TextRecord | None:
        """Its numbers; None without a text."""


def require_same(evaluator: HasDense, dense: QualityRecord) -> None:
    """Compute what candidates are compared with, before anything is replaced, and compare it with the record.

    Raises:
        RunError: when it cannot be computed, or the loss is another.
    """
    try:
        now = evaluator.dense_text()
    except Exception as error:  # of many kinds, as when a case is measured
        raise RunError("the dense model cannot be measured", hint=reason_of(error)) from error
    if dense.text is None or now is None:
        return
    difference = abs(sum(now.nll) - sum(dense.text.nll)) / sum(now.tokens)
    if difference > TOLERANCE:
        raise RunError(
            "the dense model's loss is no longer the recorded one",
            value=round(difference, 6),
            allowed=f"up to {TOLERANCE:g} nats per token",
            hint="choose another --out",
        )
