"""The quality file that a loop searches by, fitted to what earlier searches found. No torch."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np

from costmodel.files.node import Node
from costmodel.files.read import read_json
from costmodel.files.write import write_file
from validate.choose.points import config_key
from validate.choose.settings import Settings
from validate.errors import RecordError
from validate.predictor.allocation import FORM, fit_allocation
from validate.predictor.evidence import read_evidence
from validate.predictor.fitted_file import provenance
from validate.predictor.quality_file import quality_content
from validate.sensitivity.file import load_sensitivity
from validate.sensitivity.quality_file import quality_bytes


def write_quality(settings: Settings, records: Path, found: Collection[str], sensitivity: Path, out: Path) -> str:
    """Write the quality file, and say what was done.

    Args:
        records: folder of what was measured.
        found: keys of the configurations that searches have found.
    """
    evidence = read_evidence([records], load_sensitivity(sensitivity))
    places = np.array([config_key(record.config) in found for record in evidence.points.records])
    fit = fit_allocation(evidence, places)
    content = quality_content(
        evidence,
        FORM,
        fit.score,
        fit.band,
        kind="svd",
        ranks=settings.rank_list,
        multiple=settings.multiple,
        origin=f"by the {FORM.name}, {fit.origin}",
    )
    entries = content.pop("entries")
    predictor = {"form": FORM.name, "points": fit.fitted, "coefficients": fit.coefficients()}
    content |= {"predictor": predictor, "provenance": provenance(evidence, sensitivity), "entries": entries}
    write_file(out, quality_bytes(content))
    return f"{FORM.name}, {fit.origin}"


def fit_name(number: int) -> str:
    """The quality file after so many fits beyond the first."""
    return f"quality{number or ''}.json"


def load_fitted(path: Path) -> tuple[str, int]:
    """The form of a quality file's predictor, and to how many configurations it was fitted.

    Raises:
        RecordError: when the file is missing or malformed.
    """
    part = Node(str(path), read_json(path, "fitted quality file", RecordError), RecordError).entries(["predictor"])
    predictor = part["predictor"].entries(["form", "points"])
    return predictor["form"].text(), predictor["points"].integer(0, 1 << 40)
