"""What a predictor is fitted to: measured configurations as arrays, and the errors of their truncations. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from costmodel.model_spec import ModelSpec
from validate.errors import FitError, RecordError, RunError
from validate.quality.plan import ADVISED
from validate.quality.records import QUALITY, QualityRecord, TextRecord
from validate.sensitivity.file import Sensitivity
from validate.sensitivity.spectra import Factors, SiteSpectra

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Measure = Literal["output", "whitened", "curvature", "frobenius", "stable rank"]
"""What a truncation is judged by: `output`, the output error of the factors that were measured; `whitened`, the least
output error of any factors of that rank, whatever was measured; `curvature`, that of the loss, of those measured."""

FEWEST = 40
"""Configurations, below which nothing is fitted."""
DENSE, LOST = -1, 0
"""Entries of `ranks`: a dense site, and one of a dropped layer."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points:
    """n measured configurations, the dense model not among them.

    Attributes:
        records: what was measured.
        ranks: int64 (n, layers, tensors); DENSE, LOST, or the rank of the product of the factors.
        change: float64 (n), measured change of NLL in nats per token.
        removed: float64 (n), share of the parameters.
    """

    records: Sequence[QualityRecord]
    ranks: Ints
    change: Floats
    removed: Floats

    def __len__(self) -> int:
        return len(self.records)

    @property
    def dropped(self) -> NDArray[np.bool_]:
        """Whether layers are left out, bool (n, layers)."""
        return np.asarray((self.ranks == LOST).all(axis=2))

    @property
    def touched(self) -> NDArray[np.bool_]:
        """Whether sites are factored or lost, bool (n, layers, tensors)."""
        return np.asarray(self.ranks != DENSE)

    @property
    def counted(self) -> NDArray[np.bool_]:
        """Whether errors are counted on each, bool (n): on what was sampled, if that is enough to fit to.

        Others were picked for a reason, parts of sampled ones or what a search found; they are fitted to all the same.
        """
        sampled = np.array([record.origin == "sample" for record in self.records], dtype=np.bool_)
        return sampled if sampled.sum() >= FEWEST else np.ones(len(self), dtype=np.bool_)

    def strata(self, name: str) -> list[str]:
        """The class of each configuration: by `form`, or by the number of `layers` touched."""
        if name == "form":
            return [record.strata.form for record in self.records]
        return [_layers_class(record.strata.layers, self.ranks.shape[1]) for record in self.records]

    def subset(self, chosen: Ints | NDArray[np.bool_]) -> Points:
        """Some of the configurations."""
        index = np.arange(len(self))[chosen]
        return Points(records=[self.records[place] for place in index], ranks=self.ranks[index],
                      change=self.change[index], removed=self.removed[index])  # fmt: skip


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
    kinds = [kind for kind in ("plain", "whitened") if any(record.factors == kind for record in records)]
    factors = factors or ("whitened" if kinds == ["whitened"] else "plain")
    if records and factors not in kinds:
        raise FitError("no records with such factors", value=factors, allowed=" or ".join(kinds) or "none",
                       hint=f"measure some: validate quality --samples {ADVISED} --factors ...")  # fmt: skip
    kept = [record for record in records if record.factors in (factors, "none")]
    _require_alike(kept)
    dense = next((record for record in kept if record.is_dense), None)
    if kept and (dense is None or dense.text is None):
        raise RunError("records without the dense model's text", value=str(paths[0]), hint="measure it: --resume does")
    measured = [record for record in kept if record.text is not None and not record.is_dense]
    if len(measured) < FEWEST or dense is None:
        raise FitError("too few measured configurations to fit", value=len(measured), allowed=f"at least {FEWEST}",
                       hint=f"validate quality --samples {ADVISED} --text FILE")  # fmt: skip
    return Evidence(
        spec=sensitivity.spec, sensitivity=sensitivity, factors=factors,
        points=_points(measured, dense, sensitivity.spec), dense=dense,
        failed=sum(record.failure is not None for record in kept), sources=[str(path) for path in paths],
        notes=_notes(dense, sensitivity),
    )  # fmt: skip


def site_errors(sensitivity: Sensitivity, factors: Factors, measure: Measure) -> list[list[Floats]]:
    """The error of each rank from 0 to min(out, in) as a share of that of rank 0, by layer and tensor.

    `stable rank` is the bound s / (s + r) of a spectrum of stable rank s, for those who have no spectrum.
    """
    spec = sensitivity.spec
    return [
        [_errors(sensitivity.sites[site], factors, measure) for site in layer]
        for layer in _sites(spec, sensitivity)
    ]  # fmt: skip


def energies(sensitivity: Sensitivity, factors: Factors, measure: Measure) -> Floats:
    """What losing a site whole does to the loss by its curvature, in nats, (layers, tensors); 1 without gradients."""
    found = np.ones((sensitivity.spec.num_layers, len(sensitivity.spec.tensors)))
    for layer, sites in enumerate(_sites(sensitivity.spec, sensitivity)):
        for column, site in enumerate(sites):
            spectra = sensitivity.sites[site]
            changes = spectra.loss_changes(factors)
            if spectra.loss is not None and changes is not None:
                isotropic = spectra.loss.gradient / 2 * spectra.errors("plain_output")[0]
                found[layer, column] = max(changes[1][0] if measure == "curvature" else isotropic, 1e-12)
    return found


def lookup(tables: Sequence[Sequence[Floats]], ranks: Ints) -> Floats:
    """Entries of per-site tables at the ranks of configurations, float64 (n, layers, tensors); 0 for dense sites."""
    found = np.zeros(ranks.shape)
    for layer, row in enumerate(tables):
        for column, table in enumerate(row):
            here = ranks[:, layer, column]
            found[:, layer, column] = np.where(here == DENSE, 0.0, table[np.maximum(here, 0)])
    return found


def _errors(spectra: SiteSpectra, factors: Factors, measure: Measure) -> Floats:
    if measure == "stable rank":
        stable = max(spectra.stable_rank, 1e-12)
        return np.asarray(stable / (stable + np.arange(len(spectra.singular_values) + 1)))
    if measure == "curvature":
        changes = spectra.loss_changes(factors)
        if changes is None:
            raise FitError("the sensitivity file has no loss terms", hint="validate sensitivity --fisher")
        curve = np.maximum(changes[1], 0.0)
        return curve / curve[0] if curve[0] > 0 else curve
    if measure == "frobenius":
        return spectra.errors("plain", relative=True)
    return spectra.errors("plain_output" if measure == "output" and factors == "plain" else "whitened", relative=True)


def _sites(spec: ModelSpec, sensitivity: Sensitivity) -> list[list[Any]]:
    by_name = {(site.layer, site.tensor): site for site in sensitivity.sites}
    return [[by_name[layer, tensor.name] for tensor in spec.tensors] for layer in range(spec.num_layers)]


def _points(found: Sequence[QualityRecord], dense: QualityRecord, spec: ModelSpec) -> Points:
    columns: Mapping[str, int] = {tensor.name: place for place, tensor in enumerate(spec.tensors)}
    ranks = np.full((len(found), spec.num_layers, len(columns)), DENSE, dtype=np.int64)
    for place, record in enumerate(found):
        decomposition = record.decomposition(spec)
        for site, factor in decomposition.factors.items():
            ranks[place, site.layer, columns[site.tensor]] = min(factor.ranks)
        ranks[place, sorted(decomposition.dropped)] = LOST
    change = np.array([_change(record, dense) for record in found])
    return Points(records=found, ranks=ranks, change=change,
                  removed=np.array([1 - record.params / dense.params for record in found]))  # fmt: skip


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
    mine, theirs = ({key: value for key, value in config.items() if key != "transformers_version"}
                    for config in (record.model.config, sensitivity.run.config))  # fmt: skip
    if mine != theirs:
        differing = sorted(key for key in {*mine, *theirs} if mine.get(key) != theirs.get(key))
        raise RecordError("records and sensitivity are of different models", value=", ".join(differing),
                          hint="measure both on the same checkpoint")  # fmt: skip
    if sensitivity.run.checkpoint not in (None, record.model.sha256):
        raise RecordError("records and sensitivity are of different weights", value=sensitivity.run.checkpoint,
                          allowed=record.model.sha256, hint="measure both on the same checkpoint")  # fmt: skip


def _notes(dense: QualityRecord, sensitivity: Sensitivity) -> list[str]:
    """A note where nothing but the structure says that sensitivity and records are of one checkpoint."""
    run, text = sensitivity.run, dense.text
    if run.checkpoint is not None or text is None:
        return []
    own = "" if run.nll is None else f"{run.nll:.4f} nats on its text and "
    return [f"the sensitivity file does not say which weights it is of; the dense model's NLL is {own}"
            f"{sum(text.nll) / sum(text.tokens):.4f} nats on the records'; if in doubt, measure it again"]  # fmt: skip


def _layers_class(count: int, layers: int) -> str:
    if count == 1:
        return "1 layer"
    if count == layers:
        return "all layers"
    return "up to half of the layers" if count <= layers // 2 else "more than half of the layers"
