"""The quality file of a loop, fitted to records. No torch."""

from __future__ import annotations

from collections.abc import Sequence
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


def fit_name(number: int) -> str:
    """The quality file after so many fits beyond the first."""
    return f"quality{number or ''}.json"


def load_points(path: Path) -> int:
    """How many configurations a quality file was fitted to.

    Raises:
        RecordError: when the file is missing or malformed.
    """
    part = Node(str(path), read_json(path, "fitted quality file", RecordError), RecordError).entries(["predictor"])
    return part["predictor"].entries(["points"])["points"].integer(0, 1 << 40)
