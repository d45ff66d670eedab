"""Maps of what a fitted quality file says of every weight alone. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from costmodel.arrays import Choices, Floats
from costmodel.decomposition.factors import Decomposition, Form, break_even_rank
from costmodel.decomposition.text import Rank
from costmodel.explore.quality import QualityTable, load_quality
from costmodel.model import ModelSpec
from costmodel.show.site_map import SiteMap, value_map
from costmodel.space.base import DesignSpace
from costmodel.space.make import design_space
from validate.predictor.link import load_link


class WeightDamage:
    """The predicted change of NLL by one weight while all others are dense.

    Args:
        quality: the fitted file.
        model: that it is of.
        ranks, form, multiple: the candidates that it is for.

    Raises:
        CostModelError: when the file cannot be read, or is not of these candidates.
    """

    def __init__(
        self, quality: Path, model: ModelSpec, ranks: Sequence[Rank], form: Form = "svd", multiple: int = 1
    ) -> None:
        self._space: DesignSpace = design_space(model, "per-site", ranks=ranks, form=form, rank_multiple=multiple)
        self._table, self._link = load_quality(str(quality), self._space), load_link(quality)

    def at_reference(self) -> SiteMap:
        """Of every weight at the candidate next to half its break-even rank: how sensitive the model is to it."""
        return self._map(
            "Predicted increase of NLL by each weight alone at half its break-even rank or the next candidate, nats",
            "sensitivity",
            half_break_even(self._space),
            frozenset(),
        )

    def of(self, config: Decomposition) -> SiteMap | None:
        """Of every weight that a configuration factors; None where there is none, or a rank is no candidate."""
        ranks = {
            tensor.name: set(row) for tensor, row in zip(self._space.model.tensors, self._space.ranks, strict=True)
        }
        known = all(set(factor.ranks) <= ranks[site.tensor] for site, factor in config.factors.items())
        if not config.factors or not known:
            return None
        choices = self._space.choices(self._space.index(Decomposition(config.factors)))
        title = "Predicted increase of NLL by each weight of the choice alone, nats; together it is more or less"
        return self._map(title, "damage", choices, config.dropped)

    def _map(self, title: str, name: str, choices: Choices, dropped: frozenset[int]) -> SiteMap:
        values = damage_alone(self._table, self._link, choices)
        return value_map(title, name, self._space.model, values, "nats", dropped=dropped, dense=not choices.all())


def damage_alone(table: QualityTable, link: Callable[[float], float], choices: Choices) -> Floats:
    """Change of NLL in nats by each factored weight with all others dense, NaN where it is dense.

    Args:
        table: of a space.
        link: from its sums to nats.
        choices: of the same space, int64 (layers, tensors); float64 of that shape is returned.
    """
    found, sites = np.full(choices.shape, np.nan), np.nonzero(choices)
    alone = np.zeros((len(sites[0]), *choices.shape), dtype=np.int64)
    alone[np.arange(len(alone)), *sites] = choices[sites]
    found[sites] = [link(ticks * table.quantum) for ticks in table.ticks(alone).tolist()]
    return found


def half_break_even(space: DesignSpace) -> Choices:
    """The candidate next to half the break-even rank at every free site, int64 (layers, tensors)."""
    nearest = []
    for tensor, ranks in zip(space.model.tensors, space.ranks, strict=True):
        half = break_even_rank(tensor.out_features, tensor.in_features, space.form) / 2
        nearest.append(1 + min(range(len(ranks)), key=lambda place: abs(ranks[place] - half)))
    return np.where(space.free, np.array(nearest), 0).astype(np.int64)
