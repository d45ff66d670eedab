"""The small parts: frontiers, distributions, names of objectives, limits, quality files."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exploring import quality_data, question_of
from hypothesis import given
from hypothesis import strategies as st

from costmodel.errors import InputError
from costmodel.explore import pareto
from costmodel.explore.distribution import distribution
from costmodel.explore.names import all_names, named
from costmodel.explore.objectives import Priced, known_names, parse_limit, parse_objective, parse_objectives
from costmodel.explore.pareto import nondominated
from costmodel.explore.quality import load_quality
from costmodel.explore.text import bars, objective_text
from costmodel.families.load import load_model
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import load_hardware
from costmodel.space.make import design_space
from costmodel.units import unit_of

BERT = load_model("bert-base")
BOTH = Priced(phases=("prefill", "decode"), request=True, quality=True)
ONE = Priced(phases=("decode",))


@given(st.integers(1, 6), st.integers(0, 60), st.integers(1, 6), st.integers(1, 70), st.integers(0, 10**6))
def test_frontier_against_the_definition(columns: int, rows: int, values: int, block: int, seed: int) -> None:
    """Few different values, hence many ties, in blocks of any size."""
    goals = np.random.default_rng(seed).integers(0, values, (rows, columns)).astype(np.float64)
    expected = set()
    for one in goals:
        if not ((goals <= one).all(axis=1) & (goals < one).any(axis=1)).any():
            expected.add(tuple(one))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("_BLOCK", block), ("_AT_ONCE", 1 + block // 3), ("_PIVOTS", 1 + block // 7)):
            patch.setattr(pareto, name, value)
        found = nondominated(goals)
    assert [tuple(goals[position]) for position in found] == sorted(expected)
    assert all(position == np.flatnonzero((goals == goals[position]).all(axis=1))[0] for position in found.tolist())


def test_frontier_of_many_points() -> None:
    goals = np.random.default_rng(1).random((20000, 3))
    front = goals[nondominated(goals)]
    assert not any(((goals <= one).all(axis=1) & (goals < one).any(axis=1)).any() for one in front[::7])
    assert (front[:, None] <= goals[None, ::50]).all(axis=2).any(axis=0).all()


@pytest.mark.parametrize("columns", [3, 4, 5])
def test_a_frontier_of_many_blocks_is_all_of_it(columns: int) -> None:
    """Points of one plane, none of which dominates another, and as many behind some of them."""
    rng = np.random.default_rng(2)
    own = rng.integers(0, 1 << 20, (5000, columns - 1)).astype(np.float64)
    plane = np.unique(np.concatenate([own, -own.sum(axis=1, keepdims=True)], axis=1), axis=0)
    behind = plane[rng.permutation(len(plane))] + rng.integers(0, 2, plane.shape) * [*[0.0] * (columns - 1), 1.0]
    goals = rng.permutation(np.concatenate([plane, behind, behind + 1]))
    assert (goals[nondominated(goals)] == plane).all()


@given(st.lists(st.tuples(st.floats(-1e3, 1e9), st.integers(1, 2**90)), min_size=1, max_size=40))
def test_distribution_against_exact_arithmetic(classes: list[tuple[float, int]]) -> None:
    values = np.array([value for value, _ in classes])
    counts = np.array([count for _, count in classes], dtype=object)
    found = distribution(values, counts)
    total = sum(counts)
    assert found.mean == float(sum(Fraction(value) * count for value, count in classes) / total)
    assert (found.minimum, found.maximum) == (values.min(), values.max())
    assert sum(found.counts) == total
    for q, value in found.quantiles.items():
        below = sum(count for each, count in classes if each < value)
        up_to = sum(count for each, count in classes if each <= value)
        assert below < Fraction(q) * total <= up_to
    assert list(found.edges) == sorted(set(found.edges)) or len(found.edges) == 2


def test_distribution_equals_numpy() -> None:
    values = np.random.default_rng(3).normal(size=5000).round(2)
    found = distribution(values, np.full(5000, 1, dtype=object))
    counts, edges = np.histogram(values, bins=len(found.counts))
    assert tuple(counts.tolist()) == found.counts
    np.testing.assert_allclose(edges, found.edges)
    for q, value in found.quantiles.items():
        assert value == np.quantile(values, float(q), method="inverted_cdf")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("decode.latency_s", ("decode", "latency_s", "", False)),
        ("params", ("prefill", "params", "", False)),
        ("saved.params_pct", ("prefill", "params", "pct", True)),
        ("decode.saved.peak_memory_pct", ("decode", "peak_memory_bytes", "pct", True)),
        ("saved.decode.speedup", ("decode", "latency_s", "speedup", True)),
        ("request.energy_j", ("request", "energy_j", "", False)),
        ("request.saved.latency_pct", ("request", "latency_s", "pct", True)),
        ("prefill.tokens_per_s", ("prefill", "tokens_per_s", "", True)),
        ("quality", ("quality", "quality", "", False)),
    ],
)
def test_names(text: str, expected: tuple[str, str, str, bool]) -> None:
    (found,) = parse_objective(text, BOTH)
    assert (found.part, found.metric, found.saving, found.maximise) == expected
    assert found.name == text


def test_every_known_name_is_read() -> None:
    for name in known_names(BOTH):
        assert parse_objective(name, BOTH)[0].name == name


def test_a_phase_may_be_left_out_when_there_is_one() -> None:
    assert parse_objective("latency_s", ONE)[0].part == "decode"
    with pytest.raises(InputError, match=r"write prefill.latency_s or decode.latency_s"):
        parse_objectives(["latency_s"], BOTH)
    limits = parse_limit("saved.peak_memory_pct >= 20", BOTH)
    assert [str(limit) for limit in limits] == ["prefill.saved.peak_memory_pct>=20", "decode.saved.peak_memory_pct>=20"]
    assert [limit.is_ceiling for limit in limits] == [True, True]
    assert len(parse_limit("params<=1e9", BOTH)) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("latency_s<=10ms", 0.01),
        ("latency_s <= 10 ms", 0.01),
        ("saved.latency_p05_pct>=20%", 20),
        ("peak_memory_bytes<=24GB", 24e9),
        ("peak_memory_bytes<=1.5Gi", 1.5 * 2**30),
        ("energy_j<=200mJ", 0.2),
        ("params<=7B", 7e9),
        ("latency_s<=2e-3", 0.002),
        ("saved.speedup>=1.5x", 1.5),
    ],
)
def test_a_limit_takes_units(text: str, value: float) -> None:
    assert parse_limit(text, ONE)[0].value == pytest.approx(value, rel=1e-15)


def test_every_name_has_a_meaning_a_unit_and_the_direction_that_the_objective_has() -> None:
    priced = Priced(phases=("prefill", "decode"), request=True, quality=True)
    for name in all_names():
        known = named(name)
        assert known.meaning
        assert known.more_is_better == parse_objective(name, priced)[0].maximise
    assert named("decode.saved.latency_p05_pct").unit == "%"


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: parse_objective("latancy_s", ONE), "did you mean"),
        (lambda: parse_objective("", ONE), "unknown objective"),
        (lambda: parse_objective("decode.decode.latency_s", ONE), "unknown objective"),
        (lambda: parse_objective("prefill.latency_s", ONE), "not priced"),
        (lambda: parse_objective("request.latency_s", ONE), "--new-tokens"),
        (lambda: parse_objective("quality", ONE), "--quality"),
        (lambda: parse_objective("saved.kernels_pct", ONE), "unknown objective"),
        (lambda: parse_objectives([], ONE), "no objective"),
        (lambda: parse_objectives(["params", "params"], ONE), "twice"),
        (lambda: parse_limit("latency_s", ONE), "not a limit"),
        (lambda: parse_limit("latency_s<=", ONE), "not a limit"),
        (lambda: parse_limit("latency_s=10ms", ONE), "latency_s<=10ms for a bound, latency_s==10ms for exactly"),
        (lambda: parse_limit("saved.latency_pct = 20%", ONE), "saved.latency_pct>=20% for a bound"),
        (lambda: parse_limit("latency_s<=fast", ONE), "not a number"),
        (lambda: parse_limit("latency_s<=10GB", ONE), "not a unit.*10ms"),
        (lambda: parse_limit("saved.latency_pct>=10ms", ONE), "not a unit.*20%"),
        (lambda: parse_limit("latency_s<=nan", ONE), "finite"),
        (lambda: parse_limit("latency_s<=inf", ONE), "finite"),
        (lambda: parse_limit("latency_s<=-1", ONE), "negative"),
        (lambda: parse_limit("saved.params_pct>=101", ONE), "100 %"),
        (lambda: parse_limit("latency<=1", ONE), "unknown objective"),
        (lambda: parse_limit("latency_s!=1", ONE), "not a limit"),
    ],
)
def test_bad_names_and_limits(call: Callable[[], object], match: str) -> None:
    with pytest.raises(InputError, match=match) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_unknown_energy_is_refused() -> None:
    space = design_space(BERT, ranks=[8])
    question = question_of(space, [Workload.prefill(64)], ["energy_j"], hardware=load_hardware("xeon-8480plus"))
    if question.tables.phases["prefill"].pricer.hardware.idle_power_w is None:
        with pytest.raises(InputError, match="power figure"):
            question.dense()


def _without(data: dict[str, Any]) -> None:
    del data["entries"][7]


def _set(place: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        data["entries"][5][place] = value

    return change


def _link(**values: object) -> Callable[[dict[str, Any]], None]:
    def change(data: dict[str, Any]) -> None:
        data["layer_interactions"].append({"layer": 0, "state": 0, "next_state": 0, "value": 1.0, **values})

    return change


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (_without, "no quality for 1 of"),
        (_set("value", float("nan")), "finite"),
        (_set("value", float("inf")), "finite"),
        (_set("value", "low"), "value: got 'low'; allowed: a number"),
        (_set("value", True), "value: got True; allowed: a number"),
        (_set("value", None), "value: got None; allowed: a number"),
        (_set("site", "layers.99.key"), "no such site"),
        (_set("site", "layers.0.nonsense"), "no such site"),
        (_set("site", "0.key"), "site: got '0.key'; allowed: a site"),
        (_set("rank", 0), "rank: got 0; allowed: a whole number"),
        (_set("rank", 8.0), "rank: got 8.0; allowed: a whole number"),
        (_set("form", "cp"), "form: got 'cp'; allowed: svd, tucker"),
        (_set("state", 16), "state: got 16; allowed: a whole number from 0 to 15"),
        (_set("state", -1), "state: got -1"),
        (_set("state", "mild"), "state: got 'mild'"),
        (lambda data: data["entries"].append(data["entries"][0]), "given twice"),
        (lambda data: data.update(states=["none", "mild", "none"]), r"states\[2\]: given twice: got 'none'"),
        (lambda data: data.update(model="bert-large"), "another model"),
        (lambda data: data.update(schema=2), "schema: got 2; allowed: 1"),
        (lambda data: data.update(entries={}), "entries: got {}; allowed: a list"),
        (lambda data: data.update(layer_interactions=3), "layer_interactions: got 3; allowed: a list"),
        (lambda data: data.update(metric=3), "metric: got 3; allowed: a text"),
        (lambda data: data["entries"].append(5), "got 5; allowed: an object"),
        (_link(layer=11), "layer: got 11; allowed: a whole number from 0 to 10"),
        (_link(layer=-1), "layer: got -1"),
        (_link(value=float("nan")), "finite"),
        (_link(next_state=16), "next_state: got 16"),
        (lambda data: (_link()(data), _link()(data)), "given twice"),
    ],
)
def test_bad_quality_files(change: Callable[[dict[str, Any]], object], match: str, tmp_path: Path) -> None:
    space = design_space(BERT, ranks=[8, 64])
    data = quality_data(space, 1)
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(data))
    load_quality(str(path), space)
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=match) as caught:
        load_quality(str(path), space)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"schema": 1}', "\xff", "null"])
def test_quality_files_that_are_none(content: str, tmp_path: Path) -> None:
    path = tmp_path / "quality.json"
    path.write_bytes(content.encode("latin-1"))
    for source in (str(path), f"standin:energy:{path}", str(tmp_path / "missing.json"), "standin:nonsense"):
        with pytest.raises(InputError):
            load_quality(source, design_space(BERT, ranks=[8]))


def test_quality_adds_up_with_interactions(tmp_path: Path) -> None:
    """Value by value from the file, and named states in their order."""
    space = design_space(BERT, "per-site", ranks=[8, 64])
    data = quality_data(space, 4, states=3)
    names = ["none", "mild", "severe"]
    for entry in data["entries"]:
        entry["state"] = names[entry["state"]]
    for entry in data["layer_interactions"]:
        entry.update(state=names[entry["state"]], next_state=names[entry["next_state"]])
    data["states"] = names
    data["entries"].append({"site": "layers.0.key", "form": "tucker", "rank": 8, "value": 1e6})
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(data))
    table = load_quality(str(path), space)
    values = {(e["site"], e["rank"]): e for e in data["entries"] if e["form"] == "svd"}
    links = {(e["layer"], e["state"], e["next_state"]): e["value"] for e in data["layer_interactions"]}
    rng = random.Random(0)
    for number in (0, space.size - 1, *(rng.randrange(space.size) for _ in range(20))):
        config = space.config(number)
        chosen = [(site.layer, values[str(site), factor.ranks[0]]) for site, factor in config.factors.items()]
        states = [max([0, *(names.index(e["state"]) for layer, e in chosen if layer == each)]) for each in range(12)]
        expected = sum(e["value"] for _, e in chosen)
        expected += sum(links.get((at, names[states[at]], names[states[at + 1]]), 0.0) for at in range(11))
        assert float(table.ticks(space.choices(number)) * table.quantum) == pytest.approx(expected, rel=1e-12)


def test_stand_ins(tmp_path: Path) -> None:
    space = design_space(BERT, ranks=[2, 3])
    removed = load_quality("standin:params", space)
    assert removed.stand_in
    assert "stand-in" in removed.metric
    question = question_of(space, [Workload.prefill(8)], ["saved.params_pct", "quality"], quality="standin:params")
    batch = question.tables.batch(space.sample_choices(30, seed=0))
    np.testing.assert_allclose(batch.quality(), question.objectives[0].values(batch), rtol=1e-12)
    spectra = [
        {"site": f"layers.{layer}.{t.name}", "singular_values": [3.0, 2.0, 1.0, 1.0 + layer]}
        for layer in range(12)
        for t in BERT.tensors
    ]
    path = tmp_path / "spectra.json"
    path.write_text(json.dumps({"schema": 1, "model": "bert-base", "spectra": spectra}))
    energy = load_quality(f"standin:energy:{path}", space)
    assert energy.stand_in
    expected = (
        100 * sum(sum(sorted([9, 4, 1, (1 + layer) ** 2])[:2]) / (14 + (1 + layer) ** 2) for layer in range(12)) / 12
    )
    every = space.size - 2  # all layers, all tensors, rank 2
    assert space.config(every).factors
    assert {f.ranks[0] for f in space.config(every).factors.values()} == {2}
    assert float(energy.ticks(space.choices(every)) * energy.quantum) == pytest.approx(expected)


def test_text() -> None:
    assert bars([1, 2**90, 0, 2**89], 4) == "▁█ ▄"
    assert bars([], 4) == ""
    assert len(bars(list(range(32)), 16)) == 16
    assert objective_text("decode.latency_s", 0.00642) == "6.42 ms"
    assert objective_text("saved.params_pct", 9.00644) == "9.006 %"
    assert objective_text("quality", 1.5) == "1.5"
    assert objective_text("prefill.tokens_per_s", 1234.5) == "1,234 tok/s"
    assert objective_text("decode.peak_memory_bytes", 2.5e9) == "2.5 GB"


@pytest.mark.parametrize(
    ("name", "unit"),
    [("decode.latency_s", "s"), ("tokens_per_s", "tok/s"), ("prefill.saved.speedup", "x"), ("saved.params_pct", "%")],
)
def test_a_name_says_its_unit(name: str, unit: str) -> None:
    assert unit_of(name) == unit
    assert unit_of("quality") == unit_of("params") == ""
