"""One configuration priced beside an exploration, whether or not it is in the space that was searched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from costmodel.decomposition.factors import Decomposition, Form, LowRank
from costmodel.decomposition.held import held
from costmodel.decomposition.sites import site_columns
from costmodel.decomposition.text import describe
from costmodel.errors import InputError
from costmodel.explore.explore import Exploration
from costmodel.explore.quality import PRIOR, UnknownRankError, load_quality
from costmodel.explore.tables import CostTables
from costmodel.model import ModelSpec
from costmodel.space.base import DesignSpace
from costmodel.space.make import design_space

Source = Literal["recipe", "folder"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A configuration with the numbers that an exploration gives for those that it lists.

    Attributes:
        config: the configuration.
        objectives: value of each objective, in the unit of its name.
        saved_pct: 100 (dense - value) / dense of costs; None of savings, rates and quality.
        damage: in the unit of the exploration's `damage.metric`.
        within: whether it keeps every limit.
        source: where it is from: a recipe that was named, or the folder of the model.
    """

    config: Decomposition
    objectives: dict[str, float]
    saved_pct: dict[str, float | None]
    damage: float
    within: bool
    source: Source = "recipe"

    def to_json(self) -> dict[str, Any]:
        return {
            "objectives": self.objectives,
            "config": self.config.to_json(),
            "saved_pct": self.saved_pct,
            "damage": self.damage,
            "within": self.within,
        }


def held_beside(result: Exploration, quality: str | None = None) -> Beside | None:
    """The objectives of what the model's folder holds; None where it is dense, is none that can be judged here, or has
    ranks that the quality does not know."""
    own = held(result.space.model)
    if own is None or not is_judged(own, result.space.model):
        return None
    try:
        return price_beside(result, own, quality, "folder")
    except UnknownRankError:
        return None


def price_beside(
    result: Exploration, config: Decomposition, quality: str | None = None, source: Source = "recipe"
) -> Beside:
    """The objectives of a configuration, exactly as the exploration prices those of its space.

    Args:
        quality: the one that the exploration was asked with.
        source: where the configuration is from.

    Raises:
        InputError: when the configuration is dense, drops layers, mixes forms or factors one expert, or the quality
            does not know it.
    """
    question, model = result.question, result.space.model
    space = space_of_one(model, config)
    damage = load_quality(PRIOR if quality is None else quality, space, config)
    pricers = [table.pricer for table in question.tables.phases.values()]
    batch = CostTables(space, pricers, question.tables.steps, damage).batch(
        space.choices(space.index(config))[np.newaxis]
    )
    objectives = {each.name: np.asarray(each.values(batch)).ravel()[0].item() for each in question.objectives}
    return Beside(
        config=config,
        objectives=objectives,
        saved_pct=result.saved_pct(objectives),
        damage=float(batch.quality()[0]),
        within=all(bool(limit.met(batch).all()) for limit in question.limits),
        source=source,
    )


def is_judged(config: Decomposition, model: ModelSpec) -> bool:
    """Whether a configuration has factors of one form, both ranks of each alike, of weights that are sites of the model
    (one expert of a stack is none), and drops no layer."""
    forms = {factor.to_json()["form"] for factor in config.factors.values()}
    uneven = any(len(set(factor.ranks)) > 1 for factor in config.factors.values())
    return len(forms) == 1 and not config.dropped and not uneven and config.factors.keys() <= site_columns(model).keys()


def space_of_one(model: ModelSpec, only: Decomposition) -> DesignSpace:
    """A space that holds one configuration.

    Raises:
        InputError: when it is dense, drops layers, mixes forms, or factors one expert.
    """
    if not is_judged(only, model):
        raise InputError(
            "this configuration cannot be judged here",
            value=describe(only, model),
            allowed="factors of one form, of no single expert, no dropped layers",
            hint="use costmodel estimate",
        )
    ranks = sorted({factor.ranks[0] for factor in only.factors.values()})
    form: Form = "svd" if all(isinstance(factor, LowRank) for factor in only.factors.values()) else "tucker"
    return design_space(model, "per-site", ranks=ranks, form=form)
