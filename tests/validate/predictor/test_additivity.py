"""Where damage adds up: every row is of its class alone, and every configuration is in one class of each group."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("safetensors")

from predicting import TRUTH, made_record, made_records, made_sensitivity, write_records

from costmodel.decomposition.factors import Decomposition, LowRank, Site, Tucker
from validate.predictor import additivity
from validate.predictor.additivity import additivity_rows, interaction_rows
from validate.predictor.crossval import Candidate
from validate.predictor.errors import in_bands, mean_interval
from validate.predictor.evidence import Evidence, read_evidence
from validate.predictor.parts import Cover, families, find_covers
from validate.predictor.points import Floats
from validate.predictor.score import Form, Inputs, Score, compress
from validate.quality.case import QualityCase

FOUND = made_sensitivity(gradients=False)


def evidence_with(folder: Path, configs: list[Decomposition], changes: list[float]) -> Evidence:
    """Sampled configurations, and these at the end."""
    records = made_records(FOUND, 60) + [
        made_record(QualityCase(decomposition=config), FOUND.spec, change, index)
        for index, (config, change) in enumerate(zip(configs, changes, strict=True), start=200)
    ]
    return read_evidence([write_records(folder, records)], FOUND)


def classes_of(evidence: Evidence, place: int, expected: float) -> dict[str, str]:
    """The class of a configuration in each group, counted from its sites."""
    config = evidence.points.records[place].decomposition(evidence.spec)
    sites = [site.layer for site in config.factors] + [layer for layer in config.dropped for _ in range(7)]
    layers = set(sites)
    of_layers = {1: "1 layer", 6: "all layers"} | dict.fromkeys((2, 3), "up to half of the layers")
    per_layer = len(sites) / len(layers)
    crowd = "one" if per_layer <= 1 else "up to four" if per_layer <= 4 else "more than four"
    bands = [name for name, inside in in_bands(np.array([expected])).items() if inside[0] and name != "all"]
    return {
        "layers": of_layers.get(len(layers), "more than half of the layers"),
        "sites": (
            "1 site"
            if len(sites) == 1
            else "2 to 4 sites"
            if len(sites) <= 4
            else "5 to 16 sites"
            if len(sites) <= 16
            else "17 or more sites"
        ),
        "sites in a layer": f"{crowd}, {'1 layer' if len(layers) == 1 else 'more layers'}",
        "expected change": bands[0],
    }


def test_every_row_of_a_fitted_sum_is_of_its_class_alone(tmp_path: Path) -> None:
    ones = [Decomposition({Site(layer, "q_proj"): LowRank(3)}) for layer in range(3)]
    evidence = evidence_with(tmp_path, ones, [0.1, 0.2, 0.1])
    count = len(evidence.points)
    expected = evidence.points.change * np.exp(np.random.default_rng(1).normal(0, 0.3, count))
    family = np.arange(count) // 2
    rows = additivity_rows(evidence, expected, [], family)
    assert {row["against"] for row in rows} == {"fitted sum"}
    where = [classes_of(evidence, place, expected[place]) for place in range(count)]
    members = {
        (group, name): [place for place in range(count) if name in ("all", where[place][group])]
        for group in where[0]
        for name in {found[group] for found in where} | ({"all"} if group == "expected change" else set())
    }
    assert {(row["group"], row["class"]) for row in rows} == set(members)
    assert len(members) > 12
    for row in rows:
        inside = members[row["group"], row["class"]]
        logs = compress(evidence.points.change[inside]) - compress(expected[inside])
        low, high = mean_interval(logs, family[inside])
        assert row["points"] == len(inside)
        assert row["excess"] == pytest.approx(math.exp(logs.mean()) - 1)
        assert row["excess_low"] == (None if low is None else pytest.approx(math.exp(low) - 1))
        assert row["excess_high"] == (None if high is None else pytest.approx(math.exp(high) - 1))
        assert row["difference_nats"] == pytest.approx((evidence.points.change - expected)[inside].mean())


def test_additivity_is_measured_on_parts(tmp_path: Path) -> None:
    first, second = {Site(0, "q_proj"): LowRank(3)}, {Site(4, "up_proj"): Tucker(5, 5)}
    configs = [Decomposition(each) for each in (first, second, {**first, **second})]
    configs += [Decomposition(first, frozenset({2})), Decomposition(dropped=frozenset({2}))]
    evidence = evidence_with(tmp_path, configs, [0.1, 0.2, 0.45, 0.35, 0.2])
    first_place = len(evidence.points) - 5
    covers = find_covers(evidence)
    assert {(cover.whole - first_place, *sorted(part - first_place for part in cover.parts)) for cover in covers} == {
        (2, 0, 1),
        (3, 0, 4),
    }
    rows = additivity_rows(evidence, evidence.points.change, covers, families(evidence, covers))
    (row,) = (row for row in rows if row["against"] == "parts" and row["class"] == "all")
    assert row["difference_nats"] == pytest.approx((0.15 + 0.05) / 2)
    assert row["excess"] == pytest.approx(np.exp(np.mean(compress(np.array([0.45, 0.35])) - compress(0.3))) - 1)


def test_cuts_across_layers_are_told_from_cuts_within(tmp_path: Path) -> None:
    sites = [Site(0, "q_proj"), Site(0, "k_proj"), Site(4, "up_proj")]
    parts = [{site: LowRank(3 + place)} for place, site in enumerate(sites)]
    wholes = [{**parts[0], **parts[1]}, {**parts[1], **parts[2]}]  # in one layer, in two
    configs = [Decomposition(each) for each in (*parts, *wholes)]
    evidence = evidence_with(tmp_path, configs, [0.1, 0.2, 0.1, 0.45, 0.25])
    first = len(evidence.points) - 5
    covers = [Cover(whole=first + 3, parts=(first, first + 1)), Cover(whole=first + 4, parts=(first + 1, first + 2))]
    rows = additivity_rows(evidence, evidence.points.change, covers, families(evidence, covers))
    cut = {row["class"]: row for row in rows if row["group"] == "cut"}
    assert {name: (row["points"], round(row["difference_nats"], 6)) for name, row in cut.items()} == {
        "across layers": (1, -0.05),
        "within layers": (1, 0.15),
    }
    bands = {(row["group"], row["class"]) for row in rows if row["group"].startswith("expected change, ")}
    assert bands == {("expected change, across layers", "0.2 to 1"), ("expected change, within layers", "0.2 to 1")}
    assert {row["against"] for row in rows if "cut" in row["group"] or "," in row["group"]} == {"parts"}


def test_interactions_are_those_of_fits_to_whole_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of as many families as there are, drawn with replacement; the interval is of 1,000 such fits."""
    fits: list[tuple[Form, Floats, Floats]] = []

    def fake(form: Form, inputs: Inputs, change: Floats) -> Score:
        fits.append((form, inputs.log_error[:, 0, 0], change))
        return dataclasses.replace(TRUTH, shared=float(change.mean()), bend=float(change.max()))

    monkeypatch.setattr(additivity, "fit_score", fake)
    change, families = np.arange(24.0), np.repeat([7, 3, 5, 4, 9, 8], 4)
    nothing = np.zeros((24, 1, 1), dtype=bool)
    inputs = Inputs(
        log_error=change[:, None, None] * 10, touched=nothing, dropped=nothing[:, 0], log_energy=np.zeros((1, 1))
    )
    form = Form(name="f", measure="output", layers=True, pair=True)
    rows = interaction_rows(Candidate(form=form, inputs=inputs), change, families)
    assert {fit for fit, *_ in fits} == {dataclasses.replace(form, shared=True, pair=False)}
    assert len(fits) == 1 + 1000
    assert fits[0][2].tolist() == change.tolist()
    for _, errors, drawn in fits:
        assert (errors == 10 * drawn).all()
        assert len(drawn) == 24
        counts = np.bincount(drawn.astype(int), minlength=24).reshape(6, 4)
        assert (counts == counts[:, :1]).all()
    assert len({drawn.mean() for *_, drawn in fits}) > 20
    ends = {
        "shared": np.quantile([drawn.mean() for *_, drawn in fits[1:]], [0.025, 0.975]),
        "bend": np.quantile([drawn.max() for *_, drawn in fits[1:]], [0.025, 0.975]),
    }
    values = {"shared": 11.5, "bend": 23.0}
    assert rows == [
        {"coefficient": name, "value": values[name], "low": pytest.approx(low), "high": pytest.approx(high)}
        for name, (low, high) in ends.items()
    ]
