"""The forms that are tried, and what each says of a configuration: the formulas, site by site."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("safetensors")

from predicting import CONFIG, TRUTH, made_records, made_sensitivity, write_records

from validate.predictor.crossval import candidates, inputs_of
from validate.predictor.evidence import Evidence, read_evidence
from validate.predictor.points import DENSE, energies, site_errors
from validate.predictor.score import CLASSES, FLOOR, Form, Inputs, Score, compress, expand

WITHIN, BETWEEN = "interactions within layers", "interactions within layers and between neighbours"


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    found = made_sensitivity()
    return read_evidence([write_records(tmp_path_factory.mktemp("records"), made_records(found, 61))], found)


def flags(form: Form) -> tuple[str, str, str]:
    """Name, measure, and the terms that it has."""
    terms = [name for name in ("layers", "prior", "shared", "pair") if getattr(form, name)]
    return form.name, form.measure, " ".join(terms)


OUTPUT = [
    ("output error", "output", ""),
    ("output error, layers", "output", "layers"),
    (f"output error, layers, {WITHIN}", "output", "layers shared"),
]
PRIOR = [
    ("output error, Fisher prior", "output", "prior"),
    (f"output error, Fisher prior, {WITHIN}", "output", "prior shared"),
    (f"output error, Fisher prior, layers, {WITHIN}", "output", "layers prior shared"),
    (f"curvature, {WITHIN}", "curvature", "prior shared"),
]


@pytest.mark.parametrize(
    ("gradients", "factors", "expected"),
    [
        (
            True,
            "plain",
            [
                *OUTPUT,
                *PRIOR,
                (f"whitened error, Fisher prior, {WITHIN}", "whitened", "prior shared"),
                (f"whitened error, Fisher prior, {BETWEEN}", "whitened", "prior shared pair"),
            ],
        ),
        (True, "whitened", [*OUTPUT, *PRIOR, (f"curvature, {BETWEEN}", "curvature", "prior shared pair")]),
        (
            False,
            "plain",
            [
                *OUTPUT,
                (f"whitened error, layers, {WITHIN}", "whitened", "layers shared"),
                (f"whitened error, layers, {BETWEEN}", "whitened", "layers shared pair"),
            ],
        ),
        (False, "whitened", [*OUTPUT, (f"output error, layers, {BETWEEN}", "output", "layers shared pair")]),
    ],
)
def test_the_forms_that_are_tried(
    evidence: Evidence, gradients: bool, factors: str, expected: list[tuple[str, str, str]]
) -> None:
    own = dataclasses.replace(evidence, sensitivity=made_sensitivity(gradients=gradients), factors=factors)
    assert [flags(candidate.form) for candidate in candidates(own)] == expected


def test_a_single_layer_has_no_form_with_interactions(evidence: Evidence) -> None:
    """A quality file tells interactions of neighbouring layers alone."""
    single = made_sensitivity(config={**CONFIG, "num_hidden_layers": 1}).spec
    forms = [candidate.form for candidate in candidates(dataclasses.replace(evidence, spec=single))]
    assert [flags(form) for form in forms] == [*OUTPUT[:2], PRIOR[0]]


def test_a_form_sees_the_errors_of_its_measure_and_energies_only_with_a_prior(evidence: Evidence) -> None:
    points = evidence.points
    for candidate in candidates(evidence):
        form, inputs = candidate.form, candidate.inputs
        tables = site_errors(evidence.sensitivity, "plain", form.measure)
        energy = np.log(energies(evidence.sensitivity, "plain", form.measure))
        assert inputs.log_energy == pytest.approx(energy - energy.mean() if form.prior else np.zeros((6, 7)))
        for place, layer, column in itertools.product((0, 17, 42), range(6), range(7)):
            rank = int(points.ranks[place, layer, column])
            error = tables[layer][column][rank]
            assert inputs.touched[place, layer, column] == (rank != DENSE and error > 0)
            if inputs.touched[place, layer, column]:
                assert inputs.log_error[place, layer, column] == pytest.approx(math.log(error))
        assert (inputs.dropped == points.dropped).all()
    plain = dataclasses.replace(candidates(evidence)[3].form, prior=False)
    assert (inputs_of(evidence, plain, points).log_energy == 0).all()


def said_of(score: Score, inputs: Inputs, place: int) -> float:
    """The prediction of one configuration, by the formulas of `score`, written out."""
    worsts, total = [], 0.0
    for layer in range(6):
        damages = [0.0]
        for column in range(7):
            if inputs.touched[place, layer, column]:
                log = score.tensor[column] + score.layer[layer] + score.prior * inputs.log_energy[layer, column]
                log += score.exponent[column] * inputs.log_error[place, layer, column]
                log += score.drop if inputs.dropped[place, layer] else 0.0
                damages.append(math.exp(log))
        below = [edge for edge in CLASSES if edge <= max(damages)]
        worsts.append(below[-1] * math.sqrt(1.75) if below else 0.0)
        total += (1 - score.shared) * sum(damages) + score.shared * worsts[-1]
    total += score.pair * sum(math.sqrt(one * other) for one, other in itertools.pairwise(worsts))
    return score.ceiling * (1 - math.exp(-((total / score.ceiling) ** score.bend)))


@pytest.mark.parametrize(("shared", "pair"), [(0.0, 0.0), (0.6, 0.0), (0.0, 0.3), (0.6, 0.3)])
def test_a_prediction_is_what_the_formulas_say(evidence: Evidence, shared: float, pair: float) -> None:
    score = dataclasses.replace(TRUTH, shared=shared, pair=pair)
    if shared == pair == 0:
        score = dataclasses.replace(score, bend=0.8)
    inputs = candidates(evidence)[3].inputs  # with a prior
    alike = [said_of(score, inputs, place) for place in range(len(evidence.points))]
    assert score.predict(inputs) == pytest.approx(alike, rel=1e-9)


def test_states_start_at_a_thousandth_and_the_last_at_two_and_a_half() -> None:
    assert len(CLASSES) == 15
    assert (CLASSES[0], CLASSES[-1]) == (pytest.approx(0.001), pytest.approx(2.53, rel=0.01))


def test_the_compressed_scale_counts_large_changes_by_ratio_and_small_ones_by_difference() -> None:
    assert compress(np.array([6.0])) - compress(np.array([3.0])) == pytest.approx(math.log(2), rel=1e-3)
    assert compress(np.array([1e-4])) - compress(np.array([-1e-4])) == pytest.approx(2e-4 / FLOOR, rel=1e-3)
    values = np.array([-0.3, 0.0, 1e-3, 0.4, 9.0])
    assert expand(compress(values)) == pytest.approx(values)
