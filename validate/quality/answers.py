"""What a record keeps of the items of a task. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from validate.errors import MeasurementError


def choice_fields(likelihoods: Sequence[Sequence[float]], targets: Sequence[Any], name: str) -> dict[str, Any]:
    """What a record of a multiple-choice task has beside its metrics.

    Args:
        likelihoods: log-likelihood of each choice of each item.
        targets: the right choices; where one is no number, `truth_nll` is left out.

    Raises:
        MeasurementError: when a likelihood is not finite.
    """
    bad = sum(not all(map(math.isfinite, row)) for row in likelihoods)
    if bad:
        raise MeasurementError(
            "non-finite", f"likelihoods are NaN or infinite in {bad} of {len(likelihoods)} items of {name}"
        )
    fields: dict[str, Any] = {
        "answers": [max(range(len(row)), key=row.__getitem__) for row in likelihoods],
        "chance": round(sum(1 / len(row) for row in likelihoods) / len(likelihoods), 6),
    }
    if all(isinstance(target, int) for target in targets):
        fields["truth_nll"] = [
            _kept(float(np.logaddexp.reduce(row)) - row[target])
            for row, target in zip(likelihoods, targets, strict=True)
        ]
    return fields


def compact(values: Sequence[float], name: str) -> str | list[float]:
    """A string of 0 and 1 where values are only these.

    Raises:
        MeasurementError: when one is not finite.
    """
    if not all(map(math.isfinite, values)):
        raise MeasurementError("non-finite", f"a metric of {name} is NaN or infinite")
    if set(values) <= {0.0, 1.0}:
        return "".join("1" if value else "0" for value in values)
    return [_kept(value) for value in values]


def _kept(value: float) -> float:
    """Nine digits of a value, however small: more than float32 has."""
    return float(f"{value:.9g}")
