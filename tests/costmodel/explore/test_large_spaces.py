"""The large comparisons: whole spaces against brute force, and the targets for time and memory on two cores."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exploring import A100, all_but, independent_costs, quality_data, question_of, small_model
from test_sites import points

from benchmarks.sweep import sweep
from costmodel.explore import explore
from costmodel.explore.by_class.answer import answer_by_classes
from costmodel.explore.by_class.homogeneous import HomogeneousClasses
from costmodel.explore.by_class.listing import ListedConfigurations
from costmodel.explore.by_layer.answer import answer_uneven
from costmodel.explore.by_site.answer import answer_by_sites
from costmodel.explore.distribution import distribution
from costmodel.explore.settings import ExploreSettings
from costmodel.families.load import load_model
from costmodel.forward.workload import Runtime, Workload
from costmodel.space.make import design_space

pytestmark = pytest.mark.slow
BERT = load_model("bert-base")


@pytest.mark.parametrize(("ranks", "size"), [([1], 257_986), ([1, 64, 256], 773_956)])
def test_all_of_bert_base_four_objectives(ranks: list[int], size: int) -> None:
    space = design_space(BERT, ranks=ranks)
    question = question_of(
        space,
        [Workload.prefill(128, batch=8)],
        ["latency_s", "energy_j", "peak_memory_bytes", "saved.params_pct"],
        ["saved.latency_pct>=1", "saved.params_pct>=9"],
        top=50,
    )
    assert space.size == size
    expected = answer_by_classes(question, ListedConfigurations(question.tables, space))
    assert answer_by_classes(question, HomogeneousClasses(question.tables, space)) == expected


def test_bert_base_against_the_estimates_own_pricing() -> None:
    """Every configuration at one rank priced by PhasePricer.costs, summed in another order and in plain floats."""
    space = design_space(BERT, ranks=[64])
    question = question_of(space, [Workload.prefill(128, batch=8)], ["latency_s", "energy_j"])
    classes = HomogeneousClasses(question.tables, space)
    pricer = question.tables.phases["prefill"].pricer
    values: dict[str, list[np.ndarray]] = {"latency_s": [], "energy_j": []}  # type: ignore[type-arg]
    for start in range(0, space.size, 4096):
        found = independent_costs(pricer, space, range(start, min(space.size, start + 4096)))
        for name, parts in values.items():
            parts.append(getattr(found, name))
    for objective in question.objectives:
        mine = distribution(objective.values(classes.batch), classes.counts)
        every = np.concatenate(values[objective.name])
        assert mine.mean == pytest.approx(every.mean(), rel=1e-12)
        assert mine.maximum == pytest.approx(every.max(), rel=1e-12)
        for q, value in mine.quantiles.items():
            assert value == pytest.approx(np.quantile(every, float(q), method="inverted_cdf"), rel=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_seven_billion_restricted_to_two_to_the_22(seed: int, tmp_path: Path) -> None:
    """Random layers of Llama 2 7B, 2^15 x 127 configurations, costs and an uneven quality."""
    rng = random.Random(seed)
    model = load_model("llama2-7b")
    layers = rng.sample(range(32), 13 if seed else 11)
    space = design_space(
        model, ranks=[rng.choice([1, 64, 500, 2000])], keep=all_but(model, layers, [t.name for t in model.tensors])
    )
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(quality_data(space, seed, states=4)))
    work = [Workload.decode(513, runtime=rng.choice(list(Runtime)))]
    question = question_of(
        space, work, ["latency_s", "energy_j", "peak_memory_bytes", "params"], top=50, limits=["saved.params_pct>=9"]
    )
    assert space.size <= 1 << 22
    expected = answer_by_classes(question, ListedConfigurations(question.tables, space))
    assert answer_by_classes(question, HomogeneousClasses(question.tables, space)) == expected
    question = question_of(space, work, ["energy_j", "quality"], top=50, quality=str(path))
    expected = answer_by_classes(question, ListedConfigurations(question.tables, space))
    found = answer_uneven(question)
    assert (found.top, found.frontier) == (expected.top, expected.frontier)


@pytest.mark.parametrize("seed", range(6))
def test_per_site_up_to_a_million(seed: int, tmp_path: Path) -> None:
    """With interactions through up to 16 states, against every configuration."""
    rng = random.Random(seed)
    model = small_model(tmp_path)
    layers = sorted(rng.sample(range(6), rng.choice([3, 5])))
    tensors = rng.sample([t.name for t in model.tensors], 6 // len(layers) + (len(layers) == 5))
    ranks = [4, 8, 16, 30, 45, 60, 80, 90, 100][: 9 if len(layers) * len(tensors) == 6 else 3]
    space = design_space(model, "per-site", ranks=ranks, keep=all_but(model, layers, tensors))
    assert space.size <= 10**6 + 48_576
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(quality_data(space, seed, states=[1, 2, 4, 16][seed % 4])))
    question = question_of(
        space,
        [Workload.prefill(256, batch=16, runtime=rng.choice(list(Runtime)))],
        ["latency_s", "quality"],
        ["saved.params_pct>=2"],
        top=1,
        quality=str(path),
    )
    expected = answer_by_classes(question, ListedConfigurations(question.tables, space))
    found = answer_by_sites(question)
    assert found.guarantee.startswith("exact")
    assert points(found) == points(expected)
    assert [each.objectives for each in found.top] == [each.objectives for each in expected.top]


def test_bert_large_literally() -> None:
    space = design_space(load_model("bert-large"), ranks=[1])
    question = question_of(space, [Workload.prefill(128, runtime=Runtime.GRAPH)], ["latency_s"])
    classes = HomogeneousClasses(question.tables, space)
    expected = distribution(question.objectives[0].values(classes.batch), classes.counts)
    found = sweep(question.tables, question.objectives[0], np.array(expected.edges), threads=2)
    assert found.counted == space.size == 1_056_964_546
    assert found.counts == expected.counts
    assert found.elapsed_s < 60


@pytest.mark.parametrize(("name", "seconds"), [("llama2-7b", 1.0), ("llama2-70b", 3.0)])
def test_time_of_the_whole_answer(name: str, seconds: float) -> None:
    space = design_space(load_model(name), ranks=list(range(64, 1025, 64)))
    times = [
        explore(space, A100, [Workload.decode(513)], ExploreSettings(limits=("saved.params_pct>=9",))).elapsed_s
        for _ in range(3)
    ]
    assert min(times) < seconds


def test_time_and_memory_of_the_per_site_frontier(tmp_path: Path) -> None:
    """224 sites x 32 ranks in a process of its own: 10 s and 1 GB."""
    space = design_space(load_model("llama2-7b"), "per-site", ranks=list(range(64, 2049, 64)))
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(quality_data(space, 3, states=4)))
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "costmodel",
            "explore",
            "--model",
            "llama2-7b",
            "--hw",
            "a100-sxm-80gb",
            "--space",
            "per-site",
            "--ranks",
            "64-2048:64",
            "--phase",
            "decode",
            "--runtime",
            "graph",
            "--objectives",
            "latency_s,quality",
            "--quality",
            str(path),
            "--format",
            "json",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    assert found["elapsed_s"] < 10
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss < 1_000_000
    latencies = [each["objectives"]["latency_s"] for each in found["frontier"]]
    assert len(latencies) > 500
    assert found["frontier_gap"] < 0.01 * (max(latencies) - min(latencies))
