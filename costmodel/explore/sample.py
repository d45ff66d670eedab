"""Distributions of spaces too large to count through: from a uniform seeded sample, with its error.

Dvoretzky, Kiefer and Wolfowitz (with Massart's constant, 1990): with probability 1 - alpha the sample's distribution
function is nowhere off by more than sqrt(ln(2 / alpha) / (2 n)).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from costmodel.explore.answer import Question
from costmodel.explore.distribution import Distribution, distribution

SAMPLE = 8192
SEED = 0
ALPHA = 0.001
_BLOCK = 1024


def sample_error(count: int = SAMPLE, alpha: float = ALPHA) -> float:
    """Largest error of a distribution function from `count` samples at confidence 1 - alpha."""
    return math.sqrt(math.log(2 / alpha) / (2 * count))


def sampled_distribution(question: Question) -> tuple[dict[str, Distribution | None], str]:
    """Distributions of the objectives over a sample, whose counts are of the sample, and a note on their error."""
    choices = question.space.sample_choices(SAMPLE, SEED)
    values: dict[str, list[np.ndarray[tuple[int], np.dtype[np.float64]]]] = {o.name: [] for o in question.objectives}
    for start in range(0, SAMPLE, _BLOCK):
        batch = question.tables.batch(choices[start : start + _BLOCK])
        for objective in question.objectives:
            values[objective.name].append(np.asarray(objective.values(batch)))
    ones = np.full(SAMPLE, 1, dtype=object)
    found: dict[str, Distribution | None] = {
        name: dataclasses.replace(distribution(np.concatenate(parts), ones), sampled=SAMPLE)
        for name, parts in values.items()
    }
    error = 100 * sample_error()
    return found, (f"distribution: {SAMPLE} uniform samples (seed {SEED}), every share within {error:.1f} points at "
                   f"{100 * (1 - ALPHA):g} % confidence")  # fmt: skip


def sampled_share(question: Question) -> dict[str, float]:
    """The share of configurations within the limits, from the same sample, with its bounds."""
    choices = question.space.sample_choices(SAMPLE, SEED)
    kept = sum(
        int(question.allowed(question.tables.batch(choices[start : start + _BLOCK])).sum())
        for start in range(0, SAMPLE, _BLOCK)
    )
    share, error = kept / SAMPLE, sample_error()
    return {"share": share, "low": max(0.0, share - error), "high": min(1.0, share + error), "confidence": 1 - ALPHA}
