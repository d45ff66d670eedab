"""The maps of an exploration's page: ranks and damage of the configuration that is shown, and what its script needs to
show another one's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from costmodel.arrays import Choices, Floats
from costmodel.decomposition.factors import Form, make_factor
from costmodel.explore.quality import QualityTable
from costmodel.show.site_map import Cell, Scale, SiteMap, rank_cell, rank_map, value_map
from costmodel.tensors import WeightTensor

if TYPE_CHECKING:
    from costmodel.explore import Exploration

RANKS, DAMAGE = "ranks", "damage"
"""Names of the maps in the page."""
_MOST = 100_000
"""Damages of weights and ranks that a page holds; with more it has no map of them."""


def maps(result: Exploration, choices: Choices) -> list[SiteMap]:
    """Ranks and, where there is room for it, damage of one configuration, int64 (layers, tensors)."""
    model = result.space.model
    found = [rank_map("Rank of each weight", RANKS, result.space.decomposition(choices), model)]
    if (damage := _damages(result)) is not None:
        layers, tensors = np.ogrid[: choices.shape[0], : choices.shape[1]]
        values = np.where(choices > 0, damage[layers, tensors, choices], np.nan)
        title, unit = damage_words(result.damage)
        found.append(value_map(title, DAMAGE, model, values, unit, Scale.of(damage)))
    return found


def map_data(result: Exploration) -> dict[str, Any]:
    """For the script: of each tensor the cell [text, kind, shade] of every rank; the damages and their scale."""
    space, damage = result.space, _damages(result)
    cells = [
        [[cell.text, cell.kind, round(cell.shade, 3)] for cell in _cells(tensor, row, space.form)]
        for tensor, row in zip(space.model.tensors, space.ranks, strict=True)
    ]
    if damage is None:
        return {"cells": cells, "damage": None}
    scale, unit = Scale.of(damage), damage_words(result.damage)[1]
    values = [[[float(f"{value:.3g}") for value in ranks[1:]] for ranks in tensors] for tensors in damage.tolist()]
    return {
        "cells": cells,
        "damage": {"values": values, "unit": unit, "low": scale.low, "high": scale.high, "log": scale.log},
    }


def damage_words(damage: QualityTable) -> tuple[str, str]:
    """The title of a map of damage, and its unit."""
    unit = next((unit for unit in ("nats", "%") if unit in damage.metric), "")
    title = f"Of each weight: {damage.metric}"
    if damage.interactions.any():
        title += "; without what neighbouring layers do to each other"
    return title, unit


def _damages(result: Exploration) -> Floats | None:
    """Of each weight and choice, float64 (layers, tensors, 1 + ranks); None where they are too many for a page."""
    table = result.damage
    return np.multiply(table.value, table.quantum, dtype=np.float64) if table.value.size <= _MOST else None


def _cells(tensor: WeightTensor, ranks: Sequence[int], form: Form) -> list[Cell]:
    return [rank_cell(make_factor(form, rank), tensor) for rank in ranks]
