"""Made-up sensitivities and records whose changes of NLL follow known coefficients; nothing here needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from validating import LLAMA, tiny_spec

from costmodel.decomposition.factors import Decomposition, Site
from costmodel.model import ModelSpec
from validate.plans.case import params_of, strata_of
from validate.predictor.points import DENSE, LOST, Floats, Measure, Points, energies, lookup, site_errors
from validate.predictor.score import Inputs, Score
from validate.quality.case import QualityCase
from validate.quality.plan import sample_cases
from validate.quality.records import QUALITY, CheckpointRecord, QualityRecord, TaskRecord, TextRecord
from validate.sensitivity.file import Sensitivity, SensitivityRun
from validate.sensitivity.spectra import LossTerms, SiteSpectra
from validate.store.digests import Source

CONFIG: dict[str, Any] = {**LLAMA, "num_hidden_layers": 6}
BLOCKS, ITEMS = 8, 400
TRUTH = Score(
    tensor=np.log([0.02, 0.02, 0.1, 0.15, 0.2, 0.3, 0.4]),
    layer=np.array([0.7, 0.3, 0.0, -0.2, -0.5, -0.3]),
    exponent=np.array([1.6, 1.4, 1.2, 1.0, 1.0, 0.9, 1.1]),
    prior=0.7,
    drop=-0.4,
    ceiling=4.0,
    bend=1.15,
    shared=0.0,
    pair=0.0,
)


def made_sensitivity(
    *, gradients: bool = True, seed: int = 0, config: dict[str, Any] = CONFIG, checkpoint: str | None = "model"
) -> Sensitivity:
    """Spectra that fall at another pace at each site."""
    rng, spec = np.random.default_rng(seed), tiny_spec(config)
    sites = {}
    for layer in range(spec.num_layers):
        for tensor in spec.tensors:
            size = min(tensor.out_features, tensor.in_features)
            singular = np.exp(-np.arange(size) * rng.uniform(0.01, 0.08)) * rng.uniform(0.5, 2)
            output = singular**2 * rng.lognormal(0, 0.5, size)
            loss = None
            if gradients:
                curve = output * rng.uniform(0.001, 0.01)
                loss = LossTerms(
                    slope_plain=curve * 0,
                    slope_whitened=curve * 0,
                    curvature_plain=curve,
                    curvature_whitened=falling(curve),
                    gradient=rng.lognormal(-6, 0.7),
                )
            whitened = falling(output * rng.lognormal(0, 0.5, size))
            sites[Site(layer, tensor.name)] = SiteSpectra(
                singular_values=singular, plain_output=output, whitened=whitened, loss=loss
            )
    run = SensitivityRun(
        model="tiny",
        config=config,
        weights="0",
        text="0",
        blocks=4,
        length=16,
        dtype="fp32",
        device="cpu",
        gradients=gradients,
        nll=3.0,
        seed=0,
        whole="",
        versions={},
        seconds=1.0,
        checkpoint=checkpoint,
    )
    return Sensitivity(run=run, spec=spec, sites=sites)


def falling(values: Floats) -> Floats:
    """In descending order."""
    return np.ascontiguousarray(np.sort(values)[::-1])


def ranks_of(configs: Sequence[Decomposition], spec: ModelSpec) -> np.ndarray[Any, Any]:
    """As `Points.ranks`, by another way than the code under test."""
    ranks = np.full((len(configs), spec.num_layers, len(spec.tensors)), DENSE)
    for place, config in enumerate(configs):
        for layer in range(spec.num_layers):
            for column, tensor in enumerate(spec.tensors):
                if layer in config.dropped:
                    ranks[place, layer, column] = LOST
                elif (factor := config.factors.get(Site(layer, tensor.name))) is not None:
                    ranks[place, layer, column] = factor.ranks[0]
    return ranks


def inputs_of_ranks(found: Sensitivity, ranks: np.ndarray[Any, Any], measure: Measure = "output") -> Inputs:
    """What a form with a prior sees."""
    points = Points(records=(), ranks=ranks, change=np.zeros(len(ranks)), removed=np.zeros(len(ranks)))
    return Inputs.of(
        lookup(site_errors(found, "plain", measure), ranks),
        points.touched,
        points.dropped,
        energies(found, "plain", measure),
    )


def made_records(
    found: Sensitivity, count: int, *, truth: Score = TRUTH, noise: float = 0.05, seed: int = 0, tasks: bool = False
) -> list[QualityRecord]:
    """The dense model and a sample of others: changes of NLL of `truth` with relative noise, accuracies of these."""
    rng, spec = np.random.default_rng(seed), found.spec
    cases = sample_cases(spec, count, seed)
    change = truth.predict(inputs_of_ranks(found, ranks_of([case.decomposition for case in cases], spec)))
    change = change * np.exp(noise * rng.normal(size=len(change))) + 0.001 * noise * rng.normal(size=len(change))
    change[0] = 0.0
    return [
        made_record(case, spec, float(value), index, rng, tasks)
        for index, (case, value) in enumerate(zip(cases, change, strict=True))
    ]


def made_record(
    case: QualityCase, spec: ModelSpec, change: float, index: int = 0, rng: Any = None, tasks: bool = False
) -> QualityRecord:
    """The record of a case whose NLL is that much above the dense model's 3 nats."""
    decomposition = case.decomposition
    text = TextRecord(
        kind="causal",
        source=Source(name="t", sha256="0"),
        length=11,
        tokens=[10] * BLOCKS,
        nll=[10 * (3.0 + change)] * BLOCKS,
        kl=[0.0] * BLOCKS,
        flips=[0] * BLOCKS,
        hits=[0] * BLOCKS,
    )
    bits = "".join(str(int(value)) for value in rng.random(ITEMS) < accuracy_of(change)) if tasks else ""
    task = TaskRecord(
        name="toy", group="toy", kind="multiple-choice", items=ITEMS, prompts="p", chance=0.25, metrics={"acc": bits}
    )
    return QualityRecord(
        id=case.id(spec, "model"),
        index=index,
        status="ok",
        config=decomposition.to_json(),
        origin="sample",
        model=CheckpointRecord(name="tiny", sha256="model", config=CONFIG, num_layers=spec.num_layers),
        factors=case.kind,
        strata=strata_of(spec, decomposition),
        params=params_of(spec, decomposition),
        text=text,
        tasks=(task,) if tasks else (),
        seconds={},
        environment={},
        started="2026-01-02T03:04:05+00:00",
    )


def accuracy_of(change: float | Floats) -> float | Floats:
    """0.85 of the dense model, 0.25 of none."""
    return 0.25 + 0.6 * np.exp(-np.maximum(change, 0.0) / 0.8)


def write_records(folder: Path, records: Sequence[QualityRecord]) -> Path:
    """As a run leaves them."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / QUALITY.file).write_bytes(b"".join(map(QUALITY.encode, records)))
    return folder
