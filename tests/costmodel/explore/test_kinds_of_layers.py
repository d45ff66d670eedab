"""Homogeneous spaces over several kinds of layers by sums over kinds, against every configuration priced by itself."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exploring import independent_costs, quality_data, question_of, with_live_peaks
from family_configs import small

from costmodel.decomposition.factors import Site
from costmodel.decomposition.sites import site_columns
from costmodel.errors import InputError
from costmodel.explore.answer import Answer, Question
from costmodel.explore.by_class.answer import answer_by_classes
from costmodel.explore.by_class.listing import ListedConfigurations
from costmodel.explore.by_kind import answer as by_kind
from costmodel.explore.by_kind import labels
from costmodel.explore.by_kind.answer import answer_by_kinds
from costmodel.explore.distribution import Distribution
from costmodel.explore.explore import answer
from costmodel.explore.pareto import nondominated
from costmodel.families.registry import spec_from_config
from costmodel.forward.workload import Runtime, Workload
from costmodel.space.base import DesignSpace
from costmodel.space.make import design_space

HYBRIDS = ["nemotron_h", "gemma4_text", "nemotron-nas", "lfm2_moe", "qwen3_next"]


def space_of(model_type: str, ranks: list[int]) -> DesignSpace:
    """A space over every other name of a hybrid."""
    changes: dict[str, Any] = {"num_hidden_layers": 4} if model_type == "qwen3_next" else {}
    model = spec_from_config(small(model_type, **changes), name=model_type, source="test")
    names = model.groups["all"][:: 1 if model_type.startswith("nemotron") else 2]
    return design_space(
        model, "homogeneous", ranks=ranks, keep=[Site(*site) for site in site_columns(model) if site[1] not in names]
    )


def listed(question: Question) -> Answer:
    return answer_by_classes(question, ListedConfigurations(question.tables, question.space))


def points(found: Answer) -> list[tuple[float, ...]]:
    return sorted(tuple(each.objectives.values()) for each in found.frontier)


def agrees(question: Question) -> Answer:
    """The answer by kinds, held against the literal one wherever it says that it is exact."""
    found, literal = answer_by_kinds(question), listed(question)
    assert found.guarantee.startswith("exact")
    assert found.frontier_gap == found.top_gap == 0.0
    assert points(found) == points(literal)
    assert [each.objectives for each in found.top[:1]] == [each.objectives for each in literal.top[:1]]
    assert len(found.top) <= question.top
    if found.matching is not None:
        assert found.matching == literal.matching
    else:
        assert found.matching_share is not None
        share = literal.matching / question.space.valid_size  # type: ignore[operator]
        assert found.matching_share["low"] <= share <= found.matching_share["high"]
    for name, spread in found.distribution.items():
        true = literal.distribution[name]
        assert isinstance(spread, Distribution)
        assert isinstance(true, Distribution)
        for end, attribute in (("min", "minimum"), ("max", "maximum"), ("mean", "mean")):
            if end in spread.exact:
                assert getattr(spread, attribute) == pytest.approx(getattr(true, attribute), rel=1e-9, abs=1e-12)
        assert true.minimum <= spread.minimum
        assert spread.maximum <= true.maximum
        for quantile, (low, high) in (spread.quantile_bounds or {}).items():
            assert low <= true.quantiles[quantile] <= high
    some = [*found.top[:3], *found.frontier[::5]][:20]
    for name, table in question.tables.phases.items():
        if some and f"{name}.latency_s" in some[0].objectives:
            seconds = independent_costs(table.pricer, question.space, [each.number for each in some]).latency_s
            assert [each.objectives[f"{name}.latency_s"] for each in some] == pytest.approx(seconds.tolist(), rel=1e-11)
    return found


@pytest.mark.parametrize("model_type", HYBRIDS)
@pytest.mark.parametrize(
    ("objectives", "limits", "quality"),
    [
        (["decode.latency_s", "decode.peak_memory_bytes", "params"], [], None),
        (["decode.latency_s", "quality"], ["decode.saved.weight_bytes_pct>=5"], "prior"),
        (["prefill.latency_s", "decode.energy_j", "decode.hbm_bytes"], ["quality<=2"], "prior"),
        (["saved.params_pct", "prefill.tokens_per_s"], ["decode.latency_s<=1s"], "standin:params"),
    ],
)
def test_hybrids_answer_as_a_literal_enumeration(
    model_type: str, objectives: list[str], limits: list[str], quality: str | None
) -> None:
    for seed, runtime in enumerate(Runtime):
        space = space_of(model_type, [[2, 5], [3]][seed])
        works = [Workload.prefill(40, batch=2, runtime=runtime), Workload.decode(50, runtime=runtime)]
        found = agrees(question_of(space, works, objectives, limits, quality=quality))
        assert found.frontier


@pytest.mark.parametrize("by_layer", [False, True])
@pytest.mark.parametrize("model_type", ["gemma4_text", "nemotron_h"])
def test_peaks_that_choices_raise_differ_by_kind(model_type: str, by_layer: bool) -> None:
    space = space_of(model_type, [2, 5])
    question = question_of(space, [Workload.decode(50)], ["decode.peak_memory_bytes", "decode.latency_s", "flops"])
    agrees(with_live_peaks(question, 3, by_layer))


def test_requests_take_the_steps_of_both_phases() -> None:
    space = space_of("nemotron-nas", [2, 5])
    works = [Workload.prefill(40), Workload.decode(50)]
    agrees(question_of(space, works, ["request.latency_s", "params"], ["request.tpot_s<=1s"], new_tokens=9))


def test_ranks_beyond_a_kind_s_shape_leave_its_layers_dense() -> None:
    space = space_of("nemotron_h", [3, 13])
    assert space.excluded
    agrees(question_of(space, [Workload.decode(50)], ["decode.latency_s", "params"]))


def test_limits_that_nothing_or_everything_keeps_are_settled() -> None:
    space = space_of("lfm2_moe", [2, 5])
    none = answer_by_kinds(question_of(space, [Workload.decode(50)], ["params"], ["saved.params_pct>=99.9"]))
    assert (none.matching, none.top, none.frontier) == (0, (), ())
    every = agrees(question_of(space, [Workload.decode(50)], ["params"], ["decode.latency_s<=1e3"]))
    assert every.matching == space.valid_size


@pytest.mark.parametrize("model_type", HYBRIDS)
def test_what_a_grid_loses_is_within_the_gap(model_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "_FEWEST", 40)
    monkeypatch.setattr(labels, "_MOST_PAIRS", 40)
    monkeypatch.setattr(labels, "_MOST", 8)
    gaps = []
    for limits in ([], ["decode.saved.weight_bytes_pct>=20"]):
        space = space_of(model_type, [1, 2, 3, 5])
        work = Workload.decode(50, runtime=Runtime.GRAPH)
        question = question_of(space, [work], ["decode.latency_s", "quality"], limits, quality="prior")
        found, literal = answer_by_kinds(question), listed(question)
        gaps.append(found.frontier_gap)
        assert found.top[0].objectives["decode.latency_s"] - found.top_gap <= literal.top[0].objectives[
            "decode.latency_s"
        ] * (1 + 1e-12)
        if limits:
            continue
        shown = np.array(points(found))
        assert shown[:, 0].min() - found.frontier_gap <= points(literal)[0][0]
    assert max(gaps) > 0
    assert not found.guarantee.startswith("exact")


def test_a_space_too_large_for_classes_is_answered_this_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from costmodel.explore.by_class import listing, mixed

    question = question_of(space_of("gemma4_text", [2, 5]), [Workload.decode(50)], ["decode.latency_s", "params"])
    expected = answer(question)
    monkeypatch.setattr(mixed, "MAX_CLASSES", 10)
    monkeypatch.setattr(listing, "MAX_LISTED", 10)
    found = answer(question)
    assert found.distinct_costs is None
    assert points(found) == points(expected)


def test_what_cannot_be_summed_is_refused_with_what_to_ask_for() -> None:
    space = space_of("gemma4_text", [2, 5])
    with pytest.raises(InputError, match="give fewer --ranks"):
        answer_by_kinds(question_of(space, [Workload.decode(50)], ["decode.arithmetic_intensity"]))
    with pytest.raises(InputError, match="worse side"):
        answer_by_kinds(question_of(space, [Workload.decode(50)], ["params"], ["decode.latency_s>=1e-9"]))


def test_samples_are_uniform() -> None:
    space = space_of("nemotron-nas", [2, 5])
    count = 20 * space.valid_size
    numbers = space.sample(count, seed=1)
    tally = np.bincount(numbers, minlength=space.size)
    possible = {space.nth_valid(position) for position in range(space.valid_size)}
    assert set(np.flatnonzero(tally).tolist()) <= possible
    chi = sum((int(tally[number]) - 20) ** 2 / 20 for number in possible)
    freedom = space.valid_size - 1
    assert abs(chi - freedom) < 5 * (2 * freedom) ** 0.5


def test_labels_are_those_of_all_configurations_or_within_their_slack(monkeypatch: pytest.MonkeyPatch) -> None:
    rng, lost = np.random.default_rng(0), 0
    for trial in range(40):
        kinds, candidates, names = rng.integers(1, 4), int(rng.integers(1, 3)), int(rng.integers(1, 5))
        has = rng.random((kinds, names)) < 0.7
        has[:, 0] = True
        parts = labels.Parts(
            added=rng.integers(-4, 4, (kinds, candidates, names, 2)) * has[:, None, :, None].astype(np.float64),
            raised=rng.integers(0, 3, (kinds, candidates, names, trial % 2)) * has[:, None, :, None].astype(np.float64),
            barred=(rng.random((kinds, candidates, names)) < 0.2) & has[:, None],
            has=has,
            sizes=rng.integers(1, 4, kinds).tolist(),
        )
        rows = {(0.0,) * (2 + trial % 2)}
        for rank in range(candidates):
            for mask in range(1 << names):
                chosen = mask >> np.arange(names) & 1 > 0
                for numbers in np.ndindex(*(1 + size for size in parts.sizes)):
                    some = np.array(numbers) > 0
                    if (parts.barred[some, rank] & chosen).any():
                        continue
                    sums = np.array(numbers) @ (parts.added[:, rank] * chosen[:, None]).sum(axis=1)
                    tops = (parts.raised[some, rank] * chosen[:, None]).max(axis=(0, 1), initial=0)
                    rows.add((*sums.tolist(), *tops.tolist()))
        every = np.array(sorted(rows))
        found = labels.labels(parts)
        assert not found.slack.any()
        mine = np.concatenate([found.sums, found.highest], axis=1)
        assert (np.unique(mine, axis=0) == every[nondominated(every)]).all()
        monkeypatch.setattr(labels, "_MOST", 2)
        few = labels.labels(parts, pairs=4)
        lost += bool(few.slack.any())
        for row in every:
            near = (few.sums <= row[:2] + few.slack).all(axis=1) & (few.highest <= row[2:]).all(axis=1)
            assert near.any()
        monkeypatch.undo()
    assert lost > 5


def test_three_columns_are_compared_as_any_other_number_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    from costmodel.explore import pareto

    rng = random.Random(0)
    for trial in range(200):
        monkeypatch.setattr(pareto, "_BLOCK", 3 if trial % 2 else 512)
        rows = np.array([[rng.randrange(5) for _ in range(3)] for _ in range(rng.randrange(1, 40))], dtype=np.float64)
        four = np.concatenate([rows, np.zeros((len(rows), 1))], axis=1)
        assert nondominated(rows).tolist() == nondominated(four).tolist()


def test_quality_that_cannot_be_summed_by_kind_says_what_to_ask_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = space_of("gemma4_text", [2, 5])
    for states, kinds, text in ((3, 12, "interacts"), (1, 2, "differs from layer to layer")):
        monkeypatch.setattr(by_kind, "MAX_KINDS", kinds)
        path = tmp_path / f"{states}.json"
        path.write_text(json.dumps(quality_data(space, seed=0, states=states)))
        question = question_of(space, [Workload.decode(50)], ["decode.latency_s", "quality"], quality=str(path))
        with pytest.raises(InputError, match=text) as refused:
            answer_by_kinds(question)
        assert "per-site" in str(refused.value)
    model = space.model
    sites = design_space(model, "per-site", ranks=[2, 5])
    path.write_text(json.dumps(quality_data(sites, seed=0)))
    assert answer(question_of(sites, [Workload.decode(50)], ["decode.latency_s", "quality"], quality=str(path))).top
