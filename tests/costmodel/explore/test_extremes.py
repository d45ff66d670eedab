"""Minimum, maximum and mean of spaces that are sampled, against listing; and what says how far they are exact."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cases import few_or_all
from exploring import all_but, quality_data, question_of, small_model, with_live_peaks

from costmodel.explore.answer import Answer
from costmodel.explore.by_class.answer import answer_by_classes
from costmodel.explore.by_class.listing import ListedConfigurations
from costmodel.explore.by_site.answer import answer_by_sites
from costmodel.explore.by_site.extremes import extremes
from costmodel.explore.by_site.problem import SiteProblem
from costmodel.explore.tables import COLUMN
from costmodel.forward.workload import Runtime, Workload
from costmodel.space.make import design_space

NAMES = [
    "quality",
    "params",
    "decode.latency_s",
    "prefill.latency_s",
    "prefill.energy_j",
    "decode.tokens_per_s",
    "prefill.saved.latency_pct",
    "prefill.saved.speedup",
    "decode.peak_memory_bytes",
    "request.latency_s",
    "request.tpot_s",
    "request.energy_j",
    "request.saved.latency_pct",
]
KEYS = {"min": "minimum", "max": "maximum", "mean": "mean"}


@pytest.mark.parametrize("step", few_or_all([4], [1]))
@pytest.mark.parametrize(
    ("kind", "seed"), [*(("per-site", seed) for seed in range(4)), ("per-layer", 0), ("per-layer", 3)]
)
def test_extremes_equal_listing(kind: str, seed: int, step: int, tmp_path: Path) -> None:
    """What is called exact is, what is not lies inside, and the quantiles' bounds hold; launch-bound in part or not.

    By default each space is asked for a fourth of the objectives, the four per site together for all.
    """
    rng = random.Random(seed)
    model = small_model(tmp_path)
    layers, tensors = sorted(rng.sample(range(6), 3)), rng.sample([t.name for t in model.tensors], 2)
    space = design_space(model, kind, ranks=rng.sample([4, 16, 60, 200], 3), keep=all_but(model, layers, tensors))  # type: ignore[arg-type]
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(quality_data(space, seed, states=(1, 2, 5, 5)[seed])))
    runtime = Runtime.GRAPH if seed == 0 else Runtime.EAGER
    works = [
        Workload.prefill(512, batch=rng.choice([4, 64]), runtime=runtime),
        Workload.decode(513, batch=rng.choice([4, 4096]), runtime=runtime),
    ]
    exact = ("quality", "params", "request.latency_s", "decode.peak_memory_bytes")  # of the space of seed 0
    for name in dict.fromkeys((*NAMES[seed % step :: step], *(exact if seed == 0 else ()))):
        question = question_of(space, works, [name], top=1, quality=str(path), new_tokens=5)
        if seed == 3:
            question = with_live_peaks(question, seed, by_layer=True)
        listed = answer_by_classes(question, ListedConfigurations(question.tables, space)).distribution[name]
        found = answer_by_sites(question).distribution[name]
        assert listed is not None
        assert found is not None
        assert found.sampled
        slack = 1e-9 * max(abs(listed.minimum), abs(listed.maximum))
        for key, attribute in KEYS.items():
            expected = getattr(listed, attribute)
            if key in found.exact:
                assert getattr(found, attribute) == pytest.approx(expected, abs=slack), (name, key)
        assert listed.minimum - slack <= found.minimum <= found.maximum <= listed.maximum + slack
        assert (found.mean_standard_error > 0) == ("mean" not in found.exact)
        assert found.quantile_bounds is not None
        for quantile, (low, high) in found.quantile_bounds.items():
            assert low <= listed.quantiles[quantile] + slack
            assert high >= listed.quantiles[quantile] - slack
        if seed == 0 and name in exact:
            assert found.exact == ("min", "max", "mean"), name


@pytest.mark.parametrize("states", [1, 5])
def test_of_a_sum_over_sites_and_neighbours_both_ends_and_the_mean_are_exact(states: int, tmp_path: Path) -> None:
    """Whatever interactions do: it is minimised and maximised site by site."""
    space = design_space(small_model(tmp_path), "per-site", ranks=[4, 16, 60])
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(quality_data(space, 1, states=states)))
    question = question_of(space, [Workload.decode(200)], ["quality"], top=1, quality=str(path))
    found = extremes(question.tables, [SiteProblem.of(question.tables)], question.objectives[0])
    assert found.exact == ("min", "max", "mean")
    assert found.mean is not None
    assert found.minimum < found.mean < found.maximum


def test_passes_that_are_longest_at_unlike_choices_have_a_longest_request_that_is_exact(tmp_path: Path) -> None:
    """Though no configuration takes the longest of both: times made up, the device's alone, as under graphs."""
    model = small_model(tmp_path)
    space = design_space(model, "per-site", ranks=[4, 16], keep=all_but(model, [0, 3], ["q_proj", "down_proj"]))
    works = [
        Workload.prefill(512, batch=4, runtime=Runtime.GRAPH),
        Workload.decode(513, batch=4, runtime=Runtime.GRAPH),
    ]
    question = question_of(space, works, ["request.latency_s"], top=1, new_tokens=5)
    tables, column = question.tables, COLUMN["device_s"]
    assert tables.request is not None
    for name, longest in (("prefill", 1), ("step", 2)):
        delta = tables.parts[name].delta.copy()
        delta[:, 1:, column] = -tables.parts[name].base[column] // 50
        delta[:, longest, column] *= -1
        tables.parts[name] = replace(tables.parts[name], delta=delta)
    tables.phases["prefill"] = tables.parts["prefill"]
    tables.request = replace(tables.request, first=tables.parts["step"])
    found = extremes(tables, [SiteProblem.of(tables)], question.objectives[0])
    listed = np.asarray(question.objectives[0].values(ListedConfigurations(tables, space).batch))
    assert found.exact == ("min", "max", "mean")
    assert (found.minimum, found.maximum) == pytest.approx((listed.min(), listed.max()), rel=1e-9)
    assert found.mean == pytest.approx(listed.mean(), rel=1e-9)


def test_extremes_hold_what_is_reported(tmp_path: Path) -> None:
    """A space of 10^14 configurations: the best found is the minimum, where a sample does not come near it."""
    model = small_model(tmp_path)
    space = design_space(model, "per-site", ranks=[4, 16, 60, 100, 128])
    question = question_of(space, [Workload.decode(200, runtime=Runtime.GRAPH)], ["latency_s", "params"], top=1)
    found = answer_by_sites(question)
    spread = found.distribution["latency_s"]
    assert spread is not None
    assert spread.minimum == pytest.approx(found.top[0].objectives["latency_s"], rel=1e-12)
    assert spread.minimum < spread.edges[0]
    assert "min, max and mean exact" in found.guarantee


def test_limits_that_all_or_none_keep_are_counted(tmp_path: Path) -> None:
    """In a space too large to list, a limit beyond the extremes is answered exactly, without a search."""
    space = design_space(small_model(tmp_path), "per-site", ranks=[4, 16, 60])

    def asked(limit: str) -> Answer:
        return answer_by_sites(question_of(space, [Workload.decode(200)], ["latency_s", "params"], [limit], top=1))

    none = asked("saved.params_pct>=99.9")
    assert (none.matching, none.top, none.frontier) == (0, (), ())
    assert none.guarantee.startswith("exact: no configuration keeps saved.params_pct>=99.9")
    every = asked("saved.params_pct>=-300")
    assert every.matching == space.valid_size
    assert every.matching_share is None
    some = asked("saved.params_pct>=30")
    assert some.matching is None
    assert some.matching_share is not None
