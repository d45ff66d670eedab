"""What a loop searches: each set of dropped layers that was measured, ranks beside some of them, in one frontier."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("scipy")
pytest.importorskip("safetensors")

from predicting import CONFIG, made_sensitivity

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import Rank
from costmodel.pricing.setup import Setup
from validate.choose.search import DROPPING, SITES, Search
from validate.choose.settings import Settings
from validate.plans.case import params_of
from validate.sensitivity.quality_file import quality_bytes, quality_file

CHEAP, DEAR, BESIDE = frozenset([1]), frozenset([4]), frozenset([2, 3])
LOSSES = {CHEAP: 0.02, DEAR: 50.0, BESIDE: 0.1}
RANKS = (Rank(number=4), Rank(number=8))


@pytest.fixture(scope="module", name="setup")
def _setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return Settings(
        model=str(folder), text="t", calibration_text="c", hw="epyc-9654", phase="decode", seq_len=16
    ).setup()


@pytest.fixture(scope="module", name="quality")
def _quality(tmp_path_factory: pytest.TempPathFactory, setup: Setup) -> Path:
    content = quality_file(made_sensitivity(), ranks=RANKS)
    path = tmp_path_factory.mktemp("quality") / "quality.json"
    path.write_bytes(quality_bytes({**content, "model": setup.model.name}))
    return path


@pytest.fixture(scope="module", name="search")
def _search(setup: Setup, quality: Path) -> Search:
    return Search(setup, RANKS, quality, LOSSES, beside={BESIDE})


def test_a_measured_set_of_layers_stands_for_itself(search: Search, setup: Setup) -> None:
    """At its own cost nothing is predicted to lose more; what loses too much is on no frontier."""
    for layers in (CHEAP, BESIDE):
        config = Decomposition(dropped=layers)
        assert search.quality(config) == pytest.approx(LOSSES[layers])
        best = search.best_within("params", float(params_of(setup.model, config)))
        assert best is not None
        assert best.nats <= LOSSES[layers]
    union = [each for each in search.frontiers if each.space == DROPPING]
    assert {each.objective for each in union} == {"decode.latency_s", "params"}
    for frontier in union:
        alone = [each for each in frontier.points if each.dropped == CHEAP]
        assert [each.config for each in alone] == [Decomposition(dropped=CHEAP)]  # nothing is searched beside it
        assert alone[0].nats == LOSSES[CHEAP]
        assert not [each for each in frontier.points if each.dropped == DEAR]
        if frontier.objective == "params":  # at so small sizes two factors take longer than one weight
            assert frontier.points[0].dropped == BESIDE
            assert frontier.points[0].config.factors
            ranks = search.quality(Decomposition(frontier.points[0].config.factors))
            assert ranks is not None
            assert frontier.points[0].nats == pytest.approx(ranks + LOSSES[BESIDE])
            assert search.quality(frontier.points[0].config) == pytest.approx(ranks + LOSSES[BESIDE])


def test_points_are_of_everything_that_was_searched(search: Search, setup: Setup, quality: Path) -> None:
    """None is equalled or beaten by another frontier, so that a space that holds another hides what is worse in it."""
    points = search.spread(60)
    assert {point.rule for point in points} == {SITES, DROPPING}
    for point in points:
        objective = point.label.rpartition(" ")[0]
        cost = float(point.params) if objective == "params" else point.costs["decode"]
        assert point.quality is not None
        for frontier in search.frontiers:
            if frontier.objective == objective:
                best = frontier.best_within(cost * (1 - 1e-9))
                assert best is None or best.nats >= point.quality * (1 - 1e-9)
    without = Search(setup, RANKS, quality, {})
    assert {point.rule for point in without.spread(12)} == {SITES}
    assert not [each for each in without.frontiers if each.space == DROPPING]
