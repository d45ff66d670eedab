"""From records and sensitivity to a predictor with everything that is known of its errors. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from validate.predictor.additivity import additivity_rows, interaction_rows
from validate.predictor.crossval import (
    OUTER,
    Candidate,
    Chosen,
    HeldOut,
    candidates,
    choose,
    nested,
)
from validate.predictor.errors import error_rows, rank_correlation
from validate.predictor.evidence import Evidence
from validate.predictor.fitting import fit_score
from validate.predictor.interval import LEVEL, Band
from validate.predictor.nulls import null_predictions
from validate.predictor.parts import families, find_covers
from validate.predictor.points import Floats, Ints
from validate.predictor.task_link import TaskLink, fit_tasks

_FEWEST_OUT, _FEWEST_IN = 8, 40
"""Configurations of a stratum that is held out whole, and of the rest that is fitted to."""
CROSS = f"{OUTER}-fold, form chosen inside"
OTHERS = f"{CROSS}, configurations that were not sampled"
Show = Callable[[str, float, float], None]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PredictorFit:
    """A predictor and its held-out errors.

    Attributes:
        evidence: what it was fitted to.
        chosen: the form and its coefficients, fitted to everything.
        band: intervals from the residuals of all held-out predictions.
        held_out: predictions that nothing was fitted to.
        errors: rows of `error_rows`, cross-validated and by stratum.
        additivity, interactions: rows of `additivity_rows` and `interaction_rows`.
        links, tasks: of NLL to accuracy, and rows of their errors.
    """

    evidence: Evidence
    chosen: Chosen
    band: Band
    held_out: HeldOut
    errors: Sequence[Mapping[str, Any]]
    additivity: Sequence[Mapping[str, Any]]
    interactions: Sequence[Mapping[str, Any]]
    links: Sequence[TaskLink]
    tasks: Sequence[Mapping[str, Any]]
    ranking: Mapping[str, float]

    @property
    def spearman(self) -> float | None:
        """Held out, over the counted configurations."""
        points = self.evidence.points
        return rank_correlation(self.held_out.predicted[points.counted], points.change[points.counted])

    @property
    def coverage(self) -> float:
        """Share of the counted configurations' held-out measurements inside their 90 % intervals."""
        points = self.evidence.points
        return float(self.held_out.covered(points.change)[points.counted].mean())

    def summary(self) -> dict[str, Any]:
        """What a quality file and JSON output say of the fit."""
        score, form = self.chosen.score, self.chosen.candidate.form
        spec, points = self.evidence.spec, self.evidence.points
        return {
            "form": form.name,
            "points": len(points),
            "failed": self.evidence.failed,
            "origins": dict(Counter(record.origin for record in points.records)),
            "counted": int(points.counted.sum()),
            "spearman": self.spearman,
            "coverage": self.coverage,
            "level": LEVEL,
            "interactions": list(self.interactions),
            "forms_chosen": dict(Counter(self.held_out.forms)),
            "forms_rms": dict(self.ranking),
            "coefficients": {
                "tensor": dict(zip([t.name for t in spec.tensors], score.tensor.tolist(), strict=True)),
                "exponent": dict(zip([t.name for t in spec.tensors], score.exponent.tolist(), strict=True)),
                "layer": score.layer.tolist(),
                "prior": score.prior,
                "drop": score.drop,
                "ceiling": score.ceiling,
                "bend": score.bend,
                "shared": score.shared,
                "pair": score.pair,
            },
        }


def fit_predictor(evidence: Evidence, show: Show = lambda text, done, total: None) -> PredictorFit:
    """Choose a form, fit it, and hold it against null models on configurations and strata that it has not seen."""
    points, change = evidence.points, evidence.points.change
    found = candidates(evidence)
    total, done = (OUTER + 1) * len(found) + 12, 0

    def advance(text: str = "holding out configurations") -> None:
        nonlocal done
        done += 1
        show(text, done, total)

    show("holding out configurations", 0, total)
    covers = find_covers(evidence)
    related = families(evidence, covers)
    held_out, folds = nested(found, change, related, advance)
    chosen = choose(found, change, related, np.arange(len(points)), lambda: advance("fitting"))
    errors = _errors(evidence, held_out, null_predictions(evidence, folds), related)
    for stratum in ("form", "layers"):
        errors += _without(evidence, chosen.candidate, stratum, related, lambda: advance("holding out strata"))
    form = replace(chosen.candidate.form, shared=False, pair=False)
    straight = replace(chosen.candidate, form=form).held_out(change, folds, straight=True)
    links, tasks = fit_tasks(evidence, held_out.predicted, folds, related)
    return PredictorFit(
        evidence=evidence,
        chosen=chosen,
        band=Band.of(held_out.predicted, change),
        held_out=held_out,
        errors=errors,
        additivity=additivity_rows(evidence, straight, covers, related),
        interactions=interaction_rows(chosen.candidate, change, related),
        links=links,
        tasks=tasks,
        ranking={each.form.name: value for each, value in zip(found, chosen.ranking, strict=True)},
    )


def _errors(evidence: Evidence, held_out: HeldOut, nulls: Mapping[str, Floats], families: Ints) -> list[dict[str, Any]]:
    """Rows of the counted configurations, and of all others together if there are enough."""
    points, covered = evidence.points, held_out.covered(evidence.points.change)
    rows: list[dict[str, Any]] = []
    for protocol, chosen in ((CROSS, points.counted), (OTHERS, ~points.counted)):
        if protocol == CROSS or chosen.sum() >= _FEWEST_OUT:
            own = {name: values[chosen] for name, values in nulls.items()}
            found = error_rows(
                protocol, points.change[chosen], held_out.predicted[chosen], own, covered[chosen], families[chosen]
            )
            rows += [row for row in found if protocol == CROSS or row["band"] == "all"]
    return rows


def _without(
    evidence: Evidence, candidate: Candidate, stratum: str, families: Ints, advance: Callable[[], None]
) -> list[dict[str, Any]]:
    """Errors on the counted configurations of each class of a stratum, by a fit to those of all other classes which are
    of other families; the form is the one chosen on everything."""
    classes = np.array(evidence.points.strata(stratum))
    rows: list[dict[str, Any]] = []
    for name in sorted(set(classes.tolist())):
        wanted = (classes == name) & evidence.points.counted
        others = (classes != name) & ~np.isin(families, families[wanted])
        if wanted.sum() < _FEWEST_OUT or others.sum() < _FEWEST_IN:
            continue
        points, inputs = evidence.points.subset(wanted | others), candidate.inputs.subset(wanted | others)
        out, change = wanted[wanted | others], points.change
        score = fit_score(candidate.form, inputs.subset(~out), change[~out])
        predicted = score.predict(inputs.subset(out))
        folds: Ints = np.where(out, 1, 0)
        nulls = null_predictions(replace(evidence, points=points), folds)
        own = {key: values[out] for key, values in nulls.items()}
        found = error_rows(f"without {stratum} {name}", change[out], predicted, own, families=families[wanted])
        rows += [row for row in found if row["band"] == "all"]
        advance()
    return rows
