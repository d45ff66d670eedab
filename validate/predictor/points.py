"""What a predictor is fitted to: measured configurations as arrays, and the errors of their truncations. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from costmodel.model import ModelSpec
from validate.errors import FitError
from validate.factors.kinds import Factors
from validate.quality.records import QualityRecord
from validate.sensitivity.file import Sensitivity
from validate.sensitivity.spectra import SiteSpectra

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
        return Points(
            records=[self.records[place] for place in index],
            ranks=self.ranks[index],
            change=self.change[index],
            removed=self.removed[index],
        )


def site_errors(sensitivity: Sensitivity, factors: Factors, measure: Measure) -> list[list[Floats]]:
    """The error of each rank from 0 to min(out, in) as a share of that of rank 0, by layer and tensor.

    `stable rank` is the bound s / (s + r) of a spectrum of stable rank s, for those who have no spectrum.
    """
    spec = sensitivity.spec
    return [
        [_errors(sensitivity.sites[site], factors, measure) for site in layer] for layer in _sites(spec, sensitivity)
    ]


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


def _layers_class(count: int, layers: int) -> str:
    if count == 1:
        return "1 layer"
    if count == layers:
        return "all layers"
    return "up to half of the layers" if count <= layers // 2 else "more than half of the layers"
