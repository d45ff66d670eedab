"""One line for each method and size: sums over blocks, so that methods can be paired."""

from __future__ import annotations

from pathlib import Path

from studies.comparison.record import Compared, read_lines
from validate.interval import Interval
from validate.quality.intervals import change


class Measured(Compared, frozen=True, kw_only=True):
    """What one configuration came out at.

    Attributes:
        nll, kl: sums over each block of the text, nats.
        tokens: predicted in each block.
    """

    nll: list[float]
    kl: list[float]
    tokens: list[int]

    @property
    def loss(self) -> float:
        """Nats per token."""
        return sum(self.nll) / sum(self.tokens)

    def above(self, other: Measured) -> Interval:
        """Loss above another's on the same blocks, nats per token, with its paired 95 % interval."""
        return change(self.nll, other.nll, self.tokens)


def read_measured(path: Path) -> list[Measured]:
    """Lines of a file; a last one that was cut off is left out."""
    return read_lines(path, Measured)
