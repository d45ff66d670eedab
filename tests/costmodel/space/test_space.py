"""Design spaces: exact sizes, the bijection, uniform sampling, restrictions, errors."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter

import numpy as np
import pytest
from exploring import all_but
from hypothesis import given, settings
from hypothesis import strategies as st

from costmodel.decomposition.factors import Decomposition, LowRank, Site
from costmodel.decomposition.text import Rank
from costmodel.errors import InputError
from costmodel.families.load import load_model
from costmodel.space.base import KINDS, DesignSpace
from costmodel.space.make import design_space
from costmodel.space.sizes import PAPER_MODELS, space_sizes

BERT = load_model("bert-base")
SEVENTY = load_model("llama2-70b")
SPACES: dict[str, DesignSpace] = {
    f"{model.name} {kind}": design_space(model, kind, ranks=list(range(8, 8 * 33, 8)))
    for model in (BERT, load_model("llama3-8b"), SEVENTY)
    for kind in KINDS
}


@pytest.mark.parametrize(
    ("name", "log2", "distinct"),
    [
        ("bert-base", 18, 257_986),
        ("bert-large", 30, 1_056_964_546),
        ("llama2-7b", 39, 545_460_846_466),
        ("llama2-70b", 87, (2**80 - 1) * (2**7 - 1) + 1),
    ],
)
def test_the_papers_table(name: str, log2: int, distinct: int) -> None:
    sizes = space_sizes(load_model(name)).to_json()
    assert (sizes["homogeneous_log2"], sizes["paper_count"]) == (log2, 2**log2)
    assert sizes["homogeneous_distinct"] == distinct
    assert sizes["per_layer_log2"] == sizes["num_layers"] * len(sizes["tensors"])
    assert name in PAPER_MODELS
    assert json.loads(json.dumps(sizes))["per_site_distinct"] == 2 ** sizes["per_layer_log2"]


def test_sizes_with_several_ranks() -> None:
    sizes = space_sizes(BERT, [1, 8, 64])
    assert sizes.homogeneous == 773_956 == (2**12 - 1) * (2**6 - 1) * 3 + 1
    assert sizes.per_layer == (2**72 - 1) * 3 + 1
    assert sizes.per_site == 4**72
    assert SPACES["llama2-70b per-site"].size == 33**560
    assert SPACES["llama2-70b per-layer"].size == (2**560 - 1) * 32 + 1


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
@settings(max_examples=25)
@given(data=st.data())
def test_number_and_configuration_are_inverses(space: DesignSpace, data: st.DataObject) -> None:
    number = data.draw(st.integers(0, space.size - 1))
    config = space.config(number)
    assert space.index(config) == number
    assert config.check(space.model) is config
    assert space.decomposition(space.choices(number)) == config
    position = data.draw(st.integers(0, space.valid_size - 1))
    assert (space.kind == "per-layer") or space.nth_valid(position) == position  # every rank is possible here
    assert 0 <= space.nth_valid(position) < space.size


@pytest.mark.parametrize("kind", KINDS)
def test_small_spaces_are_complete(kind: str) -> None:
    """All configurations of a small space are different, listed in order, and those with a rank too high left out."""
    model = load_model("qwen2.5-0.5b")  # k_proj is 128 x 896
    keep = all_but(model, [0, 3], ["q_proj", "k_proj", "up_proj"] if kind == "homogeneous" else ["q_proj", "k_proj"])
    space = design_space(model, kind, ranks=[64, 200, 100], keep=keep)
    texts = [json.dumps(config.to_json()) for config in space.configs()]
    assert len(set(texts)) == space.size == len(texts)
    assert texts[0] == json.dumps(Decomposition().to_json())
    possible = [
        number
        for number, config in enumerate(space.configs())
        if all(f.ranks[0] <= 128 for site, f in config.factors.items() if site.tensor == "k_proj")
    ]
    assert space.excluded == space.size - len(possible) > 0
    numbers = [space.nth_valid(position) for position in range(space.valid_size)]
    assert (sorted(numbers) if kind == "per-layer" else numbers) == possible
    listed = space.valid_choices(0, space.valid_size)
    assert (listed == np.stack([space.choices(number) for number in numbers])).all()
    assert (space.valid_choices(5, 9) == listed[5:9]).all()


@pytest.mark.parametrize("kind", KINDS)
def test_sampling_is_uniform_and_seeded(kind: str) -> None:
    space = design_space(BERT, kind, ranks=[1, 8], keep=all_but(BERT, [0, 5], ["query", "output"]))
    draws = space.sample(200 * space.size, seed=3)
    assert draws == space.sample(200 * space.size, seed=3) != space.sample(200 * space.size, seed=4)
    counts = Counter(draws)
    chi2 = sum((counts[number] - 200) ** 2 / 200 for number in range(space.size))
    freedom = space.size - 1
    assert chi2 < freedom + 5 * (2 * freedom) ** 0.5
    arrays = Counter(space.index_of(each) for each in space.sample_choices(50 * space.size, seed=1))
    assert sum((arrays[n] - 50) ** 2 / 50 for n in range(space.size)) < freedom + 5 * (2 * freedom) ** 0.5


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_sample_is_the_same_by_number_and_by_choices(space: DesignSpace) -> None:
    choices = space.sample_choices(20, seed=8)
    numbers = space.sample(20, seed=8)
    assert (np.stack([space.choices(number) for number in numbers]) == choices).all()
    assert {space.config(number) for number in numbers} == {space.decomposition(each) for each in choices}
    if space.kind != "per-site":  # where sites are drawn, not numbers
        generator = random.Random(8)
        assert numbers == [space.nth_valid(generator.randrange(space.valid_size)) for _ in numbers]
    assert space.sample_choices(0, seed=8).shape == (0, *space.free.shape)


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_sampling_of_huge_spaces(space: DesignSpace) -> None:
    """Bits of the numbers, layers and ranks are even-handed, without anything materialised."""
    numbers = space.sample(1000, seed=11)
    assert all(0 <= number < space.size for number in numbers)
    assert abs(sum(number < space.size // 2 for number in numbers) - 500) < 5 * 15.8
    chosen = np.stack([space.choices(number) for number in numbers[:600]])
    share = (chosen > 0).mean()
    expected = {"homogeneous": 0.25, "per-layer": 0.5, "per-site": 32 / 33}[space.kind]
    assert abs(share - expected) < 0.02
    distinct = space.sample(500, seed=1, distinct=True)
    assert len(set(distinct)) == 500


def test_distinct_sample_of_all() -> None:
    space = design_space(BERT, ranks=[1], keep=all_but(BERT, [2, 3], ["key"]))
    assert sorted(space.sample(space.size, seed=0, distinct=True)) == list(range(space.size))
    with pytest.raises(InputError, match="sample size"):
        space.sample(space.size + 1, seed=0, distinct=True)


def test_percentages_resolve_per_tensor() -> None:
    space = design_space(BERT, ranks=[Rank.parse("25%"), Rank.parse("50%")])
    assert space.ranks[0] == (96, 192)  # break-even of 768 x 768 is 384
    assert space.ranks[4] == (153, 307)  # of 3072 x 768 it is 614
    multiples = design_space(BERT, ranks=[Rank.parse("25%"), Rank.parse("50%")], rank_multiple=64)
    assert multiples.ranks[4] == (128, 256)
    every = design_space(BERT, rank_multiple=64)
    assert every.ranks[0] == tuple(range(64, 577, 64))
    assert every.excluded == 0


def test_coinciding_percentages_are_counted_once() -> None:
    """1 % and 1.1 % of break-even are both rank 3 in a square tensor and 6 against 6 or 7 in a tall one."""
    ranks = [Rank.parse("1%"), Rank.parse("1.15%")]
    space = design_space(BERT, ranks=ranks, keep=all_but(BERT, [1, 2, 7], ["query", "key", "output"]))
    assert space.ranks[0][0] != space.ranks[0][1] or space.ranks[5][0] != space.ranks[5][1]
    texts = {json.dumps(config.to_json()) for config in space.configs()}
    assert len(texts) == space.size
    for number in range(space.size):
        assert space.index(space.config(number)) == number
    sites = design_space(BERT, "per-site", ranks=ranks, keep=all_but(BERT, [1, 2], ["query", "output"]))
    assert len({json.dumps(config.to_json()) for config in sites.configs()}) == sites.size
    assert all(sites.index(sites.config(number)) == number for number in range(sites.size))


def test_repeated_ranks_are_one() -> None:
    assert design_space(BERT, ranks=[8, 8, 16]).size == design_space(BERT, ranks=[8, 16]).size


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"keep": all_but(BERT, [], [])}, "nothing is left"),
        ({"ranks": []}, "number of ranks"),
        ({"ranks": [4000]}, "above min"),
        ({"ranks": [12], "rank_multiple": 8}, "no multiple"),
        ({"rank_multiple": 0}, "rank multiple"),
        ({"rank_multiple": 1024}, "multiple"),
        ({"keep": [Site(3, "key")]}, "whole layers or whole tensors"),
        ({"kind": "per-layer", "ranks": [Rank.parse("1%"), Rank.parse("1.001%")]}, ""),
        ({"kind": "nonsense"}, "unknown space"),
        ({"form": "cp"}, "unknown form"),
    ],
)
def test_bad_restrictions(options: dict[str, object], match: str) -> None:
    if not match:
        assert design_space(BERT, **options).size > 0  # the same rank everywhere counts as one
        return
    with pytest.raises(InputError, match=match) as caught:
        design_space(BERT, **options)
    assert "\n" not in str(caught.value)


def test_what_is_not_in_the_space() -> None:
    space = design_space(BERT, ranks=[8, 16])
    for config in (
        Decomposition({Site(0, "query"): LowRank(9)}),
        Decomposition({Site(0, "query"): LowRank(8), Site(1, "key"): LowRank(8)}),
        Decomposition({Site(0, "query"): LowRank(8), Site(1, "query"): LowRank(16)}),
        Decomposition({}, frozenset([2])),
        Decomposition({Site(0, "nonsense"): LowRank(8)}),
    ):
        with pytest.raises(InputError):
            space.index(config)
    for number in (-1, space.size):
        with pytest.raises(InputError, match="no configuration"):
            space.config(number)
    with pytest.raises(InputError, match="range outside"):
        space.configs(5, 3)
    middle = space.size // 2
    window = list(space.configs(middle, middle + 3))
    assert window == [space.config(middle + step) for step in range(3)]
    assert list(itertools.islice(SPACES["llama2-70b per-site"].configs(33**559), 1))
