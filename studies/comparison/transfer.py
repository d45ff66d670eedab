"""A predictor fitted on one model, asked about another: `python -m studies.comparison.transfer OUT.md`.

Of a fitted score (`validate.predictor.score`) a tensor's coefficient goes to the tensor of that name, or the mean of
all where the source has none of it; the terms of the link and of interactions go as they are. Energies count in
nats, not against their mean, so that the level goes along. Beside it: the curvature of the loss with nothing fitted,
each with a scale and a bend that are fitted to a few configurations of the target, and the target's own predictor.
From committed records and sensitivity files alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from statistics import fmean

import click
import numpy as np
from scipy import optimize

from costmodel.cli import run
from costmodel.files.write import write_file
from validate.predictor.crossval import Candidate, inputs_of, masking, random_folds
from validate.predictor.errors import mean_interval, rank_correlation
from validate.predictor.evidence import Evidence, read_evidence
from validate.predictor.fitting import fit_score
from validate.predictor.points import Floats, Ints, energies
from validate.predictor.score import FLOOR, Form, Inputs, Score, compress
from validate.sensitivity.file import load_sensitivity

STUDIES = Path(__file__).parents[1]
MODELS = {
    "SmolLM2-135M": ("smollm2/smollm2.sensitivity", "smollm2/sampled"),
    "toy Llama": ("llama/llama.sensitivity", "llama/sampled"),
    "toy BERT": ("bert/bert.sensitivity", "bert/sampled"),
}
"""Sensitivity and records of each, below `studies/`."""
FORM = masking(Form(name="curvature", measure="curvature", prior=True))
"""What is carried: no coefficient of a layer, which another model has not."""
FEW = 16
_DRAWS, _FOLDS, _SEED = 20, 10, 0
_LINK = np.array([0.1, 0.3])
"""Weights of the penalties of ln scale and ln bend away from 0, next to residuals of about 0.3."""
_NO_CEILING = 1e6
"""Nats: far above any change, where a score has no ceiling of its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Known:
    """A model of which everything is known.

    Attributes:
        evidence: its records and sensitivity.
        inputs: what FORM sees of the counted configurations.
        change: measured, nats, float64 (n).
        level: mean of ln of the sites' energies, which `inputs` leaves out.
    """

    evidence: Evidence
    inputs: Inputs
    change: Floats
    level: float

    @classmethod
    def read(cls, sensitivity: str, records: str) -> Known:
        """From files below `studies/`."""
        evidence = read_evidence([STUDIES / records], load_sensitivity(STUDIES / sensitivity))
        counted = evidence.points.counted
        return cls(
            evidence=evidence,
            inputs=inputs_of(evidence, FORM, evidence.points).subset(counted),
            change=evidence.points.change[counted],
            level=float(np.log(energies(evidence.sensitivity, evidence.factors, FORM.measure)).mean()),
        )

    @property
    def tensors(self) -> list[str]:
        """Their names, in the order of coefficients."""
        return [tensor.name for tensor in self.evidence.spec.tensors]

    @cached_property
    def score(self) -> Score:
        """Fitted to all of it."""
        return fit_score(FORM, self.inputs, self.change)

    @cached_property
    def own(self) -> Floats:
        """What FORM predicts of each configuration from the others, in ten folds."""
        folds = random_folds(np.arange(len(self.change)), _FOLDS, _SEED)
        return Candidate(form=FORM, inputs=self.inputs).held_out(self.change, folds)


def carried(source: Known, target: Known) -> Score:
    """The source's score for the target's layers and tensors."""
    score = source.score
    by_name = dict(zip(source.tensors, zip(score.tensor, score.exponent, strict=True), strict=True))
    mean = float(score.tensor.mean()), float(score.exponent.mean())
    tensor, exponent = np.array([by_name.get(name, mean) for name in target.tensors]).T
    return replace(
        score,
        tensor=tensor + score.prior * (target.level - source.level),
        exponent=exponent,
        layer=np.zeros(target.evidence.spec.num_layers),
    )


def curvature(target: Known) -> Score:
    """The second-order terms of the loss, added up: nothing is fitted, and nothing has a ceiling."""
    count = len(target.tensors)
    return Score(
        tensor=np.full(count, target.level),
        exponent=np.ones(count),
        layer=np.zeros(target.evidence.spec.num_layers),
        prior=1.0,
        drop=0.0,
        ceiling=_NO_CEILING,
        bend=1.0,
        shared=0.0,
        pair=0.0,
    )


def scaled(score: Score, target: Known, chosen: Ints) -> Score:
    """With scale and bend of the link fitted to some of the target's configurations, and a ceiling above them."""
    inputs, change = target.inputs.subset(chosen), compress(target.change[chosen])
    ceiling = max(score.ceiling if score.ceiling < _NO_CEILING else 0.0, 1.5 * float(target.change[chosen].max()))

    def of(vector: Floats) -> Score:
        scale, bend = vector.tolist()
        return replace(score, tensor=score.tensor + scale, ceiling=ceiling, bend=score.bend * float(np.exp(bend)))

    def residual(vector: Floats) -> Floats:
        return np.append(compress(of(vector).predict(inputs)) - change, _LINK * vector)

    found = optimize.least_squares(residual, [0.0, 0.0], bounds=([-5.0, -1.0], [5.0, 1.0]), loss="soft_l1")
    return of(found.x)


def with_few(target: Known, fitted: Callable[[Ints], Score]) -> list[Floats]:
    """What a score fitted to FEW configurations predicts of all others, NaN of these, float64 (n) for each draw."""
    draws = np.random.default_rng(_SEED)
    found = []
    for _ in range(_DRAWS):
        few = draws.permutation(len(target.change))[:FEW]
        predicted = fitted(few).predict(target.inputs)
        predicted[few] = np.nan
        found.append(predicted)
    return found


def predictions(name: str, known: Mapping[str, Known]) -> dict[str, list[Floats]]:
    """By where it comes from, what is predicted of a model's configurations, nats, float64 (n) for each draw."""
    target, few = known[name], f"link of {FEW}"
    plain = curvature(target)

    def alone(chosen: Ints) -> Score:
        return fit_score(FORM, target.inputs.subset(chosen), target.change[chosen])

    def linked(score: Score) -> list[Floats]:
        return with_few(target, lambda chosen: scaled(score, target, chosen))

    found = {
        f"{name} itself, ten folds": [target.own],
        f"{name} itself, {FEW} alone": with_few(target, alone),
        "curvature": [plain.predict(target.inputs)],
        f"curvature, {few}": linked(plain),
    }
    for other, source in known.items():
        if other != name:
            score = carried(source, target)
            found |= {other: [score.predict(target.inputs)], f"{other}, {few}": linked(score)}
    return {**found, "the median": [np.full(len(target.change), np.median(target.change))]}


def to_markdown(known: Mapping[str, Known]) -> str:
    """A table for each model that is asked about."""
    lines = [
        "# A predictor fitted on one model, asked about another",
        "",
        f"Form: {FORM.name}. *Link of {FEW}*: scale and bend fitted to {FEW} configurations of the model that is asked "
        f"about; the mean over {_DRAWS} draws of what each gives for the others. Errors in nats, predicted minus "
        "measured; beside its own: the difference of the mean error from that of ten folds, with its 95 % interval "
        f"over configurations; typical factor: the median of the ratio, {FLOOR} nats added to both.",
    ]
    for name, target in known.items():
        lines += [
            "",
            f"## {name}, {len(target.change)} configurations",
            "",
            "| predicted by | rank correlation | mean error | beside its own | bias | typical factor |",
            "|---|---|---|---|---|---|",
        ]
        found = predictions(name, known)
        own = np.abs(target.own - target.change)
        lines += [_line(source, draws, target.change, own) for source, draws in found.items()]
    return "\n".join(lines) + "\n"


def _line(source: str, draws: list[Floats], change: Floats, own: Floats) -> str:
    errors = np.stack(draws) - change
    ranks = [rank_correlation(each[kept], change[kept]) for each in draws if (kept := ~np.isnan(each)).any()]
    known = [rank for rank in ranks if rank is not None]
    error = np.nanmean(np.abs(errors), axis=0)
    low, high = mean_interval(error - own)
    ratios = np.abs(np.log((np.maximum(np.stack(draws), 0.0) + FLOOR) / (np.maximum(change, 0.0) + FLOOR)))
    beside = "-" if low is None or high is None else f"{(error - own).mean():+.3f} [{low:+.3f}, {high:+.3f}]"
    return (
        f"| {source} | {f'{fmean(known):.3f}' if known else '-'} | {error.mean():.3f} | {beside} "
        f"| {np.nanmean(errors):+.3f} | {np.exp(np.nanmedian(ratios)):.2f} |"
    )


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("out", metavar="OUT.md")
def command(out: str) -> None:
    """Write the tables of all models."""
    known = {name: Known.read(*files) for name, files in MODELS.items()}
    write_file(Path(out), to_markdown(known).encode())


if __name__ == "__main__":
    run(command)
