"""What `explore` says of its own error: gaps where the frontier is not found whole, lower bounds that are attained.

The spaces are small enough to list. The method for large ones runs on them with few bins, points and steps, so that it
misses configurations: a gap that is too small is then seen, as is a lower bound above the truth.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from exploring import all_but, quality_data, question_of, small_model, with_live_peaks

from costmodel.arrays import Floats
from costmodel.explore.answer import Answer, Question
from costmodel.explore.by_class.answer import answer_by_classes
from costmodel.explore.by_class.listing import ListedConfigurations
from costmodel.explore.by_site.answer import answer_by_sites
from costmodel.explore.by_site.grid import grid
from costmodel.explore.by_site.hull import Hull, evaluate, hull
from costmodel.explore.by_site.multipliers import best_of_all, best_under_limits
from costmodel.explore.by_site.problem import Functional, SiteProblem, metric_of
from costmodel.explore.by_site.sample import sample_error
from costmodel.explore.by_site.tangents import tangents
from costmodel.families.load import load_model
from costmodel.forward.workload import Runtime, Workload
from costmodel.space.make import design_space

BERT = load_model("bert-base")
OBJECTIVES = (
    ("prefill.latency_s", "quality"),
    ("prefill.energy_j", "quality"),
    ("prefill.flops", "quality"),
    ("params", "quality"),
    ("quality", "params"),
    ("quality", "prefill.latency_s"),
)
ROUNDING = 1e-9
Ask = Callable[..., Question]


@pytest.fixture
def coarse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Large spaces' method with the fewest bins, a handful of points and three steps of the multipliers."""
    monkeypatch.setattr("costmodel.explore.by_site.answer.exact_labels", lambda *_: None)
    monkeypatch.setattr("costmodel.explore.by_site.answer.WORK", 1)
    monkeypatch.setattr("costmodel.explore.by_site.answer._POINTS", 6)
    monkeypatch.setattr("costmodel.explore.by_site.multipliers.WORK", 1)
    monkeypatch.setattr("costmodel.explore.by_site.multipliers._STEPS", 3)


@pytest.fixture
def ask(tmp_path: Path) -> Ask:
    """Makes a question about six sites of BERT with four choices each; odd seeds have layers that interact."""

    def asked(objectives: Sequence[str], limits: Sequence[str] = (), seed: int = 0) -> Question:
        layers = sorted(random.Random(seed).sample(range(6), 3))
        keep = all_but(BERT, layers, ["intermediate", "output"])
        space = design_space(BERT, "per-site", ranks=[40, 100, 200], keep=keep)
        path = tmp_path / "quality.json"
        path.write_text(json.dumps(quality_data(space, seed, states=1 + 2 * (seed % 2))))
        work = Workload.prefill(128, batch=64, runtime=Runtime.GRAPH)
        return question_of(space, [work], objectives, limits, quality=str(path), top=1)

    return asked


def listed(question: Question) -> Answer:
    """The answer from every configuration of the space."""
    return answer_by_classes(question, ListedConfigurations(question.tables, question.space))


def undercut(found: Answer, truth: Answer) -> float:
    """Largest amount by which a configuration beats the frontier found, in the first objective, at its second or less.

    Second objectives that differ by less than ROUNDING of their range count as equal.
    """
    mine, best = (np.array([list(each.objectives.values()) for each in answer.frontier]) for answer in (found, truth))
    slack = ROUNDING * np.ptp(best[:, 1])
    assert mine[:, 1].min() <= best[:, 1].min() + slack, "the end of the frontier is missing"
    return max(float(mine[mine[:, 1] <= second + slack, 0].min() - first) for first, second in best.tolist())


# --- Gaps -----------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("names", OBJECTIVES, ids=" ".join)
@pytest.mark.parametrize("seed", range(2))
def test_the_frontier_gap_covers_what_was_missed(names: tuple[str, str], seed: int, ask: Ask) -> None:
    """What is reported is beaten, and by no more than the gap; nor does the gap exaggerate."""
    question = ask(names, seed=seed)
    found, truth = answer_by_sites(question), listed(question)
    missed = undercut(found, truth)
    span = np.ptp([each.objectives[names[0]] for each in truth.frontier])
    assert missed > 0.01 * span, "nothing was missed: coarsen the method"
    assert missed <= found.frontier_gap * (1 + ROUNDING)
    assert found.frontier_gap < 2 * missed


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize("names", [("prefill.energy_j", "quality"), ("quality", "prefill.latency_s")], ids=" ".join)
def test_the_frontier_gap_holds_within_limits(names: tuple[str, str], ask: Ask) -> None:
    question = ask(names, ["saved.params_pct>=3"])
    found, truth = answer_by_sites(question), listed(question)
    assert 0 < undercut(found, truth) <= found.frontier_gap * (1 + ROUNDING)


@pytest.mark.usefixtures("coarse")
def test_the_frontier_gap_of_a_per_layer_space_covers_what_was_missed(tmp_path: Path) -> None:
    """Each candidate rank is a problem of its own there; the lowest of their bounds counts."""
    model = small_model(tmp_path)
    keep = all_but(model, [0, 2, 5], ["gate_proj", "up_proj"])
    space = design_space(model, "per-layer", ranks=[4, 16, 60], keep=keep)
    work = Workload.prefill(512, batch=512, runtime=Runtime.GRAPH)
    question = question_of(space, [work], ["prefill.latency_s", "params"], top=1)
    found = answer_by_sites(question)
    assert 0 < undercut(found, listed(question)) <= found.frontier_gap * (1 + ROUNDING)


@pytest.mark.parametrize("coarsely", [False, True])
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("second", ["params", "quality"])
def test_where_choices_raise_the_peak_the_gap_covers_it(
    second: str, seed: int, coarsely: bool, ask: Ask, request: pytest.FixtureRequest
) -> None:
    """A peak is no sum over sites, so the exact method is not used; bounds leave it out, and the gap says so."""
    if coarsely:
        request.getfixturevalue("coarse")
    question = with_live_peaks(ask(["prefill.peak_memory_bytes", second], seed=seed), seed, by_layer=True)
    found, truth = answer_by_sites(question), listed(question)
    assert not found.guarantee.startswith("exact")
    assert f" possible at every {second}" in found.guarantee
    assert undercut(found, truth) <= found.frontier_gap * (1 + ROUNDING)
    assert found.top[0].objectives["prefill.peak_memory_bytes"] <= (
        truth.top[0].objectives["prefill.peak_memory_bytes"] + found.top_gap * (1 + ROUNDING)
    )


TOP = (
    ("params", "quality<=3.896", 0),
    ("prefill.flops", "quality<=6.425", 2),
    ("prefill.energy_j", "quality<=4.414", 1),
    ("quality", "quality<=6.425", 2),
)


@pytest.mark.usefixtures("coarse")
@pytest.mark.parametrize(("name", "limit", "seed"), TOP, ids=[each[0] for each in TOP])
def test_the_gap_of_the_best_covers_what_was_missed(name: str, limit: str, seed: int, ask: Ask) -> None:
    question = ask([name], [limit, "saved.params_pct>=2"], seed)
    answer = answer_by_sites(question)
    missed = answer.top[0].objectives[name] - listed(question).top[0].objectives[name]
    assert 0 < missed <= answer.top_gap * (1 + ROUNDING)
    assert " at every " not in answer.guarantee


@pytest.mark.usefixtures("coarse")
def test_what_was_not_found_is_not_called_impossible(ask: Ask) -> None:
    """Few steps find nothing within limits that some configuration keeps."""
    question = ask(["quality"], ["quality<=3.896", "saved.params_pct>=2"])
    answer = answer_by_sites(question)
    assert answer.top == answer.frontier == ()
    assert listed(question).top
    assert answer.matching != 0
    assert not answer.guarantee.startswith("exact")


# --- Lower bounds ---------------------------------------------------------------------------------------------------


def two_costs(question: Question) -> tuple[SiteProblem, list[Functional], Floats, Hull]:
    """The problem, the two objectives as sums, both of every configuration (2, n), and their supporting lines."""
    problem = SiteProblem.of(question.tables)
    found = [tangents(question.tables, metric_of(objective)) for objective in question.objectives]
    assert [len(each) for each in found] == [1, 1]
    sums = [each[0] for each in found]
    every = question.space.valid_choices(0, question.space.valid_size)
    return problem, sums, np.stack([evaluate(problem, each, every) for each in sums]), hull(problem, *sums)


def least(costs: Floats, ceiling: float) -> float:
    """The truth: the least first cost of all configurations whose second is at most the ceiling, up to rounding."""
    return float(costs[0, costs[1] <= ceiling + 1e-12 * abs(ceiling)].min())


@pytest.mark.parametrize("names", OBJECTIVES, ids=" ".join)
@pytest.mark.parametrize("seed", range(2))
def test_bounds_are_attained_on_supported_points_and_never_above_the_truth(
    names: tuple[str, str], seed: int, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a vertex of the convex hull the dual of a limit has no gap, so the bounds equal the optimum there."""
    monkeypatch.setattr("costmodel.explore.by_site.multipliers.WORK", 1)
    problem, (first, second), costs, lines = two_costs(ask(names, seed=seed))
    vertices = np.unique(evaluate(problem, second, lines.choices))
    vertices = vertices[:: max(1, len(vertices) // 3)]
    between = (vertices[1:] + vertices[:-1]) / 2
    for ceiling in vertices.tolist():
        truth = least(costs, ceiling)
        multipliers = best_under_limits(problem, [first], [(second, ceiling)])
        for bound in (multipliers.lower, lines.least_first(np.array([ceiling]))[0]):
            assert bound == pytest.approx(truth, rel=1e-9)
            assert bound <= truth * (1 + 1e-14)
        met = [evaluate(problem, each, multipliers.choices) for each in (first, second)]
        assert least(np.stack(met), ceiling) == pytest.approx(truth, rel=1e-12)
    programmed = grid(problem, first, second, 10, work=1)
    for ceiling in between.tolist():
        truth = least(costs, ceiling)
        assert best_under_limits(problem, [first], [(second, ceiling)]).lower <= truth
        for line in (lines, programmed):
            assert line.least_first(np.array([ceiling]))[0] <= truth


@pytest.mark.parametrize("names", OBJECTIVES, ids=" ".join)
@pytest.mark.parametrize("seed", range(2))
def test_the_grid_bounds_every_configuration_to_within_its_bins(names: tuple[str, str], seed: int, ask: Ask) -> None:
    """Also where neighbouring layers interact in the objective that is rounded: links can lower it."""
    problem, (first, second), costs, _ = two_costs(ask(names, seed=seed))
    programmed = grid(problem, first, second, 10, work=1)
    bounds = programmed.least_first(costs[1])
    assert (bounds <= costs[0] * (1 + 1e-14)).all()
    if not problem.links(first).any():
        truth = np.array([least(costs, each) for each in costs[1].tolist()])
        assert (truth <= bounds + programmed.sites * programmed.width).all()


@pytest.mark.parametrize("runtime", list(Runtime))
@pytest.mark.parametrize("batch", [1, 8, 64])
def test_without_limits_the_bound_is_the_least_or_below(runtime: Runtime, batch: int) -> None:
    """One tangent, the whole cost: attained. Several, of device and host time: at most the least of their maximum."""
    space = design_space(BERT, "per-site", ranks=[40, 100, 200], keep=all_but(BERT, [0, 4], ["intermediate", "output"]))
    question = question_of(space, [Workload.prefill(128, batch=batch, runtime=runtime)], ["prefill.latency_s"], top=1)
    truth = listed(question).top[0].objectives["prefill.latency_s"]
    sums = tangents(question.tables, question.objectives[0])
    bound = best_of_all(SiteProblem.of(question.tables), sums).lower
    assert bound <= truth * (1 + 1e-14)
    assert bound == pytest.approx(truth, rel=1e-9 if len(sums) == 1 or batch != 8 else 0.01)


# --- Samples --------------------------------------------------------------------------------------------------------


def test_the_error_of_a_share_is_that_of_the_two_sided_bound() -> None:
    """sqrt(ln(2 / alpha) / 2n): Kolmogorov's 1.358 / sqrt(n) at 95 % and 1.628 / sqrt(n) at 99 %, in every table; and
    ln 2000 = 7.6009, over 2 x 8192, of which the root is 0.02154."""
    assert sample_error(100, 0.05) == pytest.approx(0.1358, abs=5e-5)
    assert sample_error(10_000, 0.01) == pytest.approx(0.01628, abs=5e-6)
    assert sample_error() == pytest.approx(0.021539, abs=1e-6)


def test_quantiles_and_shares_carry_that_error(ask: Ask) -> None:
    """Of a space that most configurations of a limit leave: the share's bounds lie 0.0215 to either side."""
    question = ask(["prefill.latency_s"], ["quality<=4"])
    found = answer_by_sites(question)
    spread = found.distribution["prefill.latency_s"]
    assert spread is not None
    assert spread.share_error == pytest.approx(0.021539, abs=1e-6)
    assert found.matching_share is not None
    share, low, high = (found.matching_share[key] for key in ("share", "low", "high"))
    assert (share - low, high - share) == pytest.approx((0.021539, 0.021539), abs=1e-6)
    choices = question.space.sample_choices(8192, 0)
    times = np.sort(question.objectives[0].values(question.tables.batch(choices)))
    assert spread.quantile_bounds is not None
    median = spread.quantile_bounds["0.5"]
    assert median == pytest.approx((times[3919], times[4272]), rel=1e-12)
