"""Configurations that others make up, families that are held out together, and halves to measure next."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("safetensors")

from predicting import made_record, made_records, made_sensitivity, write_records

from costmodel.decomposition.factors import Decomposition, LowRank, Site, Tucker
from validate.predictor.crossval import random_folds
from validate.predictor.evidence import Evidence, read_evidence
from validate.predictor.parts import Cover, _spread, families, find_covers, halves_of, linked, parts_content
from validate.predictor.score import compress
from validate.quality.case import QualityCase

FOUND = made_sensitivity(gradients=False)
Q, K, UP = Site(0, "q_proj"), Site(0, "k_proj"), Site(4, "up_proj")


def evidence_from(folder: Path, configs: Sequence[Decomposition], changes: Sequence[float]) -> Evidence:
    """Of sampled configurations without dropped layers, and at the end of those that are given."""
    records = [record for record in made_records(FOUND, 60) if not record.config["drop"]]
    records += [
        made_record(QualityCase(decomposition=config), FOUND.spec, change, place)
        for place, (config, change) in enumerate(zip(configs, changes, strict=True), start=200)
    ]
    return read_evidence([write_records(folder, records)], FOUND)


def joined(first: Decomposition, second: Decomposition) -> Decomposition:
    assert not first.factors.keys() & second.factors.keys()
    assert not first.dropped & second.dropped
    return Decomposition({**first.factors, **second.factors}, first.dropped | second.dropped)


def test_halves_make_up_the_whole_by_layers_and_by_tensors() -> None:
    whole = Decomposition({Q: LowRank(3), K: LowRank(4), UP: Tucker(5, 5)}, frozenset({2, 5}))
    by_layers, by_tensors = halves_of(whole, FOUND.spec)
    assert by_layers == (
        Decomposition({Q: LowRank(3), K: LowRank(4), UP: Tucker(5, 5)}),
        Decomposition(dropped=frozenset({2, 5})),
    )
    assert by_tensors == (
        Decomposition({Q: LowRank(3)}, frozenset({2, 5})),
        Decomposition({K: LowRank(4), UP: Tucker(5, 5)}),
    )
    assert all(joined(*pair) == whole for pair in (by_layers, by_tensors))


def test_what_has_one_layer_is_halved_by_its_tensors_and_one_site_not_at_all() -> None:
    assert halves_of(Decomposition({Q: LowRank(3), K: LowRank(4)}), FOUND.spec) == [
        (Decomposition({Q: LowRank(3)}), Decomposition({K: LowRank(4)}))
    ]
    assert halves_of(Decomposition({K: LowRank(4)}), FOUND.spec) == []
    assert halves_of(Decomposition(dropped=frozenset({1})), FOUND.spec) == []
    assert halves_of(Decomposition(dropped=frozenset({1, 3, 4})), FOUND.spec) == [
        (Decomposition(dropped=frozenset({1, 4})), Decomposition(dropped=frozenset({3})))
    ]


def test_a_whole_is_made_up_of_the_smallest_parts_that_were_measured(tmp_path: Path) -> None:
    """With the same factors: another rank of the same site is no part."""
    ones = [Decomposition({Q: LowRank(3)}), Decomposition({K: LowRank(4)}), Decomposition({UP: LowRank(6)})]
    pair = joined(ones[0], ones[1])
    whole, other = joined(pair, ones[2]), Decomposition({Q: LowRank(3), UP: LowRank(7)})
    evidence = evidence_from(tmp_path, [*ones, pair, whole, other], [0.1, 0.2, 0.1, 0.4, 0.5, 0.2])
    first = len(evidence.points) - 6
    covers = [cover for cover in find_covers(evidence) if cover.whole >= first]
    assert covers == [
        Cover(whole=first + 3, parts=(first, first + 1)),
        Cover(whole=first + 4, parts=(first, first + 1, first + 2)),
    ]


def test_covers_that_share_a_configuration_are_linked() -> None:
    covers = [Cover(whole=9, parts=(0, 1)), Cover(whole=8, parts=(2, 3)), Cover(whole=7, parts=(3, 9))]
    assert linked(covers).tolist() == [0, 0, 0]
    assert linked(covers[:2]).tolist() == [0, 1]
    assert linked([*covers[:2], Cover(whole=7, parts=(3, 4))]).tolist() == [0, 1, 1]
    assert linked([]).tolist() == []


def test_a_whole_is_held_out_with_its_parts_and_with_its_halves(tmp_path: Path) -> None:
    """A single dropped layer is in no family; nor is a half whose other half was not measured."""
    whole = Decomposition({Q: LowRank(3), UP: LowRank(6)}, frozenset({2, 5}))
    halves = halves_of(whole, FOUND.spec)[0]
    lone = Decomposition({K: LowRank(9), UP: LowRank(9)})
    dropped = Decomposition(dropped=frozenset({3}))
    configs = [whole, *halves, lone, halves_of(lone, FOUND.spec)[0][0], dropped]
    evidence = evidence_from(tmp_path, configs, [0.3, 0.1, 0.1, 0.2, 0.1, 0.1])
    first = len(evidence.points) - len(configs)
    family = families(evidence, []) - first
    assert family[first:].tolist() == [0, 0, 0, 3, 4, 5]
    covers = [Cover(whole=first + 3, parts=(first, first + 5))]
    assert (families(evidence, covers) - first)[first:].tolist() == [0, 0, 0, 0, 4, 5]


def test_folds_hold_as_many_points_as_families_allow() -> None:
    family = np.concatenate([np.zeros(12, dtype=int), np.ones(7, dtype=int), np.arange(2, 83)])
    folds = random_folds(family, 10, 0)
    sizes = np.bincount(folds)
    assert (sorted(sizes)[-1], min(sizes), len(sizes)) == (12, 9, 10)
    assert len(set(folds[:12].tolist())) == len(set(folds[12:19].tolist())) == 1
    assert len(set(random_folds(np.arange(103), 10, 1)[:20].tolist())) > 5  # in random order


@pytest.fixture(scope="module")
def halved(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    """Sampled configurations, and at the end what is not halved: a site, a layer, one without damage, one at its
    ceiling."""
    ends = [
        Decomposition({Q: LowRank(3)}),
        Decomposition(dropped=frozenset({2})),
        Decomposition({Q: LowRank(3), K: LowRank(4)}),
        Decomposition({Q: LowRank(3), UP: LowRank(4)}),
    ]
    return evidence_from(tmp_path_factory.mktemp("halved"), ends, [0.1, 0.2, 0.0, 3.0])


def worth_halving(evidence: Evidence) -> list[int]:
    """Those of two sites or layers and more, and of a change from 0 to 3 nats."""
    configs = [record.decomposition(evidence.spec) for record in evidence.points.records]
    several = [len(config.factors) + len(config.dropped) > 1 for config in configs]
    return np.flatnonzero(several & (evidence.points.change > 0) & (evidence.points.change < 3)).tolist()


def test_the_wholes_to_halve_are_spread_over_the_damage_each_once(halved: Evidence) -> None:
    every = worth_halving(halved)
    assert len(every) < len(halved.points) - 3
    assert sorted(_spread(halved.points, len(every))) == every  # each of them, none twice
    assert sorted(_spread(halved.points, 1000)) == every
    values = compress(halved.points.change[every])
    few = compress(halved.points.change[list(_spread(halved.points, 3))])
    middle = (values.min() + values.max()) / 2
    assert few.tolist() == [values.min(), values[np.abs(values - middle).argmin()], values.max()]
    none = halved.points.subset(np.arange(len(halved.points) - 4, len(halved.points)))
    assert list(_spread(none, 5)) == []


def test_of_wholes_that_changed_alike_the_same_are_taken_each_time(halved: Evidence) -> None:
    alike = replace(halved.points, change=np.full_like(halved.points.change, 0.5))
    every = len(list(_spread(alike, 1000)))
    first, *others = (list(_spread(alike, every)) for _ in range(3))
    assert every > 4
    assert others == [first, first]
    assert len(set(first)) == every


def test_the_halves_to_measure_are_of_configurations_that_were_measured(halved: Evidence) -> None:
    """By layers and by tensors in turn; what several wholes share is measured once."""
    content: list[dict[str, Any]] = json.loads(parts_content(halved, 12))
    wholes = [halved.points.records[place].decomposition(halved.spec) for place in _spread(halved.points, 12)]
    expected: list[dict[str, Any]] = []
    for turn, whole in enumerate(wholes):
        ways = halves_of(whole, halved.spec)
        expected += [half.to_json() for half in ways[turn % len(ways)] if half.to_json() not in expected]
    assert content == expected
    assert len(content) > 18
