"""The programs over sites beside listing, on small made-up problems: chain, hull, grid; and the best of classes."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from exploring import all_but, question_of, small_model

from costmodel.arrays import Floats
from costmodel.errors import InputError
from costmodel.explore.by_class.answer import best, frontier
from costmodel.explore.by_class.listing import ListedConfigurations
from costmodel.explore.by_site import chain
from costmodel.explore.by_site.chain import minimise
from costmodel.explore.by_site.grid import grid
from costmodel.explore.by_site.hull import evaluate, fill, hull
from costmodel.explore.by_site.problem import Functional, SiteProblem, ceiling
from costmodel.explore.by_site.tangents import leading
from costmodel.families.load import load_model
from costmodel.forward.workload import Workload
from costmodel.space.make import design_space

FIRST, SECOND = Functional(weights={("one", "x"): 1.0}), Functional(weights={("two", "x"): 1.0})


@dataclass
class Toy:
    """Three layers of two sites with up to four choices; the first choice, dense, adds nothing.

    What stands in for a `SiteProblem`: the same names, numbers made up.
    """

    open: Any
    state: Any
    num_states: int
    added: dict[str, Any]
    linked: dict[str, Any]
    constant: dict[str, float]

    def values(self, functional: Functional) -> Floats:
        ((name, _),) = functional.weights
        return np.where(self.open, self.added[name], np.inf)

    def links(self, functional: Functional) -> Floats:
        ((name, _),) = functional.weights
        return np.array(self.linked[name])

    def offset(self, functional: Functional) -> float:
        ((name, _),) = functional.weights
        return self.constant[name]

    def every(self) -> Any:
        """All configurations, int64 (n, layers, tensors)."""
        options = [np.flatnonzero(site).tolist() for site in self.open.reshape(-1, self.open.shape[-1])]
        return np.array(list(itertools.product(*options))).reshape(-1, *self.open.shape[:2])

    def costs(self, name: str, choices: Any) -> Floats:
        """Of configurations, added up site by site and layer by layer."""
        found = []
        for config in choices:
            sites = list(np.ndindex(*self.open.shape[:2]))
            total = self.constant[name] + sum(self.added[name][site][config[site]] for site in sites)
            states = [
                max(self.state[layer, tensor][config[layer, tensor]] for tensor in range(self.open.shape[1]))
                for layer in range(self.open.shape[0])
            ]
            if self.num_states > 1:
                pairs = zip(self.linked[name], itertools.pairwise(states), strict=True)
                total += sum(table[one, other] for table, (one, other) in pairs)
            found.append(total)
        return np.array(found)

    @property
    def problem(self) -> SiteProblem:
        return cast("SiteProblem", self)


def toy(seed: int, states: int, *, interacting: bool = False) -> Toy:
    """The first objective falls where the second rises; `interacting`: pairs of layers count in the first too."""
    rng, shape = np.random.default_rng(seed), (3, 2, 4)
    opened = rng.random(shape) < 0.8
    opened[..., 0] = True
    opened[0, 1] = [True, False, False, False]  # a site that stays dense
    state = np.zeros(shape, dtype=np.int64)
    if states > 1:
        state[..., 1:] = rng.integers(0, states, (3, 2, 3))
    one, two = -rng.uniform(0.5, 9, shape), rng.uniform(0.1, 3, shape)
    one[..., 0] = two[..., 0] = 0.0
    links = {name: np.zeros((2, states, states)) for name in ("one", "two")}
    if states > 1:
        links["two"] = rng.uniform(0, 2, (2, states, states))
        if interacting:
            links["one"] = rng.uniform(-1, 1, (2, states, states))
    return Toy(opened, state, states, {"one": one, "two": two}, links, {"one": 70.0, "two": 0.5})


@pytest.mark.parametrize(("seed", "states"), [(0, 1), (1, 1), (2, 3), (3, 3), (4, 2)])
def test_the_chain_finds_the_least_of_each_weighted_sum(
    seed: int, states: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether all weights are taken at once or block by block."""
    made = toy(seed, states, interacting=True)
    weights = np.array([0.0, 0.4, 1.7, 3.0, 80.0])
    one, two = (made.costs(name, made.every()) for name in ("one", "two"))
    for block in (chain._BLOCK, 2 * made.open.size):
        monkeypatch.setattr(chain, "_BLOCK", block)
        minima, choices = minimise(made.problem, FIRST, SECOND, weights)
        assert minima == pytest.approx([(one + weight * two).min() for weight in weights])
        assert choices.shape == (5, 3, 2)
        own = [made.costs(name, choices) for name in ("one", "two")]
        assert own[0] + weights * own[1] == pytest.approx(minima)
        assert made.open[(*np.indices((3, 2)), choices[2])].all()


@pytest.mark.parametrize(("seed", "states"), [(0, 1), (5, 1), (2, 3)])
def test_the_hull_holds_every_supported_point_and_no_line_cuts_a_configuration(seed: int, states: int) -> None:
    made = toy(seed, states)
    found, every = hull(made.problem, FIRST, SECOND), made.every()
    one, two = (made.costs(name, every) for name in ("one", "two"))
    assert (np.diff(found.weights) > 0).all()
    assert (found.least_first(two) <= one).all()
    assert evaluate(made.problem, FIRST, every) == pytest.approx(one)
    mine = np.stack([made.costs(name, found.choices) for name in ("one", "two")], axis=1)
    supported = {
        (round(one[at], 9), round(two[at], 9))
        for weight in np.geomspace(1e-3, 1e3, 400)
        for at in [int((one + weight * two).argmin())]
    }
    assert supported <= {(round(x, 9), round(y, 9)) for x, y in mine.tolist()}
    assert found.least_first(mine[:, 1]) == pytest.approx(mine[:, 0], abs=1e-6)
    filled = fill(made.problem, found.choices, 1000)
    assert {tuple(each.ravel()) for each in found.choices} <= {tuple(each.ravel()) for each in filled}
    if states == 1:  # what lies between two supported points lies on their line
        ends = [made.costs(name, filled) for name in ("one", "two")]
        assert ends[0] == pytest.approx(found.least_first(ends[1]), rel=1e-9)


@pytest.mark.parametrize(
    ("seed", "states", "interacting"), [(0, 1, False), (6, 1, False), (2, 3, False), (3, 3, True), (7, 2, True)]
)
def test_the_grid_is_off_by_less_than_a_bin_for_each_site(seed: int, states: int, interacting: bool) -> None:
    made = toy(seed, states, interacting=interacting)
    if states == 1:
        made.state[...] = 5  # of no meaning without interactions
    every = made.every()
    one, two = (made.costs(name, every) for name in ("one", "two"))
    opened = int(made.open.sum()) * (2 * states if states > 1 else 1)
    found = grid(made.problem, FIRST, SECOND, 10_000, work=opened * 600)
    free = int((made.open.sum(axis=-1) > 1).sum())
    assert (len(found.least), found.sites) == (600, free)
    span = np.where(made.open, made.added["one"], 0.0)
    span = (np.where(made.open, made.added["one"], -np.inf).max(axis=-1) - span.min(axis=-1)).sum()
    assert found.width == pytest.approx(span / 599)
    # what layers can take off the first at most is taken off its bound
    links = made.linked["one"]
    least_links, most_links = links.min(axis=(1, 2)).sum(), links.max(axis=(1, 2)).sum()
    slack = free * found.width + most_links - least_links
    truth = np.array([one[two <= value].min() for value in two])
    bound = found.least_first(two)
    assert (bound <= truth + 1e-9).all()
    assert (bound >= truth - slack - 1e-9).all()
    assert found.least_first(np.array([two.min() - 0.01])).tolist() == [np.inf]
    assert found.least_first(np.array([1e3])) == pytest.approx([found.origin])
    own = [made.costs(name, found.choices) for name in ("one", "two")]
    for x, y in zip(one, two, strict=True):
        assert own[0][own[1] <= y + 1e-9].min() <= x + slack + 1e-9
    assert (np.diff(found.least) <= 0).all()
    assert found.least[-1] == pytest.approx(two.min())


def test_a_thinned_grid_keeps_both_ends_and_no_bare_stretch() -> None:
    made = toy(0, 1)
    whole, some = (grid(made.problem, FIRST, SECOND, points, work=1_000_000) for points in (10_000, 12))
    assert len(some.choices) <= 12 < len(whole.choices)
    many, few = (
        np.array(sorted(zip(*(made.costs(name, each.choices) for name in ("one", "two")), strict=True)))
        for each in (whole, some)
    )
    assert few[[0, -1]] == pytest.approx(many[[0, -1]])
    reach = np.ptp(many[:, 0])
    assert np.diff(few[:, 0]).max() < max(np.diff(many[:, 0]).max(), reach / 4)


def test_a_grid_has_from_256_to_a_quarter_of_a_million_bins() -> None:
    made = toy(0, 1)
    assert len(grid(made.problem, FIRST, SECOND, 4, work=1).least) == 256
    assert len(grid(made.problem, FIRST, SECOND, 4, work=10**12).least) == 1 << 18
    made.added["one"][...] = 0.0  # nothing to divide
    (choice,) = grid(made.problem, FIRST, SECOND, 4, work=1).choices
    assert made.costs("two", choice[None]) == made.costs("two", made.every()).min()


@pytest.mark.parametrize("choices", [16_384, 16_385, 40_000])
def test_a_site_may_have_tens_of_thousands_of_choices(choices: int) -> None:
    """Of which the last is no less found than the first."""
    opened = np.zeros((2, 1, choices), dtype=bool)
    opened[..., [0, 1, choices - 1]] = True
    one, two = np.zeros(opened.shape), np.zeros(opened.shape)
    one[..., 1], two[..., 1], one[..., -1], two[..., -1] = 5.0, -1.0, 9.0, -3.0
    nothing = {name: np.zeros((1, 1, 1)) for name in ("one", "two")}
    made = Toy(
        opened, np.zeros(opened.shape, dtype=int), 1, {"one": one, "two": two}, nothing, {"one": 0.0, "two": 0.0}
    )
    found = grid(made.problem, FIRST, SECOND, 100, work=1)
    assert found.choices[-1].tolist() == [[choices - 1], [choices - 1]]
    assert found.choices[0].tolist() == [[0], [0]]
    assert found.least[-1] == -6


def test_a_limit_is_kept_up_to_a_ceiling_of_the_cost_itself() -> None:
    """Of rates and savings too: the time of as many tokens, and what is left of the dense model's."""
    space = design_space(load_model("bert-base"), "per-site", ranks=[64])
    limits = ["tokens_per_s>=1000", "latency_s<=0.5", "saved.latency_pct>=20", "saved.speedup>=1.5"]
    question = question_of(space, [Workload.prefill(128, batch=2)], ["latency_s"], limits)
    dense = float(np.asarray(question.objectives[0].values(question.tables.dense)))
    found = [ceiling(question.tables, limit) for limit in question.limits]
    assert found == pytest.approx([256 / 1000, 0.5, 0.8 * dense, dense / 1.5])
    better = question_of(space, [Workload.prefill(128)], ["latency_s"], ["latency_s>=0.5"])
    with pytest.raises(InputError, match="worse side"):
        ceiling(better.tables, better.limits[0])


@pytest.mark.parametrize(("length", "batch"), [(1, 1), (4096, 4096), (4096, 1)])
def test_where_the_device_or_the_host_leads_throughout_one_tangent_is_the_requests_latency(
    length: int, batch: int, tmp_path: Path
) -> None:
    model = small_model(tmp_path)
    space = design_space(model, "per-site", ranks=[4, 60], keep=all_but(model, [0, 3], ["q_proj", "down_proj"]))
    work = [Workload.prefill(length, batch=batch), Workload.decode(length + 1, batch=batch)]
    question = question_of(space, work, ["request.latency_s"], new_tokens=4)
    problem, every = SiteProblem.of(question.tables), space.valid_choices(0, space.valid_size)
    found = leading(question.tables, [problem], question.objectives[0])
    assert found is not None
    truth = np.asarray(question.objectives[0].values(ListedConfigurations(question.tables, space).batch))
    assert evaluate(problem, found, every) == pytest.approx(truth, rel=1e-9)


@dataclass
class Classes:
    """Numbers of configurations by class."""

    numbers: list[list[int]]

    def members(self, position: int) -> Iterator[int]:
        return iter(self.numbers[position])


def test_the_best_and_the_frontier_are_those_of_all_members() -> None:
    """Equal points are ordered by the number of the configuration, whichever class it is in."""
    rng = np.random.default_rng(0)
    numbers = rng.permutation(60).reshape(20, 3)
    classes = cast("Any", Classes([sorted(row) for row in numbers.tolist()]))
    goals = rng.integers(0, 3, (20, 3)).astype(float)
    allowed = np.array([place for place in range(20) if place % 5])
    listed = sorted(
        (*goals[place].tolist(), number, int(place)) for place in allowed for number in numbers[place].tolist()
    )
    for count in (0, 1, 4, 17, 1000):
        assert best(classes, goals, allowed, count) == [(row[-1], row[-2]) for row in listed[:count]]
    points = {row[:3] for row in listed}
    undominated = sorted(
        point
        for point in points
        if not any(other != point and all(a <= b for a, b in zip(other, point, strict=True)) for other in points)
    )
    least = [next((row[-1], row[-2]) for row in listed if row[:3] == point) for point in undominated]
    assert frontier(classes, goals, allowed) == least
    assert len(least) > 1
