"""How large the design spaces of a model are: the paper's count beside exact counts of distinct configurations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from costmodel.decomposition.factors import Form
from costmodel.decomposition.sites import site_columns
from costmodel.decomposition.text import Rank
from costmodel.model import ModelSpec
from costmodel.space.base import DesignSpace, SpaceKind
from costmodel.space.make import design_space

PAPER_MODELS = ("bert-base", "bert-large", "llama2-7b", "llama2-70b")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceSizes:
    """Sizes of the three spaces of one model for R candidate ranks."""

    model: str
    num_layers: int
    tensors: tuple[str, ...]
    num_sites: int
    """L x K where all layers have all K tensors."""
    num_ranks: int
    homogeneous: int
    """(2^L - 1)(2^K - 1) R + 1; fewer where layers differ in their tensors."""
    per_layer: int | None
    """(2^sites - 1) R + 1; None where percentages coincide in a tensor."""
    per_site: int
    """(R + 1)^sites."""

    @property
    def paper_count(self) -> int:
        """2^(L + K), rank not counted, empty sets counted."""
        return 1 << (self.num_layers + len(self.tensors))

    def to_json(self) -> dict[str, Any]:
        """The contract's keys."""
        return {
            "model": self.model,
            "num_layers": self.num_layers,
            "tensors": list(self.tensors),
            "ranks": self.num_ranks,
            "paper_count": self.paper_count,
            "homogeneous_log2": self.num_layers + len(self.tensors),
            "homogeneous_distinct": self.homogeneous,
            "per_layer_log2": self.num_sites,
            "per_layer_distinct": self.per_layer,
            "per_site_log10": math.log10(self.per_site),
            "per_site_distinct": self.per_site,
        }


def space_sizes(model: ModelSpec, ranks: Sequence[Rank | int] = (1,), form: Form = "svd") -> SpaceSizes:
    """Exact sizes of a model's spaces.

    Raises:
        InputError: when no rank fits any tensor.
    """

    def of(kind: SpaceKind) -> DesignSpace:
        return design_space(model, kind, ranks=ranks, form=form)

    homogeneous = of("homogeneous")
    distinct = all(len(set(row)) == len(row) for row in homogeneous.ranks)
    return SpaceSizes(
        model=model.name,
        num_layers=model.num_layers,
        tensors=model.groups["all"],
        num_sites=len(site_columns(model)),
        num_ranks=len(homogeneous.ranks[0]),
        homogeneous=homogeneous.size,
        per_layer=of("per-layer").size if distinct else None,
        per_site=of("per-site").size,
    )
