"""A predictor of one model, asked about another: what goes along, and what the page shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("msgspec")
pytest.importorskip("scipy")

from studies.comparison.transfer import FORM, MODELS, Known, carried, curvature, scaled, to_markdown
from validate.predictor.crossval import inputs_of
from validate.predictor.points import energies

PAGE = Path(__file__).resolve().parents[2] / "studies" / "transfer.md"


@pytest.fixture(scope="module")
def known() -> dict[str, Known]:
    return {name: Known.read(*files) for name, files in MODELS.items()}


def test_a_score_carried_to_its_own_model_is_itself_without_its_layers(known: dict[str, Known]) -> None:
    for model in known.values():
        back = carried(model, model)
        assert back.tensor == pytest.approx(model.score.tensor)
        assert back.predict(model.inputs) == pytest.approx(model.score.predict(model.inputs))


def test_coefficients_go_by_name_and_energies_in_nats(known: dict[str, Known]) -> None:
    source, target = known["toy Llama"], known["SmolLM2-135M"]
    score = carried(source, target)
    moved = score.tensor - source.score.tensor[[source.tensors.index(name) for name in target.tensors]]
    assert moved == pytest.approx(source.score.prior * (target.level - source.level))
    bert = known["toy BERT"]
    strange = [place for place, name in enumerate(bert.tensors) if name not in source.tensors]
    assert strange
    assert carried(source, bert).exponent[strange] == pytest.approx(source.score.exponent.mean())


def test_nothing_fitted_is_the_sum_of_the_curvatures(known: dict[str, Known]) -> None:
    model = known["toy BERT"]
    evidence = model.evidence
    inputs = inputs_of(evidence, FORM, evidence.points)
    energy = energies(evidence.sensitivity, evidence.factors, "curvature")
    summed = np.where(inputs.touched, energy * np.exp(inputs.log_error), 0.0).sum(axis=(1, 2))
    assert curvature(model).predict(inputs) == pytest.approx(summed, rel=1e-3)


def test_a_link_of_few_finds_the_scale_that_was_hidden(known: dict[str, Known]) -> None:
    model = known["SmolLM2-135M"]
    hidden = replace(model, change=replace(model.score, tensor=model.score.tensor + 1.0).predict(model.inputs))
    few = np.arange(0, len(model.change), 12)
    before, after = model.score.predict(model.inputs), scaled(model.score, hidden, few).predict(model.inputs)
    others = np.setdiff1d(np.arange(len(model.change)), few)
    errors = [np.abs(np.log((each + 0.02) / (hidden.change + 0.02)))[others].mean() for each in (before, after)]
    assert errors[1] < 0.3 * errors[0]


@pytest.mark.slow
def test_the_page_is_that_of_the_records(known: dict[str, Known]) -> None:
    shown, made = PAGE.read_text(encoding="utf-8").splitlines(), to_markdown(known).splitlines()
    assert [line.rsplit("|")[:2] for line in shown] == [line.rsplit("|")[:2] for line in made]
    for one, other in zip(shown, made, strict=True):
        if one.count("|") == 7 and not one.startswith(("|--", "| predicted")):
            rank, error = ([cell.strip() for cell in line.split("|")[2:4]] for line in (one, other))
            assert rank[0] == error[0] or abs(float(rank[0]) - float(error[0])) < 0.005
            assert float(rank[1]) == pytest.approx(float(error[1]), rel=0.02)
