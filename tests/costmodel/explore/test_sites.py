"""Per-layer and per-site spaces against listing: classes, exact labels, supported points, grid, multipliers."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import few_or_all
from exploring import A100, all_but, quality_data, question_of, small_model, with_live_peaks, workloads

from costmodel.errors import InputError
from costmodel.explore import explore
from costmodel.explore.answer import Answer
from costmodel.explore.by_class.answer import answer_by_classes
from costmodel.explore.by_class.listing import ListedConfigurations
from costmodel.explore.by_class.per_layer import PerLayerClasses
from costmodel.explore.by_site.answer import answer_by_sites
from costmodel.explore.by_site.chain import minimise
from costmodel.explore.by_site.grid import grid
from costmodel.explore.by_site.hull import evaluate, fill, hull
from costmodel.explore.by_site.labels import exact_labels
from costmodel.explore.by_site.multipliers import best_under_limits
from costmodel.explore.by_site.problem import SiteProblem, all_coordinates, ceiling, metric_of
from costmodel.explore.by_site.tangents import tangents
from costmodel.explore.settings import ExploreSettings
from costmodel.families.load import load_model
from costmodel.forward.workload import Runtime, Workload
from costmodel.space.make import design_space

BERT = load_model("bert-base")


def points(answer: Answer) -> list[tuple[float, ...]]:
    return [tuple(found.objectives.values()) for found in answer.frontier]


@pytest.mark.parametrize("seed", range(6))
def test_per_layer_classes_equal_listing(seed: int, tmp_path: Path) -> None:
    rng = random.Random(seed)
    model = small_model(tmp_path) if seed % 2 else load_model(rng.choice(["bert-base", "gpt2"]))
    free = rng.sample([(layer, t.name) for layer in range(model.num_layers) for t in model.tensors], 9)
    keep = [site for site in all_but(model, [], []) if tuple(site) not in free]
    space = design_space(
        model,
        "per-layer",
        ranks=rng.sample([4, 16, 100, 200, 256, 700], 3),
        keep=keep,
        form=rng.choice(["svd", "tucker"]),
    )
    works = workloads(model, seed)
    last = works[-1].phase.value
    question = with_live_peaks(
        question_of(
            space,
            works,
            [
                "prefill.latency_s",
                "prefill.peak_memory_bytes",
                "quality",
                f"{last}.device_s",
                *(["decode.peak_memory_bytes"] if last == "decode" else []),
            ],
            ["saved.params_pct>=0.01"],
            top=40,
            quality="standin:params",
        ),
        seed,
        by_layer=seed % 2 == 0,
    )
    classes = PerLayerClasses(question.tables, space)
    assert sum(classes.counts) == space.valid_size
    listed = ListedConfigurations(question.tables, space)
    assert answer_by_classes(question, classes) == answer_by_classes(question, listed)


@pytest.mark.parametrize("kind", ["per-layer", "per-site"])
@pytest.mark.parametrize("seed", range(4))
def test_exact_labels_equal_listing(kind: str, seed: int, tmp_path: Path) -> None:
    """With interactions, launch-bound phases, energy and peak memory: the frontier and the best."""
    rng = random.Random(seed)
    model = small_model(tmp_path)
    layers, tensors = sorted(rng.sample(range(6), 3)), rng.sample([t.name for t in model.tensors], 2)
    space = design_space(model, kind, ranks=[4, 16, 60, 100], keep=all_but(model, layers, tensors))  # type: ignore[arg-type]
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(quality_data(space, seed, states=1 + 2 * seed)))
    question = question_of(
        space,
        workloads(model, seed, runtime=rng.choice(list(Runtime))),
        rng.choice([["decode.latency_s", "quality"], ["quality", "prefill.energy_j", "decode.peak_memory_bytes"]]),
        ["saved.params_pct>=1"],
        top=1,
        quality=str(path),
    )
    expected = answer_by_classes(question, ListedConfigurations(question.tables, space))
    found = answer_by_sites(question)
    assert found.guarantee.startswith("exact")
    assert points(found) == points(expected)
    assert [each.objectives for each in found.top] == [each.objectives for each in expected.top]
    if seed == 0:  # of a longer list only the first is known to be the best
        assert answer_by_sites(replace(question, top=2)).guarantee != found.guarantee


@pytest.mark.parametrize("seed", range(5))
def test_bounds_hold_and_points_are_near(seed: int, tmp_path: Path) -> None:
    """The methods for large spaces on one that can be listed: no configuration beats a bound, gaps cover the truth."""
    rng = random.Random(seed)
    model = small_model(tmp_path)
    layers = sorted(rng.sample(range(6), 4))
    space = design_space(model, "per-site", ranks=[4, 16, 60], keep=all_but(model, layers, ["q_proj", "down_proj"]))
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(quality_data(space, seed, states=rng.choice([1, 3, 16]))))
    runtime = rng.choice(list(Runtime))
    names = ["prefill.energy_j" if seed % 2 else "prefill.latency_s", "quality"]
    question = question_of(space, [Workload.prefill(512, batch=64, runtime=runtime)], names, quality=str(path))
    listed = ListedConfigurations(question.tables, space)
    truth = np.stack([np.asarray(o.values(listed.batch), dtype=np.float64) for o in question.objectives], axis=-1)
    problem = SiteProblem.of(question.tables)
    seconds = tangents(question.tables, metric_of(question.objectives[1]))
    for first in tangents(question.tables, metric_of(question.objectives[0])):
        supported = hull(problem, first, seconds[0])
        programmed = grid(problem, first, seconds[0], 200, work=3_000_000)
        for bound in (supported, programmed):
            assert (bound.least_first(truth[:, 1]) <= truth[:, 0] * (1 + 1e-12)).all()
        weights = np.array([0.0, 0.3, 5.0]) * np.ptp(truth[:, 0]) / np.ptp(truth[:, 1])
        lowest, choices = minimise(problem, first, seconds[0], weights)
        every = space.valid_choices(0, space.valid_size)
        exact = [evaluate(problem, each, every) for each in (first, seconds[0])]
        for weight, value, chosen in zip(weights, lowest, choices, strict=True):
            assert value == pytest.approx((exact[0] + weight * exact[1]).min(), rel=1e-12)
            own = evaluate(problem, first, chosen[None]) + weight * evaluate(problem, seconds[0], chosen[None])
            assert own[0] == pytest.approx(value, rel=1e-12)
        filled = fill(problem, supported.choices, 50)
        assert len(filled) >= len(supported.choices)


@pytest.mark.parametrize("count", few_or_all([3], [4]))
@pytest.mark.parametrize("seed", range(4))
def test_large_method_against_listing(seed: int, count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole large-space answer, with exact labels switched off: reported gaps cover the distance to the truth."""
    rng = random.Random(seed)
    model = small_model(tmp_path)
    layers = sorted(rng.sample(range(6), count))
    space = design_space(model, "per-site", ranks=[4, 16, 60], keep=all_but(model, layers, ["k_proj", "up_proj"]))
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(quality_data(space, seed, states=1 + 2 * (seed % 2))))
    work = [Workload.prefill(512, batch=64, runtime=rng.choice(list(Runtime)))]
    monkeypatch.setattr("costmodel.explore.by_site.answer.exact_labels", lambda *_: None)
    frontier = question_of(space, work, ["prefill.latency_s", "quality"], quality=str(path), top=1)
    found = answer_by_sites(frontier)
    listed = ListedConfigurations(frontier.tables, space)
    truth = np.array(points(answer_by_classes(frontier, listed)))
    mine = np.array(points(found))
    for latency, quality in truth:
        best = mine[mine[:, 1] <= quality, 0].min()
        assert best <= latency + found.frontier_gap * (1 + 1e-9)
    limits = [f"quality<={np.median(truth[:, 1])}", "saved.params_pct>=0.5", "prefill.energy_j<=1e9"]
    limited = question_of(space, work, ["prefill.energy_j", "quality"], limits, quality=str(path), top=1)
    expected = answer_by_classes(limited, ListedConfigurations(limited.tables, space))
    best_found = answer_by_sites(limited)
    assert bool(best_found.top) == bool(expected.top)
    if expected.top:
        gap = best_found.top[0].objectives["prefill.energy_j"] - expected.top[0].objectives["prefill.energy_j"]
        assert -1e-12 <= gap <= best_found.top_gap * (1 + 1e-9) + 1e-15


def test_multipliers_bound_the_best_under_several_limits(tmp_path: Path) -> None:
    model = small_model(tmp_path)
    space = design_space(model, "per-site", ranks=[4, 16, 60], keep=all_but(model, [0, 2, 5], ["q_proj", "gate_proj"]))
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(quality_data(space, 5, states=3)))
    work = [Workload.prefill(256, batch=8, runtime=Runtime.GRAPH)]
    limits = ["saved.params_pct>=3", "prefill.saved.flops_pct>=4", "prefill.peak_memory_bytes<=2e7"]
    question = question_of(space, work, ["quality"], limits, quality=str(path))
    problem = SiteProblem.of(question.tables)
    bounds = [
        (t, ceiling(question.tables, limit))
        for limit in question.limits
        for t in tangents(question.tables, metric_of(limit.objective))
    ]
    result = best_under_limits(problem, tangents(question.tables, question.objectives[0]), bounds)
    expected = answer_by_classes(question, ListedConfigurations(question.tables, space)).top[0].objectives["quality"]
    assert result.lower <= expected * (1 + 1e-12)
    batch = question.tables.batch(result.choices)
    found = question.goals(batch)[question.allowed(batch), 0].min()
    assert expected <= found <= expected * 1.05


def test_labels_give_up_on_large_spaces(tmp_path: Path) -> None:
    space = design_space(BERT, "per-site", ranks=list(range(8, 385, 8)))
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(quality_data(space, 1)))
    question = question_of(space, [Workload.prefill(128)], ["prefill.hbm_bytes", "quality"], quality=str(path))
    problem = SiteProblem.of(question.tables)
    assert exact_labels(problem, all_coordinates(question.tables, question.objectives)) is None


def test_refusals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("costmodel.explore.by_site.answer.exact_labels", lambda *_: None)
    space = design_space(BERT, "per-site", ranks=[8, 64, 256])
    work = [Workload.prefill(128)]
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(quality_data(space, 1)))
    for objectives, limits, match in (
        (["energy_j", "quality", "hbm_bytes"], [], "two objectives"),
        (["latency_s", "params"], ["params>=5"], "worse side"),
        (["latency_s", "arithmetic_intensity"], [], "site by site"),
    ):
        with pytest.raises(InputError, match=match):
            explore(
                space,
                A100,
                work,
                ExploreSettings(objectives=",".join(objectives), limits=tuple(limits), quality=str(path)),
            )


def test_one_objective_alone() -> None:
    space = design_space(BERT, "per-site", ranks=list(range(8, 257, 8)))
    result = explore(space, A100, [Workload.prefill(512, batch=64)], ExploreSettings(objectives="latency_s", top=1))
    low = result.answer.top[0].objectives["latency_s"]
    assert len(result.answer.frontier) == 1
    one = explore(
        design_space(BERT, ranks=[8]), A100, [Workload.prefill(512, batch=64)], ExploreSettings(objectives="latency_s")
    )
    assert low <= one.answer.top[0].objectives["latency_s"]


@pytest.mark.parametrize("end", ["p05", "p95"])
def test_tangents_of_an_intervals_ends_touch_it_from_below_where_the_host_launches(end: str, tmp_path: Path) -> None:
    model = small_model(tmp_path)
    space = design_space(model, "per-site", ranks=[4, 60], keep=all_but(model, [0, 3], ["q_proj", "down_proj"]))
    for batch, stack in ((1, "transformers"), (4096, "transformers"), (1, "vllm")):
        work = Workload.decode(64, batch=batch, stack=stack)
        question = question_of(space, [work], [f"decode.latency_{end}_s"])
        truth = np.asarray(question.objectives[0].values(ListedConfigurations(question.tables, space).batch))
        problem, every = SiteProblem.of(question.tables), space.valid_choices(0, space.valid_size)
        bounds = np.stack([evaluate(problem, t, every) for t in tangents(question.tables, question.objectives[0])])
        assert bounds.max(axis=0) == pytest.approx(truth, rel=1e-9)
