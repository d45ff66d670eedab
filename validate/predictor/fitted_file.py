"""The quality file of a fit, with all that is known of its errors and of what it was made from."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from costmodel.decomposition.factors import Form
from costmodel.decomposition.text import Rank
from validate.predictor.evidence import Evidence
from validate.predictor.fit import PredictorFit
from validate.predictor.quality_file import quality_content


def fitted_content(fit: PredictorFit, sensitivity: Path, *, kind: Form, ranks: Sequence[Rank]) -> dict[str, Any]:
    """What `costmodel explore --quality` reads, and beside it the predictor, its errors and its provenance.

    Args:
        sensitivity: the file that the fit was made with.
        kind: form of the factors that the file is for.
        ranks: its candidates.
    """
    evidence = fit.evidence
    chosen = fit.chosen
    content = quality_content(evidence, chosen.candidate.form, chosen.score, fit.band, kind=kind, ranks=ranks)
    entries = content.pop("entries")
    return {
        **content,
        "predictor": fit.summary(),
        "provenance": provenance(evidence, sensitivity),
        "errors": list(fit.errors),
        "additivity": list(fit.additivity),
        "tasks": [link.to_json() for link in fit.links],
        "task_errors": list(fit.tasks),
        "entries": entries,
    }


def provenance(evidence: Evidence, sensitivity: Path) -> dict[str, Any]:
    """What a predictor was made from."""
    return {
        "records": list(evidence.sources),
        "sensitivity": str(sensitivity),
        "factors": evidence.factors,
        "checkpoint": evidence.dense.model.sha256,
        "text": _text(evidence),
    }


def _text(evidence: Evidence) -> dict[str, Any]:
    text = evidence.dense.text
    assert text is not None, "evidence is of records with a text"
    return {"name": text.source.name, "sha256": text.source.sha256, "blocks": len(text.tokens), "length": text.length}
