"""What a fitted quality file says of every weight alone: the predictor's own word for a configuration of one weight."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from validating import LLAMA, tiny_spec

from costmodel.decomposition.factors import Decomposition, LowRank, Site, break_even_rank
from costmodel.decomposition.text import Rank
from costmodel.space.make import design_space
from validate.predictor.weight_maps import WeightDamage, half_break_even

MODEL = tiny_spec(LLAMA)
RANKS = [Rank(number=2), Rank(number=8), Rank(number=12)]


@pytest.fixture
def quality(tmp_path: Path) -> Path:
    entries = [
        {
            "site": str(Site(layer, tensor.name)),
            "rank": rank.number,
            "value": 1.0 + layer + 1 / (rank.number or 1),
            "state": 1,
        }
        for layer in range(MODEL.num_layers)
        for tensor in MODEL.tensors
        for rank in RANKS
    ]
    pair = [{"layer": 0, "state": 1, "next_state": 0, "value": 0.5}]
    content = {"schema": 1, "model": "tiny", "link": {"ceiling": 9.0, "bend": 1.0}, "layer_interactions": pair}
    path = tmp_path / "quality.json"
    path.write_text(json.dumps({**content, "entries": entries}))
    return path


def test_each_weight_of_a_configuration_is_priced_with_all_others_dense(quality: Path) -> None:
    damage = WeightDamage(quality, MODEL, RANKS)
    config = Decomposition({Site(0, "q_proj"): LowRank(2), Site(1, "k_proj"): LowRank(8)}, frozenset())
    found = damage.of(config)
    assert found is not None
    cells = {
        (name, layer): cell
        for name, row in zip(found.tensors, found.rows, strict=True)
        for layer, cell in enumerate(row)
    }
    texts = {where: float(cell.text.split()[0]) for where, cell in cells.items() if cell and cell.kind == "value"}
    expected = {("q_proj", 0): 1 + 1 / 2 + 0.5, ("k_proj", 1): 2 + 1 / 8}
    assert texts == pytest.approx({where: -9 * np.expm1(-value / 9) for where, value in expected.items()}, rel=5e-3)


def test_what_the_predictor_knows_nothing_of_has_no_map(quality: Path) -> None:
    damage = WeightDamage(quality, MODEL, RANKS)
    assert damage.of(Decomposition({Site(0, "q_proj"): LowRank(3)}, frozenset())) is None
    assert damage.of(Decomposition({}, frozenset({1}))) is None


def test_sensitivity_is_at_the_candidate_next_to_half_of_break_even(quality: Path) -> None:
    space = design_space(MODEL, "per-site", ranks=RANKS)
    choices = half_break_even(space)
    for column, tensor in enumerate(MODEL.tensors):
        half = break_even_rank(tensor.out_features, tensor.in_features, "svd") / 2
        ranks = space.ranks[column]
        assert set(choices[:, column]) == {1 + int(np.argmin([abs(rank - half) for rank in ranks]))}
    cells = [cell for row in WeightDamage(quality, MODEL, RANKS).at_reference().rows for cell in row if cell]
    assert {cell.kind for cell in cells} == {"value"}
