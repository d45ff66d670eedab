"""A configuration whose quality is to be measured, with the way its factors are computed. No torch."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

from costmodel.decomposition.factors import Decomposition
from costmodel.model import ModelSpec
from validate.factors.kinds import FactorsUsed
from validate.store.digests import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityCase:
    """One configuration.

    Attributes:
        decomposition: what is factored or dropped.
        factors: how factors are computed.
        origin: dense, given, or sample.
        artefact: the factored folder that holds it, measured as it is; None for factors that are computed.
    """

    decomposition: Decomposition
    factors: FactorsUsed = "plain"
    origin: str = "given"
    artefact: Source | None = None

    @property
    def kind(self) -> FactorsUsed:
        """How factors are computed: none where nothing is factored, whatever was asked for."""
        return self.factors if self.decomposition.factors else "none"

    @property
    def is_dense(self) -> bool:
        """Whether it is the dense checkpoint, nothing factored, dropped or rounded."""
        return not self.decomposition.factors and not self.decomposition.dropped and self.artefact is None

    def id(self, spec: ModelSpec, model_sha256: str) -> str:
        """Digest of model, configuration and factors."""
        parts = [model_sha256, spec.num_layers, self.decomposition.to_json(), self.kind]
        parts += [] if self.artefact is None else [self.artefact.sha256]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


DENSE = QualityCase(decomposition=Decomposition(), factors="none", origin="dense")
"""The model as it is, which every other case is compared with."""
