"""What a predictor stands on: records of quality, read beside the sensitivity of the same checkpoint. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from costmodel.model import ModelSpec
from validate.errors import FitError, RecordError, RunError
from validate.factors.kinds import Factors
from validate.predictor.points import DENSE, FEWEST, LOST, Points
from validate.quality.plan import ADVISED
from validate.quality.records import QUALITY, QualityRecord, TextRecord
from validate.sensitivity.file import Sensitivity


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evidence:
    """Everything that a fit stands on.

    Attributes:
        spec: the model's structure.
        sensitivity: spectra of its sites.
        factors: of the measured configurations, and of those to be predicted.
        points: the configurations.
        dense: the dense model's record.
        failed: measurements that failed, which nothing can be learnt from.
        sources: the files of records.
        notes: what whoever reads the fit should know of what it stands on.
    """

    spec: ModelSpec
    sensitivity: Sensitivity
    factors: Factors
    points: Points
    dense: QualityRecord
    failed: int
    sources: Sequence[str]
    notes: Sequence[str] = ()


def read_evidence(paths: Sequence[Path], sensitivity: Sensitivity, factors: Factors | None = None) -> Evidence:
    """Records of files and folders, beside the sensitivity of the same model.

    Args:
        factors: which records to take; None for those of the only kind that there is, plain where there are both.

    Raises:
        RecordError: when a file cannot be read, or records are of another checkpoint than the sensitivity.
        RunError: when there is no dense record, or records are of different texts, tasks, types or calibrations.
        FitError: when there are too few, or one has no text.
    """
    records = list({record.id: record for record in reversed(QUALITY.read(paths))}.values())[::-1]  # the first wins
    for record in records:
        _same_model(record, records[0], sensitivity)
    kinds = [kind for kind in get_args(Factors) if any(record.factors == kind for record in records)]
    factors = factors or (kinds[0] if len(kinds) == 1 else "plain")
    if records and factors not in kinds:
        raise FitError(
            "no records with such factors",
            value=factors,
            allowed=" or ".join(kinds) or "none",
            hint=f"measure some: validate quality --samples {ADVISED} --factors ...",
        )
    kept = [record for record in records if record.factors in (factors, "none") and record.artefact is None]
    _require_alike(kept)
    dense = next((record for record in kept if record.is_dense), None)
    if kept and (dense is None or dense.text is None):
        raise RunError("records without the dense model's text", value=str(paths[0]), hint="measure it: --resume does")
    measured = [record for record in kept if record.text is not None and not record.is_dense]
    if len(measured) < FEWEST or dense is None:
        raise FitError(
            "too few measured configurations to fit",
            value=len(measured),
            allowed=f"at least {FEWEST}",
            hint=f"validate quality --samples {ADVISED} --text FILE",
        )
    return Evidence(
        spec=sensitivity.spec,
        sensitivity=sensitivity,
        factors=factors,
        points=_points(measured, dense, sensitivity.spec),
        dense=dense,
        failed=sum(record.failure is not None for record in kept),
        sources=[str(path) for path in paths],
        notes=_notes(dense, sensitivity),
    )


def _points(found: Sequence[QualityRecord], dense: QualityRecord, spec: ModelSpec) -> Points:
    columns: Mapping[str, int] = {tensor.name: place for place, tensor in enumerate(spec.tensors)}
    ranks = np.full((len(found), spec.num_layers, len(columns)), DENSE, dtype=np.int64)
    for place, record in enumerate(found):
        decomposition = record.decomposition(spec)
        for site, factor in decomposition.factors.items():
            ranks[place, site.layer, columns[site.tensor]] = min(factor.ranks)
        ranks[place, sorted(decomposition.dropped)] = LOST
    change = np.array([_change(record, dense) for record in found])
    return Points(
        records=found,
        ranks=ranks,
        change=change,
        removed=np.array([1 - record.params / dense.params for record in found]),
    )


def _change(record: QualityRecord, dense: QualityRecord) -> float:
    """Of NLL, in nats per token."""
    mine, theirs = record.text, dense.text
    if mine is None or theirs is None or _unlike(mine, theirs):
        raise RunError("a record is of another text than the dense model's", value=record.id)
    change = (sum(mine.nll) - sum(theirs.nll)) / sum(theirs.tokens)
    if not np.isfinite(change):
        raise RecordError("a measured change of NLL is not finite", value=record.id)
    return change


def _unlike(mine: TextRecord, theirs: TextRecord) -> bool:
    return (mine.source.sha256, mine.tokens, mine.length) != (theirs.source.sha256, theirs.tokens, theirs.length)


def _require_alike(records: Sequence[QualityRecord]) -> None:
    """Refuse to pool what was measured in unlike ways; records from before they said so pass."""
    whitened = [record.calibration for record in records if record.calibration is not None]
    for name, found in (
        ("types", {record.model.dtype for record in records}),
        ("calibration texts", {f"{each.name} ({each.sha256[:12]})" for each in whitened}),
        ("numbers of calibration blocks", {each.blocks for each in whitened}),
    ):
        known = sorted(str(each) for each in found if each is not None)
        if len(known) > 1:
            raise RunError(f"records are of different {name}", value=" and ".join(known), hint="fit the folders apart")


def _same_model(record: QualityRecord, first: QualityRecord, sensitivity: Sensitivity) -> None:
    if record.model.sha256 != first.model.sha256:
        raise RecordError("records are of different checkpoints", value=f"{record.model.name} and {first.model.name}")
    mine, theirs = (
        {key: value for key, value in config.items() if key != "transformers_version"}
        for config in (record.model.config, sensitivity.run.config)
    )
    if mine != theirs:
        differing = sorted(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key))
        raise RecordError(
            "records and sensitivity are of different models",
            value=", ".join(differing),
            hint="measure both on the same checkpoint",
        )
    if sensitivity.run.checkpoint not in (None, record.model.sha256):
        raise RecordError(
            "records and sensitivity are of different weights",
            value=sensitivity.run.checkpoint,
            allowed=record.model.sha256,
            hint="measure both on the same checkpoint",
        )


def _notes(dense: QualityRecord, sensitivity: Sensitivity) -> list[str]:
    """A note where nothing but the structure says that sensitivity and records are of one checkpoint."""
    run, text = sensitivity.run, dense.text
    if run.checkpoint is not None or text is None:
        return []
    own = "" if run.nll is None else f"{run.nll:.4f} nats on its text and "
    return [
        f"the sensitivity file does not say which weights it is of; the dense model's NLL is {own}"
        f"{sum(text.nll) / sum(text.tokens):.4f} nats on the records'; if in doubt, measure it again"
    ]
