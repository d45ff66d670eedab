"""One line for each method and size: what the two sentences of each pair came out at."""

from __future__ import annotations

from functools import cache

import msgspec

from studies.comparison.record import Compared
from validate.interval import Interval
from validate.quality.intervals import rank_correlations

Cosines = tuple[float, ...]


class Judged(Compared, frozen=True, kw_only=True):
    """What one configuration came out at.

    Attributes:
        cosines: of the two embeddings of each pair.
        change: mean of 1 - cosine of the embedding and the dense one over sentences.
        scores: of the pairs by people; of the dense model's line alone.
    """

    cosines: list[float]
    change: float
    scores: list[float] = msgspec.field(default_factory=list)

    def correlation(self, dense: Judged) -> tuple[Interval, Interval]:
        """Spearman's with the scores, and its change against dense; paired 95 % intervals over pairs."""
        return _correlations(tuple(self.cosines), tuple(dense.cosines), tuple(dense.scores))

    def beside(self, other: Judged, dense: Judged) -> Interval:
        """Spearman's above another's, with its paired 95 % interval."""
        return _correlations(tuple(self.cosines), tuple(other.cosines), tuple(dense.scores))[1]


@cache
def _correlations(own: Cosines, other: Cosines, scores: Cosines) -> tuple[Interval, Interval]:
    return rank_correlations(own, other, scores)
