"""What a timing run measures with. It holds no tensor, so workers on other machines can be sent it. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costmodel.model import ModelSpec
from costmodel.units import DType
from validate.plans.case import Case
from validate.speed.predictions import Predictor
from validate.speed.records import ModelRecord, Sample

Measured = Callable[[Iterable[Case]], Iterator[Sample]]
"""From cases to their records, in the order of the cases, which are taken no earlier than they can be begun."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingJob:
    """A model, what prices it, and how exactly it is timed.

    Attributes:
        config: the decoded config.json that `spec` was made from.
        seed: of random weights, factors and tokens.
        weights, artefact: the folder as `Subject` takes it.
        sha256: of the weights in that folder; None for random ones.
        precision, budget_s: as `TimingPlan` has them.
    """

    config: Mapping[str, Any]
    spec: ModelSpec
    dtype: DType
    seed: int
    weights: Path | None
    artefact: Path | None
    sha256: str | None
    predictor: Predictor
    precision: float
    budget_s: float

    @property
    def folder(self) -> Path | None:
        """That weights are read from."""
        return self.weights or self.artefact

    @property
    def model(self) -> ModelRecord:
        """The model as records have it."""
        return ModelRecord.of(self.config, self.spec, self.folder)
