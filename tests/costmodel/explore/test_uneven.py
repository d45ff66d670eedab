"""The homogeneous space with a quality that differs by layer against listing: order, frontier, bounds, bin error."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from exploring import A100, all_but, quality_data, question_of, small_model, with_live_peaks, workloads

from costmodel.errors import InputError
from costmodel.explore import explore
from costmodel.explore.by_class.answer import answer_by_classes
from costmodel.explore.by_class.listing import ListedConfigurations
from costmodel.explore.by_layer.answer import answer_uneven
from costmodel.explore.by_layer.quality import LayerQuality
from costmodel.explore.settings import ExploreSettings
from costmodel.families.load import load_model
from costmodel.forward.workload import Runtime, Workload
from costmodel.space.make import design_space


@pytest.mark.parametrize("seed", range(8))
def test_equals_listing(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    model = small_model(tmp_path) if seed % 2 else load_model("bert-base")
    layers = sorted(rng.sample(range(model.num_layers), rng.choice([3, 6])))
    space = design_space(model, ranks=[4, 60, 200], keep=all_but(model, layers, [t.name for t in model.tensors[:3]]))
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(quality_data(space, seed, states=rng.choice([1, 3, 16]))))
    objectives = [
        ["prefill.latency_s", "quality"],
        ["quality", "prefill.peak_memory_bytes", "params"],
        ["params", "quality"],
        ["prefill.peak_memory_bytes"],
    ][seed % 4]
    for limits in ([], ["quality<=1.5", "saved.params_pct>=0.1", "prefill.saved.peak_memory_pct>=-900"]):
        question = question_of(
            space, workloads(model, seed, runtime=Runtime.GRAPH), objectives, limits, top=40, quality=str(path)
        )
        question = with_live_peaks(question, seed, by_layer=False)
        expected = answer_by_classes(question, ListedConfigurations(question.tables, space))
        found = answer_uneven(question)
        if "quality" in objectives:
            assert found.top == expected.top
        assert [each.objectives for each in found.top] == [each.objectives for each in expected.top]
        assert found.frontier == expected.frontier
        if found.matching_bounds:
            assert found.matching_bounds[0] <= expected.matching <= found.matching_bounds[1]  # type: ignore[operator]
        else:
            assert found.matching == expected.matching
        for name, spread in found.distribution.items():
            truth = expected.distribution[name]
            assert spread is not None
            assert truth is not None
            if name != "quality":
                assert spread == truth
                continue
            assert sum(spread.counts) == space.valid_size
            assert (spread.minimum, spread.maximum) == (truth.minimum, truth.maximum)
            assert spread.mean == pytest.approx(truth.mean, rel=1e-12, abs=1e-12)
            for q, value in spread.quantiles.items():
                assert abs(value - truth.quantiles[q]) <= spread.bin_error


def test_order_of_subsets(tmp_path: Path) -> None:
    model = small_model(tmp_path)
    space = design_space(model, ranks=[4, 60], keep=all_but(model, [0, 1, 3, 4, 5], ["q_proj", "up_proj"]))
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(quality_data(space, 3, states=4)))
    question = question_of(space, workloads(model), ["params"], quality=str(path))
    assert question.tables.quality is not None
    quality = LayerQuality.of(question.tables.quality, space)  # type: ignore[arg-type]
    ticks = ListedConfigurations(question.tables, space).batch.quality_ticks
    assert ticks is not None
    assert quality.total() + int(ticks[0]) == sum(ticks.tolist())
    least = quality.least()
    layers = space.layers.tolist()  # type: ignore[attr-defined]
    for pair in range(len(space.pairs)):  # type: ignore[attr-defined]
        for size in range(1, 6):
            expected = sorted(
                (int(ticks[space.number(mask, pair)]), sum(1 << layers[b] for b in range(5) if mask >> b & 1))  # type: ignore[attr-defined]
                for mask in range(1, 32)
                if mask.bit_count() == size
            )
            assert list(quality.ordered(pair, size)) == expected
            assert least[size, pair] == expected[0][0]


def test_seven_billion_with_an_uneven_quality(tmp_path: Path) -> None:
    space = design_space(load_model("llama2-7b"), ranks=[64, 256, 1024])
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(quality_data(space, 7, states=4)))
    result = explore(
        space,
        A100,
        [Workload.decode(513, runtime=Runtime.GRAPH)],
        ExploreSettings(
            quality=str(path), top=20, objectives="quality,decode.latency_s", limits=("saved.latency_pct>=5",)
        ),
    )
    answer = result.answer
    values = [tuple(found.objectives.values()) for found in answer.top]
    assert values == sorted(values)
    sample = result.question.tables.batch(space.sample_choices(400, seed=1))
    goals = result.question.goals(sample)[result.question.allowed(sample)]
    front = np.array([list(found.objectives.values()) for found in answer.frontier])
    assert (front[:, None] <= goals[None]).all(axis=2).any(axis=0).all()
    with pytest.raises(InputError, match="from above"):
        explore(space, A100, [Workload.decode(513)], ExploreSettings(quality=str(path), limits=("quality>=1",)))
