"""The predictor that ranks are allocated by: the curvature's own order, and a link to what searches have found."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("safetensors")

from predicting import made_record, made_sensitivity, ranks_of

from costmodel.decomposition.factors import Decomposition, LowRank, Site
from validate.errors import FitError
from validate.predictor.allocation import FEWEST_FOUND, FORM, fit_allocation
from validate.predictor.crossval import inputs_of
from validate.predictor.evidence import Evidence
from validate.predictor.points import Floats, Points
from validate.quality.case import QualityCase
from validate.quality.plan import sample_cases
from validate.sensitivity.file import Sensitivity

SAMPLED, FOUND = 40, 16


def curvature_of(found: Sensitivity, config: Decomposition) -> float:
    """Sum over sites by hand, nats."""
    total = 0.0
    for site, factor in config.factors.items():
        loss = found.sites[site].loss
        assert loss is not None
        total += float(loss.curvature_plain[min(factor.ranks) :].sum())
    return total


def evidence_of(found: Sensitivity, link: tuple[float, float], *, drop: float = 1.0) -> tuple[Evidence, Floats]:
    """Samples that lose a third of their curvature, configurations that lose `scale x curvature ** bend`, and layers
    dropped whole, which lose `drop` times the curvature of all their weights, by the same link."""
    spec, rng = found.spec, np.random.default_rng(0)
    cases = [case for case in sample_cases(spec, 3 * SAMPLED, 0) if not case.decomposition.dropped][1 : SAMPLED + 1]
    configs = [case.decomposition for case in cases]
    for _ in range(FOUND):
        share = rng.uniform(0.1, 0.6)
        configs.append(
            Decomposition(
                {
                    Site(layer, tensor.name): LowRank(max(1, int(share * min(tensor.out_features, tensor.in_features))))
                    for layer in range(spec.num_layers)
                    for tensor in spec.tensors
                    if rng.random() < 0.8
                }
            )
        )
    scale, bend = link
    curvature = np.array([curvature_of(found, config) for config in configs])
    change = np.concatenate([curvature[:SAMPLED] / 3, scale * curvature[SAMPLED:] ** bend])
    for layer in range(spec.num_layers):
        lost = Decomposition({Site(layer, tensor.name): LowRank(1) for tensor in spec.tensors})
        terms = [found.sites[site].loss for site in lost.factors]
        whole = drop * sum(float(each.curvature_plain.sum()) for each in terms if each is not None)
        change, curvature = np.append(change, scale * whole**bend), np.append(curvature, whole)
        configs.append(Decomposition(dropped=frozenset([layer])))
    records = [
        made_record(QualityCase(decomposition=config, factors="plain", origin="sample"), spec, float(value), place)
        for place, (config, value) in enumerate(zip(configs, change, strict=True))
    ]
    records = [
        record if place < SAMPLED else msgspec.structs.replace(record, origin="given")
        for place, record in enumerate(records)
    ]
    points = Points(records=records, ranks=ranks_of(configs, spec), change=change, removed=np.zeros(len(change)))
    dense = made_record(QualityCase(decomposition=Decomposition()), spec, 0.0)
    return Evidence(
        spec=spec, sensitivity=found, factors="plain", points=points, dense=dense, failed=0, sources=[]
    ), curvature


def found_places(evidence: Evidence, count: int = FOUND) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    places = np.arange(len(evidence.points))
    return (places >= SAMPLED) & (places < SAMPLED + count)


def test_the_curvature_is_taken_as_it_is_until_searches_have_found_enough() -> None:
    found = made_sensitivity()
    evidence, curvature = evidence_of(found, (2.0, 1.2))
    fit = fit_allocation(evidence, found_places(evidence, FEWEST_FOUND - 1))
    inputs = inputs_of(evidence, FORM, evidence.points)
    whole = ~evidence.points.dropped.any(axis=1)
    assert (fit.fitted, fit.origin) == (0, "as it is")
    assert (fit.scale, fit.score.bend) == (pytest.approx(1.0), 1.0)
    assert fit.score.score(inputs)[whole] == pytest.approx(curvature[whole])


def test_the_link_is_that_of_what_was_found_whatever_random_ones_lose() -> None:
    found = made_sensitivity()
    evidence, _ = evidence_of(found, (1.6, 1.3))
    here = found_places(evidence)
    fit = fit_allocation(evidence, here)
    predicted = fit.score.predict(inputs_of(evidence, FORM, evidence.points))
    change = evidence.points.change
    assert (fit.fitted, fit.origin) == (FOUND, f"its link fitted to {FOUND} configurations")
    assert predicted[here] == pytest.approx(change[here], rel=0.1)
    assert np.median(predicted[:SAMPLED] / change[:SAMPLED]) > 1.5  # they lose a third of the curvature
    low, high = fit.band.around(predicted[here])
    assert (low <= change[here]).mean() >= 0.8
    assert (change[here] <= high).mean() >= 0.8

    moved = np.where(np.arange(len(change)) < SAMPLED, 5 * change, change)
    again = fit_allocation(replace(evidence, points=replace(evidence.points, change=moved)), here)
    assert again.score.predict(inputs_of(evidence, FORM, evidence.points))[here] == pytest.approx(
        predicted[here], rel=0.02
    )


def test_what_was_found_says_nothing_of_the_ceiling() -> None:
    """Its losses are small: a link that levelled off above them would call all that is worse free."""
    found = made_sensitivity()
    evidence, _ = evidence_of(found, (1.6, 1.3))
    here = found_places(evidence)
    change = np.where(here, np.minimum(evidence.points.change, np.median(evidence.points.change[here])), 9.0)
    score = fit_allocation(replace(evidence, points=replace(evidence.points, change=change)), here).score
    assert score.ceiling >= 9.0
    top = float(change[here].max())
    worse = score.link(
        np.array([1.0, 4.0]) * float(score.score(inputs_of(evidence, FORM, evidence.points))[here].max())
    )
    assert worse[1] > 2 * worse[0] > top


def test_nothing_that_is_fitted_tells_sites_apart() -> None:
    """The order of configurations is that of their curvature, before and after."""
    found = made_sensitivity()
    evidence, curvature = evidence_of(found, (1.6, 1.3))
    rng = np.random.default_rng(1)
    noisy = evidence.points.change * np.exp(rng.normal(size=len(curvature)))
    evidence = replace(evidence, points=replace(evidence.points, change=noisy))
    whole = ~evidence.points.dropped.any(axis=1)
    score = fit_allocation(evidence, found_places(evidence)).score
    ratio = score.score(inputs_of(evidence, FORM, evidence.points))[whole] / curvature[whole]
    assert ratio == pytest.approx(np.full(len(ratio), ratio[0]))


@pytest.mark.parametrize("drop", [0.25, 3.0])
def test_dropped_layers_have_a_factor_of_their_own(drop: float) -> None:
    evidence, _ = evidence_of(made_sensitivity(), (1.5, 1.1), drop=drop)
    score = fit_allocation(evidence, found_places(evidence)).score
    gone = evidence.points.dropped.any(axis=1)
    predicted = score.predict(inputs_of(evidence, FORM, evidence.points))[gone]
    assert np.log(predicted / evidence.points.change[gone]) == pytest.approx(np.zeros(gone.sum()), abs=0.3)
    assert (score.drop > 0) == (drop > 1)


def test_without_gradients_there_is_no_curvature() -> None:
    evidence, _ = evidence_of(made_sensitivity(), (1.5, 1.1))
    with pytest.raises(FitError, match="no loss terms"):
        fit_allocation(replace(evidence, sensitivity=made_sensitivity(gradients=False)), found_places(evidence))
