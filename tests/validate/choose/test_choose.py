"""The parts of the loop that need no model: halves, stages, dropping, frontiers, links, duels and what is concluded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import numpy as np
import pytest
from validating import LLAMA, timing, tiny_spec

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import Rank
from costmodel.errors import CostModelError, InputError
from costmodel.space.make import design_space
from validate.choose.baselines import RULES, baselines
from validate.choose.dropping import search_dropping
from validate.choose.duels import SIZE, Standing, duels, own_axis, predicted, tallies
from validate.choose.fitted import load_fitted
from validate.choose.frontier import Candidate, Frontier, undominated
from validate.choose.optimism import optimism
from validate.choose.page_words import choice_latency, point_text
from validate.choose.points import Plan, Point, distinct
from validate.choose.refit import Moved
from validate.choose.report import _lines
from validate.choose.results import Fitted, Result, Results, Round
from validate.choose.stages import Stages, read_stages
from validate.choose.survival import dominators, survival
from validate.choose.texts import halves
from validate.choose.verdict import Verdict, choice
from validate.predictor.link import Link, load_link
from validate.quality.intervals import change
from validate.quality.records import TextRecord
from validate.store.digests import Source

DENSE = [100.0, 110.0, 90.0, 105.0, 95.0, 100.0]


def test_halves_are_all_of_the_text_and_share_nothing() -> None:
    text = "".join(f"line {number}\n" for number in range(640))
    first, second = halves(text)
    assert sorted((first + second).splitlines()) == sorted(text.splitlines())
    assert abs(len(first) - len(second)) < len(text) / 32
    assert first.startswith("line 0\n")
    assert "line 639" in second
    with pytest.raises(InputError, match="too short"):
        halves("x")


def test_halves_of_a_text_without_lines() -> None:
    text = "".join(chr(97 + number % 26) for number in range(3200))
    first, second = halves(text)
    assert len(first) == len(second) == 1600


def test_a_stage_is_done_once_and_counts_the_time_of_every_try(tmp_path: Path) -> None:
    told: list[str] = []
    calls: list[str] = []

    def fails() -> str:
        calls.append("first")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Stages(tmp_path, told.append).run("one", fails)
    assert not read_stages(tmp_path)["one"].done

    def works() -> str:
        calls.append("again")
        return "a note"

    for _ in range(2):
        Stages(tmp_path, told.append).run("one", works)
    assert calls == ["first", "again"]
    assert read_stages(tmp_path)["one"].done
    assert told[-1].startswith("one: kept, a note")
    (tmp_path / "stages.json").write_text("[]")
    with pytest.raises(CostModelError, match="stages"):
        Stages(tmp_path, told.append)


def test_layers_are_dropped_by_each_rule() -> None:
    weights = [9.0, 1.0, 8.0, 2.0, 3.0, 7.0]  # of six layers
    asked: list[Decomposition] = []

    def losses(configs: Sequence[Decomposition]) -> list[float]:
        asked.extend(configs)
        return [sum(weights[layer] for layer in config.dropped) for config in configs]

    found = {(each.rule, len(each.layers)): each.layers for each in search_dropping(6, losses)}
    assert found["late", 2] == (3, 4)  # the last layer stays
    assert found["block", 1] == (1,)
    assert found["block", 2] == (3, 4)
    assert found["block", 3] == (1, 2, 3)
    assert found["greedy", 3] == (1, 3, 4)
    assert len(found) == 9
    assert all(len(set(config.dropped)) <= 3 for config in asked)
    assert search_dropping(1, losses) == []


def test_what_cannot_lose_least_is_not_measured() -> None:
    layers = 16
    rng = np.random.default_rng(0)
    alone, pairs = rng.uniform(0.1, 2.0, layers), np.triu(rng.uniform(0.0, 0.3, (layers, layers)), 1)
    asked: list[frozenset[int]] = []

    def loss(config: Decomposition) -> float:  # what a layer adds grows with what is gone
        gone = sorted(config.dropped)
        return 3.0 + float(alone[gone].sum() + pairs[np.ix_(gone, gone)].sum())

    def losses(configs: Sequence[Decomposition]) -> list[float]:
        asked.extend(config.dropped for config in configs)
        return [loss(config) for config in configs]

    found = {(each.rule, len(each.layers)): each for each in search_dropping(layers, losses)}
    gone: frozenset[int] = frozenset()
    for count in range(1, 9):
        blocks = [frozenset(range(first, first + count)) for first in range(layers - count + 1)]
        steps = [gone | {layer} for layer in range(layers) if layer not in gone]
        gone = min(steps, key=lambda each: loss(Decomposition(dropped=each)))
        assert found["greedy", count].config.dropped == gone
        assert found["block", count].config.dropped == min(blocks, key=lambda each: loss(Decomposition(dropped=each)))
    assert len(asked) == len(set(asked)) < layers + sum(2 * (layers - count) for count in range(1, 8)) // 2


def test_baselines_are_of_every_rule_and_of_the_same_seed_the_same() -> None:
    spec = tiny_spec(LLAMA)
    space = design_space(spec, "homogeneous", ranks=[Rank.parse("4"), Rank.parse("50%")], form="svd")
    dropped = search_dropping(spec.num_layers, lambda configs: [0.0] * len(configs))
    found = baselines(spec, space, dropped, count=5, seed=3)
    assert {rule for rule, _, _ in found} == set(RULES) - {"recipe"}
    assert found == baselines(spec, space, dropped, count=5, seed=3)
    assert found != baselines(spec, space, dropped, count=5, seed=4)
    paper = [config for rule, _, config in found if rule == "paper"]
    assert all(site.layer > 0 and factor.ranks == (1, 1) for config in paper for site, factor in config.factors.items())
    for _, _, config in found:
        config.check(spec)


def test_the_link_of_a_quality_file(tmp_path: Path) -> None:
    link = Link(ceiling=9.0, bend=1.4)
    assert link(9.0) == pytest.approx(9 * (1 - math.exp(-1)))
    assert link(4.5) == pytest.approx(9 * (1 - math.exp(-(0.5**1.4))))
    assert link(-1.0) == 0
    assert Link()(-0.3) == -0.3
    (tmp_path / "a.json").write_text('{"link": {"ceiling": 9.0, "bend": 1.4}, "entries": []}')
    (tmp_path / "b.json").write_text('{"entries": []}')
    assert load_link(tmp_path / "a.json") == link
    assert load_link(tmp_path / "b.json") == Link()


def test_a_quality_file_says_by_what_it_was_searched(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"predictor": {"form": "output error", "points": 44}}')
    assert load_fitted(tmp_path / "a.json") == ("output error", 44)
    (tmp_path / "b.json").write_text('{"entries": []}')
    for name in ("b.json", "none.json"):
        with pytest.raises(CostModelError, match=r"predictor is missing|cannot read fitted quality file"):
            load_fitted(tmp_path / name)
    fitted = Fitted(form="output error", points=44, sampled=5)
    assert fitted.sentence == (
        "searched by output error, fitted to 44 configurations; 5 random configurations measured beside"
    )
    assert replace(fitted, points=0).sentence.startswith("searched by output error, as it is; ")


def candidate(cost: float, nats: float) -> Candidate:
    class Space:
        @staticmethod
        def config(number: int) -> Decomposition:
            return Decomposition(dropped=frozenset([number]))

    class Found:
        space = Space()

    return Candidate(cost=cost, nats=nats, exploration=Found(), number=1, dropped=frozenset([1]))  # type: ignore[arg-type]


def test_points_of_a_frontier_are_undominated_and_spread() -> None:
    points = undominated(candidate(*pair) for pair in [(3, 1), (1, 9), (2, 5), (2, 6), (3, 5), (4, 1), (5, 0.5)])
    assert [(point.cost, point.nats) for point in points] == [(1, 9), (2, 5), (3, 1), (5, 0.5)]
    frontier = Frontier(
        space="per-site", objective="params", points=points, guarantee="", configurations=1, seconds=0.0
    )
    best = frontier.best_within(4.9)
    assert best is not None
    assert best.nats == 1
    assert frontier.best_within(0.5) is None
    assert [point.cost for point in frontier.spread(1, worst=10)] == [3]
    assert [point.cost for point in frontier.spread(5, worst=2)] == [3, 5]


def text_record(nll: Sequence[float]) -> TextRecord:
    count = len(nll)
    return TextRecord(
        kind="causal",
        source=Source(name="t", sha256="0"),
        length=101,
        tokens=[100] * count,
        nll=list(nll),
        kl=[0.0] * count,
        flips=[0] * count,
        hits=[0] * count,
    )


def result(
    role: Any,
    rule: str,
    params: int,
    ratio: float,
    extra: float,
    quality: float | None = None,
    *,
    noise: float = 0.2,
    width: float = 0.001,
    objective: str = "prefill.latency_s",
    searched: float | None = None,
) -> Result:
    """A point that loses `extra` nats per token, with a little noise by block that differs by its cost.

    On the half that was searched on it loses `searched`, the same where that is None.
    """
    rng = [noise * ((7 * place + params) % 5 - 2) for place in range(len(DENSE))]
    record, other = (
        text_record([base + 100 * each + step for base, step in zip(DENSE, rng, strict=True)])
        for each in (extra, extra if searched is None else searched)
    )
    label = f"{objective} 0" if role == "frontier" else f"{rule} {params}"
    config = {"form": "svd", "ranks": {"layers.0.q_proj": params}, "drop": []} if rule != "dense" else {}
    point = Point(
        role=role, rule=rule, label=label, config=config, params=params, costs={"prefill": 1.0}, quality=quality
    )
    return Result(
        point=point,
        searched=other,
        verified=record,
        timings={"prefill": timing(ratio, width=width)},
        change=change(record.nll, DENSE, record.tokens),
        text=label,
        dense_costs={"prefill": 1.0},
        change_searched=change(other.nll, DENSE, other.tokens),
    )


def results(*points: Result) -> Results:
    dense = result("baseline", "dense", 100, 1.0, 0.0, 0.0, noise=0.0)
    plan = Plan(points=[each.point for each in points], curves=[], dense={"prefill": 1.0}, dense_params=100, metric="")
    fitted = Fitted(form="curvature", points=9, sampled=5)
    return Results(
        plan=plan,
        dense=dense,
        points=points,
        phases=["prefill"],
        fitted=fitted,
        name="tiny",
        model=tiny_spec(LLAMA),
        device="cpu",
        rounds=[Round(predicted=[], measured=[])],
    )


def test_a_duel_is_at_no_greater_cost_and_chosen_by_prediction() -> None:
    good = result("frontier", "per-site", 50, 0.7, 0.10, 0.05)
    lucky = result("match", "per-site", 40, 0.6, 0.02, 0.09)  # measured better than good, predicted worse
    slow = result("frontier", "per-site", 90, 0.95, 0.01, 0.001)
    baseline = result("baseline", "uniform", 60, 0.8, 0.3)
    fast = result("baseline", "late", 30, 0.3, 0.2)
    slower = result("baseline", "random", 120, 1.2, 0.2)
    found = {
        (duel.axis, duel.baseline.point.rule): duel
        for duel in duels(results(good, lucky, slow, baseline, fast, slower))
    }
    duel = found["prefill", "uniform"]
    assert duel.ours is good
    assert duel.outcome == "better"
    assert duel.difference is not None
    assert duel.difference.value == pytest.approx(-0.2, abs=0.01)
    assert found["prefill", "late"].outcome == "none" == found[SIZE, "late"].outcome
    against = found["prefill", "random"].ours
    assert against is not None
    assert against.point.rule == "dense"
    assert found["prefill", "random"].outcome == "dense"
    counted = {(each.axis, each.rule): each for each in tallies(list(found.values()))}
    assert counted["prefill", "uniform"].count("better") == 1
    assert counted["prefill", "late"].mean is None
    assert counted["prefill", "random"].mean is None  # dense won, not what was found
    assert [counted["prefill", "random"].count(name) for name in ("dense", "better", "level")] == [1, 0, 0]


def test_dense_may_be_worse_and_a_baseline_that_was_found_is_no_win() -> None:
    slower = result("baseline", "random", 120, 1.2, -0.2)  # better than dense, and than anything of ours
    late = result("baseline", "late", 50, 0.7, 0.1)
    found_too = replace(late, point=msgspec.structs.replace(late.point, role="match", rule="per-site", quality=0.1))
    found = {(duel.axis, duel.baseline.point.rule): duel for duel in duels(results(found_too, slower, late))}
    assert found["prefill", "late"].outcome == "same" == found[SIZE, "late"].outcome
    assert found["prefill", "random"].outcome == "worse"
    counted = {(each.axis, each.rule): each for each in tallies(list(found.values()))}
    assert (counted["prefill", "late"].count("same"), counted["prefill", "late"].count("level")) == (1, 0)
    assert counted["prefill", "late"].mean is None


def test_costs_within_noise_are_told_apart() -> None:
    ours = result("frontier", "per-site", 50, 0.79, 0.1, 0.05, width=0.02)
    near, far = result("baseline", "block", 62, 0.8, 0.3), result("baseline", "greedy", 61, 0.9, 0.3)
    found = {(duel.axis, duel.baseline.point.rule): duel for duel in duels(results(ours, near, far))}
    assert {key: duel.clear for key, duel in found.items()} == {
        ("prefill", "block"): False,
        ("prefill", "greedy"): True,
        (SIZE, "block"): True,
        (SIZE, "greedy"): True,
    }
    assert {duel.outcome for duel in found.values()} == {"better"}
    verdict = Verdict.of(results(ours, near, far), 0.05)
    assert verdict.counts("prefill")["better"] == 2
    assert verdict.counts("prefill", clear=True)["better"] == 1
    assert [each["clear"]["better"] for each in verdict.to_json()["tallies"] if each["axis"] == "prefill"] == [0, 1]


def test_what_nothing_is_predicted_of_comes_last() -> None:
    assert predicted(result("baseline", "block", 62, 0.8, 0.3)) == float("inf")
    assert predicted(result("frontier", "per-site", 50, 0.79, 0.1, 0.05)) == 0.05


def test_one_line_says_whether_every_baseline_is_met() -> None:
    ours = result("frontier", "per-site", 50, 0.7, 0.1, 0.05)
    met, lost = result("baseline", "block", 62, 0.8, 0.1), result("baseline", "greedy", 61, 0.8, 0.01)
    cheap = result("baseline", "late", 30, 0.3, 0.2)
    standing = Verdict.of(results(ours, met), 0.05).standing
    assert standing.sentence == "at least as good as every baseline: yes (0 worse of 2 duels)"
    verdict = Verdict.of(results(ours, met, lost), 0.05)
    assert verdict.standing.sentence == "at least as good as every baseline: no (2 worse of 4 duels)"
    assert verdict.to_json()["standing"] == {
        "at_least_as_good": False,
        "worse": 2,
        "duels": 4,
        "unmatched": 0,
        "sentence": verdict.standing.sentence,
    }
    standing = Verdict.of(results(ours, met, cheap), 0.05).standing
    assert not standing.good
    assert "(0 worse of 2 duels; 2 more without an opponent" in standing.sentence


def test_worse_and_level_duels() -> None:
    ours = result("frontier", "per-site", 50, 0.7, 0.3, 0.05)
    clear, close = (result("baseline", "greedy", 61, 0.8, 0.1), result("baseline", "block", 62, 0.81, 0.3))
    outcomes = {
        duel.baseline.point.rule: duel.outcome for duel in duels(results(ours, clear, close)) if duel.axis == "prefill"
    }
    assert outcomes == {"greedy": "worse", "block": "level"}


def test_what_survives_measurement() -> None:
    kept = result("frontier", "per-site", 50, 0.7, 0.05, 0.05)
    beaten = result("frontier", "per-site", 60, 0.8, 0.30, 0.02)
    barely = result("frontier", "per-site", 53, 0.75, 0.0501, 0.03)  # level in loss with `kept`, and slower
    found = results(kept, beaten, barely, result("baseline", "greedy", 61, 0.79, 0.10))
    assert survival(found).points == 3
    assert survival(found).survived == 2
    assert survival(found).clear == 2
    assert survival(found).plain == 1
    assert survival(found).baselines == 2
    assert survival(found).share(2) == "2 of 3 (67 %)"
    assert kept in dominators(beaten, found.points, "prefill", "both")
    noisy = result("frontier", "per-site", 70, 0.72, 0.30, 0.02, width=0.2)  # its interval reaches below that of kept
    assert not dominators(noisy, [kept], "prefill", "both")
    assert dominators(noisy, [kept], "prefill", "loss") == [kept]  # a duel with it would be lost
    both = survival(results(kept, noisy))
    assert (both.survived, both.clear) == (1, 2)
    assert survival(results(noisy, result("baseline", "greedy", 61, 0.71, 0.10))).baselines == 0


def test_optimism_is_measured_minus_predicted_and_corrected_by_the_other_points() -> None:
    points = [
        result("frontier", "per-site", 50 + place, 0.7, 2 * guess, guess, noise=0.0)
        for place, guess in enumerate((0.05, 0.1, 0.2))
    ]
    found = optimism(results(*points))
    assert found is not None
    assert found.points == 3
    assert found.verify.value == pytest.approx(0.35 / 3)
    assert found.factor.value == pytest.approx(2.0)
    assert found.error == pytest.approx(0.35 / 3)
    assert found.corrected == pytest.approx(0.0, abs=1e-9)
    assert found.left.value == pytest.approx(0.0, abs=1e-9)
    assert optimism(results(result("baseline", "late", 50, 0.7, 0.1))) is None


def test_what_is_left_of_optimism_is_judged_on_the_other_half() -> None:
    """By hand: twice the prediction on the half searched on, three times on the other."""
    points = [
        result("frontier", "per-site", 50 + place, 0.7, 3 * guess, guess, noise=0.0, searched=2 * guess)
        for place, guess in enumerate((0.1, 0.3))
    ]
    found = optimism(results(*points))
    assert found is not None
    assert found.left.value == pytest.approx((0.1 + 0.3) / 2)
    assert found.search.value == pytest.approx((0.1 + 0.3) / 2)
    assert found.verify.value == pytest.approx((0.2 + 0.6) / 2)


def test_each_point_is_corrected_by_the_others_alone() -> None:
    """By hand: 0.3 measured where 0.1 was predicted, 0.2 where 0.2 was; the factors of the others are 1 and 3."""
    points = [result("frontier", "per-site", 50, 0.7, 0.3, 0.1, noise=0.0),
              result("frontier", "per-site", 60, 0.8, 0.2, 0.2, noise=0.0)]  # fmt: skip
    found = optimism(results(*points))
    assert found is not None
    assert found.factor.value == pytest.approx(0.5 / 0.3)
    assert found.error == pytest.approx((0.2 + 0.0) / 2)
    assert found.corrected == pytest.approx((abs(0.3 - 1 * 0.1) + abs(0.2 - 3 * 0.2)) / 2)
    alone = optimism(results(points[0]))
    assert alone is not None
    assert (alone.factor.value, alone.corrected) == (1.0, alone.error)


def test_points_whose_loss_the_search_was_told_say_nothing_of_its_optimism() -> None:
    believed = result("frontier", "per-site", 50, 0.7, 0.3, 0.1)
    told = result("frontier", "per-site, dropping", 60, 0.6, 0.2, 0.2)
    beside = replace(told, point=msgspec.structs.replace(told.point, config={**told.point.config, "drop": [1]}))
    told = replace(told, point=msgspec.structs.replace(told.point, config={"form": "svd", "ranks": {}, "drop": [1]}))
    both = optimism(results(believed, beside, told))
    assert both is not None
    assert (both.points, both.left_out) == (2, 1)  # ranks beside dropped layers are predicted
    found = optimism(results(believed, told))
    assert found is not None
    assert (found.points, found.left_out) == (1, 1)
    assert found.verify.value == pytest.approx(0.2, abs=0.01)
    assert optimism(results(told)) is None


def test_the_choice_is_the_fastest_that_is_acceptable_with_its_interval() -> None:
    fine = result("frontier", "per-site", 50, 0.8, 0.03, 0.01)
    faster = result("match", "per-site", 60, 0.7, 0.0495, 0.02, noise=2.0)  # its interval reaches beyond
    slow = result("baseline", "greedy", 40, 1.1, 0.0)
    found = results(fine, faster, slow)
    assert choice(found, 0.05) is fine
    assert choice(found, 0.5) is faster
    assert choice(found, 0.001) is None
    verdict = Verdict.of(found, 0.05)
    assert verdict.to_json()["choice"] == fine.point.config
    assert verdict.counts("prefill")["dense"] == 1
    assert _lines(Path("loop"), verdict, None)[-1].endswith("loop/choice.json")
    said = _lines(Path("loop"), Verdict.of(found, 0.001), None)[-1]
    assert said == "choice: the dense model; nothing faster within 0.001 nats, so nothing to apply"


def test_the_choice_is_judged_by_a_timing_that_it_was_not_chosen_by() -> None:
    lucky = result("frontier", "per-site", 50, 0.7, 0.01, 0.01)
    found = results(lucky, result("baseline", "greedy", 40, 0.9, 0.01))
    once = Verdict.of(found, 0.05)
    assert once.choice is lucky
    assert once.choice_timing("prefill") == (lucky.timings["prefill"], False)
    assert "0.700 [0.699, 0.701] of dense in prefill latency (selected as the least" in choice_latency(once)
    twice = replace(once, results=replace(found, again={lucky.point.key: {"prefill": timing(0.99, width=0.02)}}))
    assert "0.990 [0.970, 1.010] of dense in prefill latency, not clearly less (timed again)" in choice_latency(twice)
    assert twice.to_json()["choice_latency"]["prefill"] == pytest.approx(
        {"ratio": 0.99, "low": 0.9702, "high": 1.0098, "again": True}
    )
    assert lucky.timings["prefill"].ratio == 0.7  # duels stay with the timings of all


def test_what_is_chosen_on_one_half_is_judged_on_the_other() -> None:
    lucky = result("frontier", "per-site", 50, 0.7, 0.30, 0.03, searched=0.02)
    unlucky = result("frontier", "per-site", 60, 0.6, 0.01, 0.04, searched=0.40)
    baseline = result("baseline", "greedy", 61, 0.75, 0.10, searched=0.35)
    found = results(lucky, unlucky, baseline)
    verdict = Verdict.of(found, 0.05)
    assert verdict.choice is lucky  # by the half that was searched on
    changed = verdict.to_json()["choice_nll_change"]["value"]
    assert changed == pytest.approx(0.30, abs=0.01)
    assert "+0.3" in _lines(Path("loop"), verdict, None)[-1]

    duel = next(each for each in verdict.duels if each.axis == "prefill")
    assert duel.ours is lucky  # by prediction
    assert duel.outcome == "worse"
    assert duel.difference is not None
    assert duel.difference.value == pytest.approx(0.20, abs=0.01)
    tally = next(each for each in verdict.tallies if each.axis == "prefill")
    assert tally.mean is not None
    assert tally.mean.value == pytest.approx(0.20, abs=0.01)

    # on the other half `unlucky` is faster and better than `lucky`, and nothing beats it
    assert (verdict.survival.survived, verdict.survival.plain, verdict.survival.clear) == (1, 1, 1)
    assert verdict.survival.baselines == 2
    assert dominators(lucky, found.points, "prefill", "loss") == [unlucky]
    assert verdict.optimism is not None
    assert verdict.optimism.search.value == pytest.approx((0.02 + 0.40 - 0.07) / 2, abs=0.01)
    assert verdict.optimism.verify.value == pytest.approx((0.30 + 0.01 - 0.07) / 2, abs=0.01)
    assert verdict.optimism.factor.value == pytest.approx(0.31 / 0.07, rel=0.1)


def test_a_baseline_stands_under_every_rule_that_gives_it(tmp_path: Path) -> None:
    one, other = (result("baseline", rule, 50, 0.7, 0.1).point for rule in ("late", "block"))
    twice = result("match", "per-site", 50, 0.7, 0.1).point
    assert len(distinct([one, other, one, twice, twice])) == 3
    plan = Plan(points=[one, other, twice], curves=[], dense={"prefill": 1.0}, dense_params=100, metric="m")
    plan.write(tmp_path)
    assert Plan.read(tmp_path) == plan
    assert (tmp_path / "configs.json").read_text().count("layers.0.q_proj") == 1
    (tmp_path / "plan.json").write_text('{"points": 1}')
    with pytest.raises(CostModelError, match="not a plan"):
        Plan.read(tmp_path)
    with pytest.raises(CostModelError, match="cannot read plan"):
        Plan.read(tmp_path, "round1.json")


@pytest.mark.parametrize(
    ("role", "rule", "label", "words"),
    [
        (
            "match",
            "per-site",
            "prefill.latency_s of uniform, 50% of break-even",
            "at the prefill latency of a baseline",
        ),
        ("match", "per-site", "params of late, layers 5, 6", "(late layers dropped, layers 5, 6)"),
        ("frontier", "per-site", "params 3", "found on the predicted frontier of size, per-site"),
        ("baseline", "greedy", "layers 2, 4", "layers dropped greedily, layers 2, 4"),
    ],
)
def test_the_choice_is_named_in_words(role: Any, rule: str, label: str, words: str) -> None:
    point = Point(role=role, rule=rule, label=label, config={}, params=1, costs={"prefill": 1.0})
    assert words in point_text(point)
    assert "_s" not in point_text(point)
    assert "params" not in point_text(point)


def test_the_cost_that_a_point_was_searched_by_names_its_axis() -> None:
    for label, axis in (("params 3", SIZE), ("decode.saved.latency_pct 2", "decode")):
        result: Any = SimpleNamespace(point=SimpleNamespace(label=label))
        assert own_axis(result) == axis


def test_a_standing_keeps_its_counts_by_name() -> None:
    found = Standing(worse=1, duels=3, unmatched=0).to_json()
    assert [found[name] for name in ("worse", "duels", "unmatched")] == [1, 3, 0]


def test_a_refit_without_a_point_says_so() -> None:
    moved = Moved(shifts=[], curves=[])
    assert "no point" in moved.sentence
    assert not moved.moved
