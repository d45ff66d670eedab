"""Held-out predictions: the form chosen and intervals sized on the training part alone, then read on the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from validate.predictor.evidence import Evidence
from validate.predictor.fitting import fit_score
from validate.predictor.interval import Band
from validate.predictor.points import Floats, Ints, Points, energies, lookup, site_errors
from validate.predictor.score import Form, Inputs, Score, compress

OUTER, INNER, SEED = 10, 5, 0
"""Folds of configurations: those that are held out, and those of the rest that the form is chosen on."""
Advance = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """One form and what it sees of all configurations."""

    form: Form
    inputs: Inputs

    def held_out(self, change: Floats, folds: Ints, *, straight: bool = False) -> Floats:
        """Predictions of each fold by a fit to the others, nats, float64 (n).

        Args:
            straight: with the score itself as the prediction, no link.
        """
        predicted = np.zeros(len(change))
        for fold in range(int(folds.max()) + 1):
            out = folds == fold
            score = fit_score(self.form, self.inputs.subset(~out), change[~out], straight=straight)
            predicted[out] = score.predict(self.inputs.subset(out))
        return predicted


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HeldOut:
    """What a predictor said of configurations that it was not fitted to, float64 (n) each, nats.

    Attributes:
        predicted: change of NLL.
        low, high: its 90 % interval.
        forms: names of the forms that were chosen, one for each fold.
    """

    predicted: Floats
    low: Floats
    high: Floats
    forms: Sequence[str]

    def covered(self, change: Floats) -> NDArray[np.bool_]:
        """Whether each measured change is inside its interval, bool (n)."""
        return np.asarray((self.low <= change) & (change <= self.high))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """The form of least error within a training part, fitted to all of it.

    Attributes:
        candidate: the form, with what it sees of all configurations.
        score: its coefficients.
        band: intervals from its residuals within the training part.
        ranking: root mean square error of every form on the compressed scale, in the order of the candidates.
    """

    candidate: Candidate
    score: Score
    band: Band
    ranking: Sequence[float]


def candidates(evidence: Evidence) -> list[Candidate]:
    """The forms that are tried: few, so that choosing among them costs little honesty."""
    plain, gradients = evidence.factors == "plain", evidence.sensitivity.run.gradients
    tensors = Form(name="output error", measure="output")
    layers = replace(tensors, name=f"{tensors.name}, layers", layers=True)
    forms = [tensors, layers, masking(layers)]
    if not gradients and plain:
        forms += [masking(replace(layers, name="whitened error, layers", measure="whitened"))]
    if gradients:
        prior = replace(tensors, name=f"{tensors.name}, Fisher prior", prior=True)
        both = replace(layers, name=f"{tensors.name}, Fisher prior, layers", prior=True)
        curvature = replace(prior, name="curvature", measure="curvature")
        forms += [prior, masking(prior), masking(both), masking(curvature)]
        if plain:
            prior = replace(prior, name="whitened error, Fisher prior", measure="whitened")
            forms += [masking(prior)]
    last = forms[-1]
    forms += [replace(last, name=f"{last.name} and between neighbours", pair=True)]
    if evidence.spec.num_layers == 1:  # a quality file has interactions of neighbouring layers alone
        forms = [form for form in forms if not form.states]
    return [Candidate(form=form, inputs=inputs_of(evidence, form, evidence.points)) for form in forms]


def masking(form: Form) -> Form:
    """The form with damages of one layer masking each other."""
    return replace(form, name=f"{form.name}, interactions within layers", shared=True)


def inputs_of(evidence: Evidence, form: Form, points: Points) -> Inputs:
    """What a form sees of configurations."""
    tables = site_errors(evidence.sensitivity, evidence.factors, form.measure)
    energy = energies(evidence.sensitivity, evidence.factors, form.measure)
    return Inputs.of(
        lookup(tables, points.ranks), points.touched, points.dropped, energy if form.prior else np.ones_like(energy)
    )


def choose(
    found: Sequence[Candidate], change: Floats, families: Ints, part: Ints, advance: Advance = lambda: None
) -> Chosen:
    """The best form by cross-validation within `part`, the places of a training part."""
    folds = random_folds(families[part], INNER, SEED + 1)
    target = compress(change[part])
    predictions, ranking = [], []
    for each in found:
        inside = Candidate(form=each.form, inputs=each.inputs.subset(part))
        predictions.append(inside.held_out(change[part], folds))
        ranking.append(float(np.sqrt(np.mean((compress(predictions[-1]) - target) ** 2))))
        advance()
    best = int(np.argmin(ranking))
    candidate = found[best]
    return Chosen(
        candidate=candidate,
        score=fit_score(candidate.form, candidate.inputs.subset(part), change[part]),
        band=Band.of(predictions[best], change[part]),
        ranking=ranking,
    )


def nested(
    found: Sequence[Candidate], change: Floats, families: Ints, advance: Advance = lambda: None
) -> tuple[HeldOut, Ints]:
    """Held-out predictions and intervals in which nothing, the form included, has seen what is held out; its folds."""
    folds = random_folds(families, OUTER, SEED)
    predicted, low, high = (np.zeros(len(change)) for _ in range(3))
    forms = []
    for fold in range(int(folds.max()) + 1):
        out = np.flatnonzero(folds == fold)
        best = choose(found, change, families, np.flatnonzero(folds != fold), advance)
        predicted[out] = best.score.predict(best.candidate.inputs.subset(out))
        low[out], high[out] = best.band.around(predicted[out])
        forms.append(best.candidate.form.name)
    return HeldOut(predicted=predicted, low=low, high=high, forms=forms), folds


def random_folds(families: Ints, folds: int, seed: int) -> Ints:
    """The fold of each configuration, int64 (n), families together; the largest first, each into the emptiest fold."""
    _, member, sizes = np.unique(families, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(sizes))
    fold_of, filled = np.zeros(len(sizes), dtype=np.int64), np.zeros(folds, dtype=np.int64)
    for family in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[family] = np.argmin(filled)
        filled[fold_of[family]] += sizes[family]
    return np.asarray(fold_of[member])
