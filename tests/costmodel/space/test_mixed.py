"""The homogeneous space over layers with different tensors, against the sets of sites that its choices come to."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace

import numpy as np
import pytest
from exploring import question_of

from costmodel.decomposition.text import Rank
from costmodel.explore.by_class.answer import answer_by_classes
from costmodel.explore.by_class.listing import ListedConfigurations
from costmodel.explore.by_class.mixed import MixedClasses
from costmodel.families.registry import spec_from_config
from costmodel.forward.workload import Workload
from costmodel.model import ModelSpec
from costmodel.space.base import DesignSpace
from costmodel.space.make import design_space
from costmodel.space.mixed import MixedSpace


def mixed_model(layers: int = 4) -> ModelSpec:
    """Dense and sparse layers, and one whose heads are fewer, so that a name has two shapes."""
    config = {
        "model_type": "glm4_moe",
        "vocab_size": 90,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "first_k_dense_replace": 1,
    }
    spec = spec_from_config(config, name="mixed", source="test")
    fields = {**spec.kind_fields, "narrow": {"num_heads": 2}}
    return replace(spec, layer_kinds=(*spec.layer_kinds[:-1], "narrow"), kind_fields=fields)


def space_of(ranks: list[int], names: tuple[str, ...] = ("q_proj", "up_proj", "experts.up_proj")) -> DesignSpace:
    model = mixed_model()
    dropped = [site for site in _sites(model) if site.tensor not in names]
    return design_space(model, "homogeneous", ranks=ranks, keep=dropped)


def _sites(model: ModelSpec) -> list:  # type: ignore[type-arg]
    from costmodel.decomposition.factors import Site
    from costmodel.decomposition.sites import site_columns

    return [Site(*key) for key in site_columns(model)]


def test_configurations_are_the_different_sets_of_sites() -> None:
    space = space_of([4, 16])
    assert isinstance(space, MixedSpace)
    model, found = space.model, {space.config(0)}
    names = ("q_proj", "up_proj", "experts.up_proj")
    for size in range(1, 5):
        for layers, few in itertools.product(itertools.combinations(range(4), size), range(1, 8)):
            chosen = {name for bit, name in enumerate(names) if few >> bit & 1}
            for candidate in (1, 2):
                choices = np.zeros(space.free.shape, dtype=np.int64)
                for column, tensor in enumerate(model.tensors):
                    if tensor.name in chosen:
                        choices[list(layers), column] = candidate * space.free[list(layers), column]
                found.add(space.decomposition(choices))
    assert space.size == len(found)
    assert {space.config(number) for number in range(space.size)} == found
    assert all(space.index(space.config(number)) == number for number in range(space.size))
    listed = space.valid_choices(0, space.valid_size)
    numbers = [space.nth_valid(position) for position in range(space.valid_size)]
    assert (listed == np.stack([space.choices(number) for number in numbers])).all()


def test_ranks_beyond_a_shape_are_left_out() -> None:
    space = space_of([4, 20])  # the experts' up_proj is 16 x 32, q_proj of the narrow layer 16 x 32
    beyond = [
        number
        for number in range(space.size)
        if any(
            max(factor.ranks) > min(t.out_features, t.in_features)
            for site, factor in space.config(number).factors.items()
            for t in [space.model.tensor(site.tensor, site.layer)]
        )
    ]
    assert space.excluded == len(beyond) > 0
    assert not set(beyond) & {space.nth_valid(position) for position in range(space.valid_size)}


@pytest.mark.parametrize(
    ("objectives", "limits", "quality"),
    [
        (["prefill.latency_s", "decode.hbm_bytes", "params"], ["decode.saved.params_pct>=1"], None),
        (["quality", "params"], [], "standin:params"),  # the dense model comes first
    ],
)
def test_classes_answer_as_a_literal_enumeration(objectives: list[str], limits: list[str], quality: str | None) -> None:
    space = space_of([4, 12])
    works = [Workload.prefill(24, batch=2), Workload.decode(40)]
    question = question_of(space, works, objectives, limits, quality=quality)
    assert isinstance(space, MixedSpace)
    summed = MixedClasses(question.tables, space)
    for sums in (summed.batch.columns, summed.batch.excess):
        assert {each.dtype for each in sums.values()} == {np.dtype(np.int64)}  # doubles would round large counts
    classes = answer_by_classes(question, summed)
    literal = answer_by_classes(question, ListedConfigurations(question.tables, space))
    assert classes == literal


def test_percentages_are_of_each_shape_s_own_break_even() -> None:
    model = mixed_model()
    space = design_space(model, "per-site", ranks=[Rank.parse("50%")])
    rng = random.Random(0)
    for _ in range(20):
        config = space.config(rng.randrange(space.size))
        for site, factor in config.factors.items():
            tensor = model.tensor(site.tensor, site.layer)
            assert factor.ranks[0] == Rank.parse("50%").of(tensor, "svd")
