"""The homogeneous space by classes against brute force: distribution, counts, best, frontier, all exactly."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import numpy as np
import pytest
from exploring import (
    A100,
    all_but,
    independent_costs,
    narrow_model,
    question_of,
    small_model,
    with_live_peaks,
    workloads,
)

from costmodel.errors import InputError
from costmodel.explore import explore
from costmodel.explore.by_class.answer import answer_by_classes
from costmodel.explore.by_class.homogeneous import HomogeneousClasses
from costmodel.explore.by_class.listing import ListedConfigurations
from costmodel.explore.by_class.subsets import grouped_subsets
from costmodel.explore.explore import answer
from costmodel.explore.settings import ExploreSettings
from costmodel.families.load import load_model
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.costs import PassCosts
from costmodel.pricing.estimate import estimate
from costmodel.space.make import design_space

BERT = load_model("bert-base")
SEVEN = load_model("llama2-7b")
FOUR = ["prefill.latency_s", "prefill.peak_memory_bytes", "saved.params_pct", "prefill.energy_j"]


@pytest.mark.parametrize("seed", range(6))
def test_equals_listing_on_random_subspaces(seed: int) -> None:
    """Models, restrictions, forms and workloads drawn at random; `ListedConfigurations` sums site by site."""
    rng = random.Random(seed)
    model = load_model(rng.choice(["bert-base", "llama2-7b", "gpt2", "opt-125m", "qwen2.5-0.5b"]))
    layers = rng.sample(range(model.num_layers), 5)
    tensors = rng.sample([tensor.name for tensor in model.tensors], 3)
    ranks = rng.sample([1, 8, 64, 100, 300, 700, 1000], 3)
    space = design_space(model, ranks=ranks, form=rng.choice(["svd", "tucker"]), keep=all_but(model, layers, tensors))
    works = workloads(model, seed, runtime=rng.choice(list(Runtime)))
    last = works[-1].phase.value
    question = question_of(
        space,
        works,
        [f"{last}.latency_s", "prefill.energy_j", "params", f"{last}.peak_memory_bytes"],
        ["saved.params_pct>=0.5", f"{last}.saved.latency_pct>=-5"],
        top=60,
    )
    classes = HomogeneousClasses(question.tables, space)
    assert sum(classes.counts) == space.valid_size
    assert answer_by_classes(question, classes) == answer_by_classes(
        question, ListedConfigurations(question.tables, space)
    )


@pytest.mark.parametrize("form", ["svd", "tucker"])
def test_equals_listing_where_choices_raise_the_peak(form: str, tmp_path: Path) -> None:
    model = small_model(tmp_path)
    tensors = ["q_proj", "k_proj", "o_proj"]
    space = design_space(model, ranks=[16, 128, 250], form=form, keep=all_but(model, [0, 1, 3, 4, 5], tensors))
    question = with_live_peaks(
        question_of(
            space,
            workloads(model, batch=64),
            ["decode.peak_memory_bytes", "prefill.peak_memory_bytes", "prefill.latency_s"],
            ["prefill.saved.peak_memory_pct>=-4000"],
            top=100,
            quality="standin:params",
        ),
        seed=len(form),
        by_layer=False,
    )
    assert answer(question) == answer_by_classes(question, ListedConfigurations(question.tables, space))


@pytest.mark.parametrize("kind", ["homogeneous", "per-layer", "per-site"])
def test_a_narrow_mlp_raises_the_peak_as_the_estimate_says(kind: str, tmp_path: Path) -> None:
    """A model that has such peaks, against the estimate's own pricing of every configuration."""
    model = narrow_model(tmp_path)
    keep = all_but(model, [0, 2], ["attn_proj", "c_fc", "mlp_proj"])
    space = design_space(model, kind, ranks=[2, 8, 64], keep=keep)  # type: ignore[arg-type]
    names = ["prefill.peak_memory_bytes", "prefill.params"]
    question = question_of(space, [Workload.prefill(64, batch=8)], names, top=1)
    table = question.tables.phases["prefill"]
    assert table.raises_peak
    numbers = [space.nth_valid(position) for position in range(space.valid_size)]
    costs = independent_costs(table.pricer, space, numbers)
    points = np.stack([costs.peak_memory_bytes, costs.params], axis=-1)
    found = answer(question)
    assert found.guarantee == "exact"
    assert found.distribution["prefill.peak_memory_bytes"].maximum == points[:, 0].max()  # type: ignore[union-attr]
    assert tuple(found.top[0].objectives.values()) == min(map(tuple, points.tolist()))
    front = np.array([list(each.objectives.values()) for each in found.frontier])
    assert (front[:, None] <= points[None]).all(axis=2).any(axis=0).all()
    assert {tuple(point) for point in front.tolist()} <= {tuple(point) for point in points.tolist()}


def test_peaks_that_differ_by_layer_are_listed_or_answered_by_kind(tmp_path: Path) -> None:
    """No classes then: a small space is priced one by one, a large one by the kinds of its layers."""
    model = small_model(tmp_path)
    work = [Workload.prefill(64, batch=64)]
    names = ["prefill.peak_memory_bytes", "prefill.latency_s"]
    small = design_space(model, ranks=[16, 128], keep=all_but(model, [0, 1, 3, 4], ["q_proj", "o_proj"]))
    question = with_live_peaks(question_of(small, work, names, top=30), seed=1, by_layer=True)
    listed = ListedConfigurations(question.tables, small)
    assert not question.tables.peaks_alike(["prefill"])
    assert answer(question) == answer_by_classes(question, listed)
    assert answer_by_classes(question, HomogeneousClasses(question.tables, small)) != answer(question)
    large = design_space(SEVEN, ranks=[16, 128])
    found = answer(with_live_peaks(question_of(large, work, names), seed=1, by_layer=True))
    assert found.guarantee.startswith("exact")
    assert found.distinct_costs is None
    others = with_live_peaks(question_of(large, work, names[1:]), seed=1, by_layer=True)
    assert answer(others) == answer(question_of(large, work, names[1:]))


def test_against_the_estimates_own_pricing(tmp_path: Path) -> None:
    """The listing itself against PhasePricer.costs, which shares no sum with it, to rounding."""
    for model, keep in ((BERT, all_but(BERT, [0, 7], ["key", "output"])), (small_model(tmp_path), [])):
        for kind in ("homogeneous", "per-layer", "per-site"):
            space = design_space(model, kind, ranks=[1, 90], keep=keep)
            question = question_of(space, workloads(model, 3, batch=16), ["params"])
            numbers = space.sample(40, seed=5)
            batch = question.tables.batch(np.stack([space.choices(number) for number in numbers]))
            for name, table in question.tables.phases.items():
                expected = independent_costs(table.pricer, space, numbers)
                for key in PassCosts.__slots__:
                    values, others = getattr(batch.phase(name), key), getattr(expected, key)
                    if values is None or others is None:
                        assert values is others is None
                    elif np.asarray(values).dtype.kind == "i":
                        assert (values == others).all(), key
                    else:
                        np.testing.assert_allclose(values, others, rtol=1e-12, err_msg=key)


@pytest.mark.parametrize("kind", ["homogeneous", "per-layer", "per-site"])
def test_a_request_for_one_token_is_its_prefill(kind: str, tmp_path: Path) -> None:
    model, works = small_model(tmp_path), [Workload.prefill(300, batch=8)]
    space = design_space(model, kind, ranks=[4, 60], keep=all_but(model, [0, 3], ["q_proj", "down_proj"]))  # type: ignore[arg-type]
    for metric in ("latency_s", "energy_j"):
        request = answer(question_of(space, works, [f"request.{metric}"], top=3, new_tokens=1))
        prefill = answer(question_of(space, works, [f"prefill.{metric}"], top=3))
        assert [list(each.objectives.values()) for each in request.top] == [
            list(each.objectives.values()) for each in prefill.top
        ]
    with pytest.raises(InputError, match=r"request\.tpot_s is unknown: one new token takes no decode step"):
        answer(question_of(space, works, ["request.tpot_s"], top=1, new_tokens=1))


def check_reported_costs(result, calibration=None) -> None:  # type: ignore[no-untyped-def]
    """`estimate` on every reported configuration gives what was reported."""
    answer, space = result.answer, result.space
    for found in {each.number: each for each in (*answer.top, *answer.frontier)}.values():
        again = estimate(
            space.model,
            load_hardware(result.hardware),
            space.config(found.number),
            result.workloads,
            calibration=calibration,
            new_tokens=result.new_tokens,
        )
        for objective in result.question.objectives:
            if objective.part == "quality":
                continue
            if objective.part == "request":
                source = again.request
                assert source is not None
                costs, saved = source.decomposed.to_json(), source.to_json()["saved"]
            else:
                phase = next(p for p in again.phases if p.workload.phase.value == objective.part)
                costs, saved = phase.decomposed.to_json(), phase.saved
            if objective.saving:
                key = "speedup" if objective.saving == "speedup" else objective.name.rpartition(".")[2]
                expected = saved[key]
                assert found.objectives[objective.name] == pytest.approx(expected, rel=1e-9, abs=1e-9)
            else:
                assert found.objectives[objective.name] == pytest.approx(costs[objective.metric], rel=1e-9)


@pytest.mark.parametrize("runtime", [Runtime.EAGER, pytest.param(Runtime.GRAPH, marks=pytest.mark.slow)])
def test_estimate_reproduces_what_is_reported(runtime: Runtime) -> None:
    space = design_space(SEVEN, ranks=[64, 3000], form="tucker")
    works = [Workload.prefill(300, runtime=runtime, batch=2), Workload.decode(301, runtime=runtime, batch=2)]
    result = explore(
        space,
        A100,
        works,
        ExploreSettings(
            top=8,
            quality="standin:params",
            limits=("saved.params_pct>=5",),
            objectives="decode.latency_s,request.latency_s,request.energy_j,quality,decode.saved.energy_pct,"
            "prefill.saved.speedup,prefill.tokens_per_s,prefill.peak_memory_bytes,request.saved.latency_pct",
        ),
        new_tokens=40,
    )
    assert result.answer.guarantee == "exact"
    assert len(result.answer.top) == 8
    check_reported_costs(result)


def test_request_equals_a_sum_over_steps_for_each_configuration() -> None:
    """Eager decode on a slow host crosses from host-bound to device-bound as the cache grows."""
    space = design_space(SEVEN, ranks=[64, 2000], keep=all_but(SEVEN, [0, 9, 20], ["q_proj", "down_proj"]))
    works = [Workload.prefill(64, batch=48)]
    question = question_of(space, works, ["request.latency_s", "request.tpot_s", "request.energy_j"], new_tokens=700)
    steps = question.tables.steps
    assert steps is not None
    listed = ListedConfigurations(question.tables, space)
    latency = listed.batch.request.latency_s - listed.batch.request.ttft_s
    crossing = 0
    for position in range(0, space.valid_size, 7):
        seconds, _ = steps.times(space.config(space.nth_valid(position)))
        assert latency[position] == pytest.approx(float(seconds.sum()), rel=1e-12)
        crossing += seconds[0] == seconds[1] and seconds[-1] > seconds[0]
    assert crossing


def test_frontier_has_no_dominated_point_and_best_are_best() -> None:
    space = design_space(SEVEN, ranks=[64, 256, 1024])
    question = question_of(space, [Workload.decode(513)], ["decode.latency_s", "decode.energy_j", "params"], top=200)
    answer = answer_by_classes(question, HomogeneousClasses(question.tables, space))
    points = np.array([list(found.objectives.values()) for found in answer.frontier])
    for one, other in itertools.permutations(points, 2):
        assert not ((one <= other).all() and (one < other).any())
    sample = question.tables.batch(space.sample_choices(500, seed=2))
    goals = question.goals(sample)
    assert (points[:, None] <= goals[None]).all(axis=2).any(axis=0).all(), "something sampled beats the frontier"
    values = [tuple(found.objectives.values()) for found in answer.top]
    assert values == sorted(values)
    assert len({found.number for found in answer.top}) == 200


def test_subsets_come_whole_and_in_order() -> None:
    """Against all masks, for places of one group, of several, and of none."""
    for groups in ([0] * 6, [0, 1, 0, -1, 1, 0, 2], [-1, 1, 0, 0]):
        kinds = range(max(groups) + 1)
        sizes = [groups.count(kind) for kind in kinds]
        for numbers in itertools.product(*(range(size + 2) for size in sizes)):
            expected = [
                mask
                for mask in range(1 << len(groups))
                if not any(mask >> place & 1 for place, group in enumerate(groups) if group < 0)
                and all(
                    number == sum(mask >> place & 1 for place, group in enumerate(groups) if group == kind)
                    for kind, number in zip(kinds, numbers, strict=True)
                )
            ]
            assert list(grouped_subsets(groups, numbers)) == expected


def test_the_whole_of_two_to_the_39_times_16() -> None:
    result = explore(
        design_space(SEVEN, ranks=list(range(64, 1025, 64))),
        A100,
        [Workload.decode(513, runtime=Runtime.GRAPH)],
        ExploreSettings(
            objectives="decode.latency_s,decode.energy_j,decode.peak_memory_bytes,params",
            limits=("saved.params_pct>=9", "saved.latency_pct>=1"),
        ),
    )
    answer = result.answer
    assert result.space.size == (2**32 - 1) * 127 * 16 + 1 == sum(answer.distribution["params"].counts)  # type: ignore[union-attr]
    assert 0 < answer.matching < result.space.size  # type: ignore[operator]
    assert answer.guarantee == "exact"
    mean = answer.distribution["params"].mean  # type: ignore[union-attr]
    per_rank = [
        sum(tensor.weight_params - r * (tensor.out_features + tensor.in_features) for tensor in SEVEN.tensors)
        for r in range(64, 1025, 64)
    ]
    saved = 32 * 2**31 * 64 * sum(per_rank)  # each layer is in half of the sets of layers, each tensor in 64 of 127
    assert mean == pytest.approx(SEVEN.num_params - saved / result.space.size, rel=1e-14)
