"""One line for each method and size: what the two sentences of each pair came out at."""

from __future__ import annotations

import msgspec

from studies.comparison.record import Compared
from validate.interval import Interval
from validate.quality.intervals import rank_correlations


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
        return rank_correlations(self.cosines, dense.cosines, dense.scores)

    def beside(self, other: Judged, dense: Judged) -> Interval:
        """Spearman's above another's, with its paired 95 % interval."""
        return rank_correlations(self.cosines, other.cosines, dense.scores)[1]
