"""Inside the predictor: folds of a choice among forms, the rank of a conformal interval, ranks of configurations."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("safetensors")

from predicting import TRUTH, made_record, made_records, made_sensitivity, write_records

from costmodel.decomposition.factors import Decomposition, LowRank, Site, Tucker
from validate.predictor import crossval
from validate.predictor.crossval import INNER, OUTER, SEED, Chosen, HeldOut, candidates, choose, nested, random_folds
from validate.predictor.evidence import Evidence, read_evidence
from validate.predictor.fitting import fit_score
from validate.predictor.interval import Band, half_widths, nearest_quantiles
from validate.predictor.points import DENSE, LOST, Floats
from validate.predictor.score import compress, expand
from validate.quality.case import QualityCase


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    found = made_sensitivity(gradients=False)
    return read_evidence([write_records(tmp_path_factory.mktemp("records"), made_records(found, 61))], found)


def test_a_fold_is_predicted_by_those_who_have_not_seen_it(evidence: Evidence) -> None:
    """Other changes in a fold move none of its own predictions, and some of every other fold's."""
    candidate, change = candidates(evidence)[1], evidence.points.change
    folds = random_folds(np.arange(len(change)), INNER, SEED)
    before = candidate.held_out(change, folds)
    for fold in range(INNER):
        after = candidate.held_out(np.where(folds == fold, 5.0, change), folds)
        assert (after[folds == fold] == before[folds == fold]).all()
        for other in set(range(INNER)) - {fold}:
            assert np.abs(after / before - 1)[folds == other].max() > 0.01


def test_forms_are_ranked_and_intervals_sized_by_what_was_held_out(evidence: Evidence) -> None:
    """Within the training part: each fold by a fit to the others of that part."""
    tried, change = candidates(evidence)[:2], evidence.points.change
    part = np.arange(0, len(change), 2)
    families = np.arange(len(change))
    chosen = choose(tried, change, families, part)
    folds = random_folds(families[part], INNER, SEED + 1)
    expected = []
    for candidate in tried:
        predicted = np.zeros(len(part))
        for fold in range(INNER):
            rest, out = part[folds != fold], folds == fold
            score = fit_score(candidate.form, candidate.inputs.subset(rest), change[rest])
            predicted[out] = score.predict(candidate.inputs.subset(part[out]))
        expected.append(predicted)
    residuals = [compress(each) - compress(change[part]) for each in expected]
    assert chosen.ranking == pytest.approx([math.sqrt(np.mean(each**2)) for each in residuals])
    best = int(np.argmin(chosen.ranking))
    assert chosen.candidate.form == tried[best].form
    assert chosen.band.residual == pytest.approx(np.abs(residuals[best])[np.argsort(expected[best], kind="stable")])
    # what lies outside of the part says nothing
    other = choose(tried, np.where(np.isin(families, part), change, 5.0), families, part)
    assert (other.ranking, other.band.residual.tolist()) == (chosen.ranking, chosen.band.residual.tolist())


def test_a_form_is_not_chosen_for_what_it_learned_by_heart(evidence: Evidence) -> None:
    """Changes without rhyme or reason: what is ranked is worse than the fit to the same points."""
    tried = candidates(evidence)[1:2]
    change = np.random.default_rng(0).permutation(evidence.points.change)
    part = np.arange(len(change))
    chosen = choose(tried, change, part, part)
    in_sample = compress(chosen.score.predict(tried[0].inputs)) - compress(change)
    assert chosen.ranking[0] > 1.1 * math.sqrt(np.mean(in_sample**2))


def test_each_fold_is_predicted_by_the_form_and_the_interval_that_the_rest_chose(
    evidence: Evidence, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried, change = candidates(evidence)[:2], evidence.points.change
    families = np.arange(len(change)) // 2
    made: list[Chosen] = []
    asked: list[list[int]] = []

    def fake(found: object, values: Floats, groups: Floats, part: Floats, advance: object) -> Chosen:
        assert (found, values is change, groups is families, advance) == (tried, True, True, told)
        asked.append(part.tolist())
        residual = np.array([0.1, 0.2, 0.3]) * len(made)
        band = Band(predicted=np.array([0.0, 1.0, 2.0]), residual=residual)
        score = dataclasses.replace(TRUTH, drop=0.1 * len(made))
        made.append(Chosen(candidate=tried[len(made) % 2], score=score, band=band, ranking=[0.0]))
        return made[-1]

    def told() -> None:
        """Nothing to tell."""

    monkeypatch.setattr(crossval, "choose", fake)
    held_out, folds = nested(tried, change, families, told)
    assert (folds == random_folds(families, OUTER, SEED)).all()
    assert len(made) == OUTER == 10
    assert held_out.forms == [each.candidate.form.name for each in made]
    for fold, chosen in enumerate(made):
        out = np.flatnonzero(folds == fold)
        assert sorted([*out.tolist(), *asked[fold]]) == list(range(len(change)))
        predicted = chosen.score.predict(chosen.candidate.inputs.subset(out))
        assert held_out.predicted[out].tolist() == predicted.tolist()
        low, high = chosen.band.around(predicted)
        assert (held_out.low[out].tolist(), held_out.high[out].tolist()) == (low.tolist(), high.tolist())


def test_a_change_at_the_end_of_its_interval_is_covered() -> None:
    ends = {"low": np.array([1.0, 1.0, 1.0, 1.0]), "high": np.array([2.0, 2.0, 2.0, 2.0])}
    held_out = HeldOut(predicted=np.ones(4), forms=[], **ends)
    assert held_out.covered(np.array([1.0, 2.0, 0.99, 2.01])).tolist() == [True, True, False, False]


@pytest.mark.parametrize("count", range(1, 51))
def test_an_interval_reaches_the_residual_that_the_next_one_exceeds_once_in_ten(count: int) -> None:
    """Of n exchangeable residuals the next one is at most the k-th with odds of k / (n + 1): the least k of 9 in 10."""
    residuals = np.random.default_rng(count).permutation(np.arange(1.0, count + 1))
    (half,) = nearest_quantiles(np.arange(float(count)), residuals, np.array([count / 2]))
    rank = int(half)
    if count < 9:
        assert rank == count  # no rank is enough: the largest
    else:
        assert Fraction(rank - 1, count + 1) < Fraction(9, 10) <= Fraction(rank, count + 1)


def test_intervals_are_read_from_the_fifty_nearest() -> None:
    """Of 200 whose residuals grow with the prediction, and at the ends from the fifty at that end."""
    places = np.arange(200.0)
    halves = nearest_quantiles(places, places / 10, np.array([-5.0, 100.0, 500.0]))
    assert halves == pytest.approx([4.5, 12.0, 19.5])  # the 46th of 0 to 49, of 75 to 124, of 150 to 199
    band = Band.of(np.array([0.3, 0.1]), expand(compress(np.array([0.3, 0.1])) + np.array([0.5, -0.5])))
    low, high = band.around(np.array([0.2]))
    assert compress(high) - compress(np.array([0.2])) == pytest.approx(0.5)
    assert compress(low) + compress(high) == pytest.approx(2 * compress(np.array([0.2])))


GROWTHS: dict[str, Callable[[Floats], Floats]] = {
    "none": np.ones_like,
    "a line": lambda places: 0.05 + places,
    "an exponential": lambda places: np.exp(2 * places),
    "a step": lambda places: np.where(places < 0.5, 0.1, 0.6),
}


@pytest.mark.parametrize("growth", GROWTHS)
@pytest.mark.parametrize(("count", "least"), [(40, 0.82), (100, 0.83), (150, 0.83), (319, 0.87)])
def test_intervals_of_few_points_cover_the_largest_predictions_too(count: int, least: float, growth: str) -> None:
    """In the top tenth of predictions, where residuals are largest; without the line 0.65 to 0.72 of 40 points."""
    rng = np.random.default_rng(5)
    covered = []
    for _ in range(60):
        places, at = np.sort(rng.uniform(0, 1, count)), rng.uniform(0.9, 1, 40)
        residuals, others = (np.abs(rng.normal(size=len(x))) * GROWTHS[growth](x) for x in (places, at))
        covered.append(others <= half_widths(places, residuals, at))
    assert least < np.mean(covered) < 0.98


def test_a_half_width_follows_the_line_of_the_residuals() -> None:
    """Of residuals that are a line exactly: the line itself, and never below a quarter of their mean."""
    places = np.arange(20.0)
    assert half_widths(places, 1 + places, np.array([0.0, 7.0, 30.0])) == pytest.approx([10.5 / 4, 8.0, 31.0])
    assert half_widths(places, np.zeros(20), np.array([3.0])) == 0
    assert half_widths(np.zeros(20), places, np.array([3.0])) == 18


def test_the_rank_of_unequal_ranks_is_that_of_the_product(tmp_path: Path) -> None:
    """A core of 3 x 9 or of 9 x 3 lets three directions through."""
    found = made_sensitivity(gradients=False)
    sites = [Site(0, "q_proj"), Site(1, "q_proj"), Site(2, "up_proj")]
    factors = [Tucker(3, 9), Tucker(9, 3), LowRank(5)]
    config = Decomposition(dict(zip(sites, factors, strict=True)), frozenset({4}))
    extra = made_record(QualityCase(decomposition=config), found.spec, 0.2, 300)
    records = write_records(tmp_path, [*made_records(found, 60), extra])
    ranks = read_evidence([records], found).points.ranks[-1]
    columns = {tensor.name: place for place, tensor in enumerate(found.spec.tensors)}
    assert [int(ranks[site.layer, columns[site.tensor]]) for site in sites] == [3, 3, 5]
    assert (ranks[4] == LOST).all()
    assert (ranks == DENSE).sum() == ranks.size - len(sites) - len(columns)
