"""Pairs of names and ranks counted and numbered in closed form, against lists of them."""

from __future__ import annotations

import random

import numpy as np

from costmodel.space.pairs import NameSets, Pairs


def random_sets(rng: random.Random, bits: int) -> tuple[NameSets, list[int]]:
    """Random sets of names and, by trying every mask, their members."""
    universe = rng.randrange(1 << bits)
    targets = [rng.randrange(1 << bits) for _ in range(rng.randrange(1, 4))]
    members = [m for m in range(1 << bits) if not m & ~universe and all(m & target for target in targets)]
    return NameSets.of(universe, targets), members


def test_sets_are_counted_and_recognised_as_by_trying_each() -> None:
    rng = random.Random(0)
    for _ in range(200):
        sets, members = random_sets(rng, 6)
        assert [mask for mask in range(64) if mask in sets] == members
        assert np.flatnonzero(sets.inside(np.arange(64))).tolist() == members
        assert [sets.containing(bit) for bit in range(7)] == [sum(m >> bit & 1 for m in members) for bit in range(7)]
        assert [sets.terms.below(mask) for mask in range(65)] == [sum(m < mask for m in members) for mask in range(65)]


def test_pairs_are_numbered_by_mask_and_candidate() -> None:
    rng = random.Random(1)
    for _ in range(100):
        several = [random_sets(rng, 5) for _ in range(rng.randrange(1, 4))]
        pairs = Pairs([sets for sets, _ in several])
        every = sorted((mask, place) for place, (_, members) in enumerate(several) for mask in members)
        assert pairs.count == len(every)
        assert [pairs.at(number) for number in range(len(every))] == every
        assert [pairs.number(*pair) for pair in every] == list(range(len(every)))
        assert [tuple(pair) for pair in pairs.listed().tolist()] == every
        if every:
            drawn = pairs.drawn(50, np.random.default_rng(0))
            assert {tuple(pair) for pair in drawn.tolist()} <= set(every)


def test_many_names_take_no_list() -> None:
    names = 60
    pairs = Pairs([NameSets.of((1 << names) - 1, [1, 6]), NameSets.of((1 << names) - 1, [(1 << names) - 1])])
    assert pairs.count == 3 * 2 ** (names - 3) + 2**names - 1
    last = pairs.at(pairs.count - 1)
    assert last == ((1 << names) - 1, 1)
    assert pairs.number(*last) == pairs.count - 1
