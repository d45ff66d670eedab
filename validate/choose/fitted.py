"""The quality file of a loop, fitted to records, and the way from its sums to nats. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from costmodel.files.node import Node
from costmodel.files.read import read_json
from costmodel.files.write import write_file
from validate.choose.settings import Settings
from validate.errors import RecordError
from validate.predictor.evidence import read_evidence
from validate.predictor.fit import fit_predictor
from validate.predictor.fitted_file import fitted_content
from validate.sensitivity.file import load_sensitivity
from validate.sensitivity.quality_file import quality_bytes


def write_quality(settings: Settings, folders: Sequence[Path], sensitivity: Path, out: Path) -> str:
    """Write the quality file, and say what was done."""
    evidence = read_evidence(folders, load_sensitivity(sensitivity))
    fit = fit_predictor(evidence)
    content = fitted_content(fit, sensitivity, kind="svd", ranks=settings.rank_list, multiple=settings.multiple)
    write_file(out, quality_bytes(content))
    return "fitted"


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

    def inverse(self, nats: float) -> float:
        """The sum of a change; of one beyond the ceiling the sum just below it, of a gain 0."""
        if self.ceiling is None:
            return nats
        share = min(max(nats, 0.0) / self.ceiling, 1 - 1e-6)
        return float(self.ceiling * (-math.log1p(-share)) ** (1 / self.bend))


def load_link(path: Path) -> Link:
    """The link of a quality file; without one its sums are nats.

    Raises:
        RecordError: when the file is missing or malformed.
    """
    part = _content(path)
    if "link" not in part or part["link"].value is None:
        return Link()
    link = part["link"].entries(["ceiling", "bend"])
    return Link(ceiling=link["ceiling"].number(1e-12, 1e12), bend=link["bend"].number(1e-6, 1e6))


def fit_name(number: int) -> str:
    """The quality file after so many fits beyond the first."""
    return f"quality{number or ''}.json"


def load_points(path: Path) -> int:
    """How many configurations a quality file was fitted to.

    Raises:
        RecordError: when the file is missing or malformed.
    """
    part = _content(path, ["predictor"])
    return part["predictor"].entries(["points"])["points"].integer(0, 1 << 40)


def _content(path: Path, required: Sequence[str] = ()) -> dict[str, Node]:
    return Node(str(path), read_json(path, "fitted quality file", RecordError), RecordError).entries(required)
