"""From a sum of a quality file to a change of NLL in nats. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from costmodel.files.node import Node
from costmodel.files.read import read_json
from validate.errors import RecordError


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """From a sum of the quality file to a change of NLL in nats: ceiling x (1 - exp(-(sum / ceiling) ** bend)).

    Attributes:
        ceiling, bend: None where sums are nats.
    """

    ceiling: float | None = None
    bend: float = 1.0

    def __call__(self, score: float) -> float:
        if self.ceiling is None:
            return score
        return -self.ceiling * math.expm1(-((max(score, 0.0) / self.ceiling) ** self.bend))


def load_link(path: Path) -> Link:
    """The link of a quality file; without one its sums are nats.

    Raises:
        RecordError: when the file is missing or malformed.
    """
    part = Node(str(path), read_json(path, "fitted quality file", RecordError), RecordError).entries([])
    if "link" not in part or part["link"].value is None:
        return Link()
    link = part["link"].entries(["ceiling", "bend"])
    return Link(ceiling=link["ceiling"].number(1e-12, 1e12), bend=link["bend"].number(1e-6, 1e6))
