"""Distributions of spaces too large to count through: from a uniform seeded sample, with its error.

Dvoretzky, Kiefer and Wolfowitz (with Massart's constant, 1990): with probability 1 - alpha the sample's distribution
function is nowhere off by more than sqrt(ln(2 / alpha) / (2 n)).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

import numpy as np

from costmodel.arrays import Floats
from costmodel.explore.answer import EXACT, Answer, Found, Question
from costmodel.explore.by_site.extremes import Extremes
from costmodel.explore.distribution import QUANTILES, Distribution, distribution
from costmodel.explore.objectives import Objective
from costmodel.explore.tables import CostBatch

SAMPLE = 8192
SEED = 0
ALPHA = 0.001


def sample_error(count: int = SAMPLE, alpha: float = ALPHA) -> float:
    """Largest error of a distribution function from `count` samples at confidence 1 - alpha."""
    return math.sqrt(math.log(2 / alpha) / (2 * count))


def uniform_sample(question: Question) -> CostBatch:
    """The seeded sample of the question's space, priced, shape (SAMPLE,)."""
    return question.tables.batch(question.space.sample_choices(SAMPLE, SEED))


def sampled_distribution(
    question: Question, sample: CostBatch, known_of: Callable[[Objective], Extremes], found: Sequence[Found]
) -> tuple[dict[str, Distribution | None], str]:
    """Distributions of the objectives: minimum, maximum and mean of the whole space where they are known, the rest of a
    sample, and a note on its error.

    Args:
        question: what was asked.
        sample: from `uniform_sample`.
        known_of: what is known of an objective over the whole space.
        found: configurations of the answer, which can lie beyond an extreme that is not exact.
    """
    spreads: dict[str, Distribution | None] = {}
    missing = set()
    for objective in question.objectives:
        known = known_of(objective)
        attained = [configuration.objectives[objective.name] for configuration in found]
        spread = _spread(np.asarray(objective.values(sample)), known, attained)
        spreads[objective.name] = spread
        missing |= {"min", "max", "mean"} - set(spread.exact)
    error = 100 * sample_error()
    note = (
        f"distribution: min, max and mean exact{' where not marked ~' if missing else ''}, the rest from {SAMPLE} "
        f"uniform samples (seed {SEED}), every share within {error:.1f} points at {100 * (1 - ALPHA):g} % confidence"
    )
    return spreads, note


def _spread(values: Floats, known: Extremes, attained: Sequence[float]) -> Distribution:
    """The distribution of a sample with what is known of the whole space in its place."""
    ordered = np.sort(values)
    low = min([known.minimum, ordered[0].item(), *attained]) if "min" not in known.exact else known.minimum
    high = max([known.maximum, ordered[-1].item(), *attained]) if "max" not in known.exact else known.maximum
    sample = distribution(values, np.full(len(values), 1, dtype=object))
    error = sample_error(len(values))
    ends = {}
    for name in QUANTILES:
        first, last = (math.ceil((float(name) + shift) * len(values)) - 1 for shift in (-error, error))
        ends[name] = (
            ordered[first].item() if first >= 0 else low,
            ordered[last].item() if last < len(values) else high,
        )
    return dataclasses.replace(
        sample,
        minimum=low,
        maximum=high,
        mean=sample.mean if known.mean is None else known.mean,
        sampled=len(values),
        exact=known.exact,
        share_error=error,
        quantile_bounds=ends,
        mean_standard_error=float(np.std(values, ddof=1) / math.sqrt(len(values))) if known.mean is None else 0.0,
    )


def sampled_share(question: Question, sample: CostBatch) -> dict[str, float]:
    """The share of configurations within the limits, from `uniform_sample`, with its bounds."""
    share, error = int(question.allowed(sample).sum()) / SAMPLE, sample_error()
    return {"share": share, "low": max(0.0, share - error), "high": min(1.0, share + error), "confidence": 1 - ALPHA}


def sampled_answer(
    question: Question,
    sample: CostBatch,
    known_of: Callable[[Objective], Extremes],
    kept: Sequence[bool | None],
    *,
    top: tuple[Found, ...] = (),
    frontier: tuple[Found, ...] = (),
    guarantee: str = EXACT,
    frontier_gap: float = 0.0,
    top_gap: float = 0.0,
) -> Answer:
    """The answer for a space too large to count through: what was found, beside distributions from a sample.

    Args:
        question, sample, known_of: as of `sampled_distribution`.
        kept: whether all configurations keep each limit, True, or none does, False; None where some may. Where none
            keeps a limit, nothing was found and the guarantee says so.
        guarantee, frontier_gap, top_gap: of what was found, as of `Answer`.
    """
    distribution, note = sampled_distribution(question, sample, known_of, [*top, *frontier])
    if False in kept:
        guarantee = f"exact: no configuration keeps {question.limits[kept.index(False)]}"
        matching, share = 0, None
    elif all(kept):
        matching, share = question.space.valid_size, None
    else:
        matching, share = None, sampled_share(question, sample)
    return Answer(
        matching=matching,
        matching_share=share,
        distinct_costs=None,
        distribution=distribution,
        top=top,
        frontier=frontier,
        guarantee=f"{guarantee}; {note}",
        frontier_gap=frontier_gap,
        top_gap=top_gap,
    )
