"""Records of whole passes -> a calibration of level `samples`, and its predictions of held-out ones. No torch.

Seven non-negative factors on the profile's roofline (costmodel.calibration_additive) by least squares on relative
errors of seconds and of the difference between configuration and dense, pulled slightly towards the datasheet.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from costmodel.calibration_additive import FORM, AdditiveForm
from costmodel.calibration_file import SCHEMA
from costmodel.decomposition import Decomposition
from costmodel.graph import forward_ops
from costmodel.hardware import HardwareProfile
from costmodel.model_spec import ModelSpec
from costmodel.roofline import DatasheetRoofline, Floats, OpColumns
from costmodel.workload import Runtime, Workload
from validate import statistics
from validate.errors import FitError
from validate.metrics import measured
from validate.records import Sample

LEVEL = "samples"
MIN_SAMPLES = 8
FOLDS = 10
_RIDGE = 0.3
"""Weight of the pull towards the datasheet, in passes."""
_LEAST_PULL = 0.05
"""The same for a factor whose operations take little of any measured pass: its size is hardly known, and elsewhere they
may take most of it."""
_DIFFERENCE = 2.0
"""Weight of the difference between configuration and dense, which drift of the machine leaves alone."""
_DENSE = Decomposition()
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SamplesFit:
    """What records gave.

    Attributes:
        content: the calibration file.
        predicted: sample id -> seconds of dense and of the configuration, from a fit that saw neither.
        folds: in how many parts the configurations were held out.
    """

    content: Mapping[str, Any]
    predicted: Mapping[str, tuple[float, float]]
    folds: int
    level: str = LEVEL

    def to_bytes(self) -> bytes:
        """The file."""
        return (json.dumps(self.content, indent=1) + "\n").encode()


def usable(samples: Sequence[Sample], hardware: HardwareProfile) -> list[Sample]:
    """Samples with finite times of the device itself: on one that its host feeds, those of replayed graphs."""
    runtime = Runtime.GRAPH if hardware.asynchronous else Runtime.EAGER
    return [
        sample for sample in samples
        if sample.status == "ok" and sample.timing is not None and sample.workload["runtime"] == runtime.value
        and all(math.isfinite(t) and t > 0 for t in (*_seconds(sample), sample.timing.ratio))
    ]  # fmt: skip


def fit_samples(samples: Sequence[Sample], hardware: HardwareProfile) -> SamplesFit:
    """Fit and cross-validate.

    Args:
        samples: of one device and type; those that failed or have no finite time are passed over.
        hardware: the profile that they were predicted with.

    Raises:
        FitError: when they are too few or not of one device and type; its text is one line.
        HardwareError: when the profile has no rate for the type.
    """
    good = usable(samples, hardware)
    if len(good) < MIN_SAMPLES:
        how = "replayed graphs" if hardware.asynchronous else "samples"
        raise FitError(f"{len(good)} usable {how}", allowed=f"at least {MIN_SAMPLES}")
    kinds = {(sample.hardware, sample.workload["dtype"]) for sample in good}
    if len(kinds) > 1 or good[0].hardware != hardware.name:
        named = ", ".join(sorted(f"{device} {dtype}" for device, dtype in kinds))
        raise FitError("records of another device, or of several", value=named, allowed=f"{hardware.name}, one type")
    work = good[0].work()
    form = AdditiveForm.of(hardware, work.dtype)
    kernel_s = DatasheetRoofline.of(hardware, work.dtype, work.runtime).kernel_s
    problem = _Problem.of(good, form, np.array([*form.factors[:-1], kernel_s]))
    predicted, folds = problem.held_out()
    factors = problem.solve(np.arange(len(good)), np.arange(len(good)))
    if not factors[:2].any():
        raise FitError("the fit leaves no time to GEMMs", hint="measure more samples, or undisturbed ones")
    known = np.flatnonzero(np.isfinite(predicted[:, 0]))
    if len(known) < MIN_SAMPLES:
        raise FitError("too few configurations to hold any out", value=len(set(problem.configurations)))
    residuals = np.log(problem.seconds[known] / predicted[known]).clip(-10, 10).ravel()
    ratios = np.array([measured(each).ratio for each in good])
    tokens = [each.work().tokens for each in good]
    lengths = [each.work().kv_len for each in good]
    form = replace(
        form, factors=tuple(factors.tolist()),
        low=min(0.0, float(np.quantile(residuals, 0.05))), high=max(0.0, float(np.quantile(residuals, 0.95))),
        tokens=(min(tokens), max(tokens)), kv_len=(min(lengths), max(lengths)),
        models=tuple(sorted({each.model.name for each in good})),
    )  # fmt: skip
    content = {
        "schema": SCHEMA, "form": FORM, "hardware": hardware.name, "dtypes": [work.dtype.value],
        "runtimes": [work.runtime.value], "level": LEVEL,
        "provenance": [{"source": f"{len(good)} samples, {min(each.started for each in good)[:10]}",
                        "licence": "own measurements"}],
        "errors": _errors(problem, predicted, ratios, folds), **form.to_json(),
    }  # fmt: skip
    pairs = {good[i].id: (float(predicted[i, 1]), float(predicted[i, 0])) for i in known}
    return SamplesFit(content=content, predicted=pairs, folds=folds)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Problem:
    """Samples as arrays; axis 1 is configuration, dense.

    Attributes:
        parts: (samples, 2, parts); `seconds` (samples, 2).
        start: the factors without measurements.
        configurations: of each sample, whatever its workload; of a dense one, with its workload.
        references: the dense pass of each sample.
    """

    parts: Floats
    seconds: Floats
    start: Floats
    configurations: tuple[str, ...]
    references: tuple[str, ...]

    @classmethod
    def of(cls, samples: Sequence[Sample], form: AdditiveForm, start: Floats) -> _Problem:
        parts, configurations, references = [], [], []
        for sample in samples:
            spec, work = sample.spec(), sample.work()
            decomposition = sample.decomposition(spec)
            parts.append([_parts(form, spec, each, work) for each in (decomposition, _DENSE)])
            model = f"{sample.model.name} {sample.model.num_layers}"
            reference = f"{model} {json.dumps(sample.workload, sort_keys=True)}"
            dense = sample.strata.form == "dense"
            configurations.append(reference if dense else f"{model} {json.dumps(decomposition.to_json())}")
            references.append(reference)
        return cls(parts=np.array(parts), seconds=np.array([_seconds(each) for each in samples]), start=start,
                   configurations=tuple(configurations), references=tuple(references))  # fmt: skip

    def solve(self, own: Indices, dense: Indices) -> Floats:
        """The factors that fit the configurations of samples `own` and the dense passes of samples `dense`.

        Raises:
            FitError: when they are not found.
        """
        shares = self.parts / self.seconds[..., None]
        passes = np.concatenate([shares[own, 0], shares[dense, 1]])
        both = np.intersect1d(own, dense)
        difference = _DIFFERENCE * (shares[both, 0] - shares[both, 1])
        scale = np.sqrt((passes**2).mean(axis=0))
        # columns of like size, so that the seconds of a kernel are not lost beside the factors
        unit = np.where(scale > 0, scale, 1.0)
        weight = _RIDGE * unit
        weight[:-1] = np.maximum(weight[:-1], _LEAST_PULL)
        pull = np.diag(weight)
        known = np.concatenate([np.ones(len(passes)), np.zeros(len(both)), pull @ self.start])
        try:
            solution, _ = nnls(np.concatenate([passes, difference, pull]) / unit, known)
        except RuntimeError as error:
            raise FitError("the fit does not converge", hint=str(error)) from error
        return np.asarray(solution / unit, dtype=np.float64)

    def held_out(self) -> tuple[Floats, int]:
        """Seconds of both passes of each sample from fits without its configuration and without its dense pass, NaN
        where too little was left; and the number of folds."""
        names = list(dict.fromkeys(self.configurations))
        folds = min(FOLDS, len(names))
        place = {name: index % folds for index, name in enumerate(names)}
        predicted = np.full(self.seconds.shape, np.nan)
        for fold in range(folds):
            test, own, dense = self.split([name for name in names if place[name] == fold])
            if len(own) + len(dense) >= MIN_SAMPLES:
                predicted[test] = self.parts[test] @ self.solve(own, dense)
        predicted[~(predicted > 0).all(axis=1)] = np.nan
        return predicted, folds

    def split(self, names: Sequence[str]) -> tuple[Indices, Indices, Indices]:
        """Samples of the configurations `names`; those whose own pass, and those whose dense pass may be fitted to."""
        held = set(names)
        test = [index for index, name in enumerate(self.configurations) if name in held]
        gone = held | {self.references[index] for index in test}
        own = [index for index, name in enumerate(self.configurations) if name not in gone]
        dense = [index for index, name in enumerate(self.references) if name not in gone]
        return tuple(np.array(each, dtype=np.int64) for each in (test, own, dense))  # type: ignore[return-value]


def _parts(form: AdditiveForm, spec: ModelSpec, decomposition: Decomposition, work: Workload) -> Floats:
    ops = OpColumns.of(forward_ops(spec, decomposition, work))
    return np.asarray(form.parts(ops).sum(axis=-1), dtype=np.float64)


def _seconds(sample: Sample) -> tuple[float, float]:
    timing = measured(sample)
    return timing.candidate.median_s, timing.dense.median_s


def _errors(problem: _Problem, predicted: Floats, ratios: Floats, folds: int) -> list[dict[str, Any]]:
    known = np.isfinite(predicted[:, 0])
    factored = known & (np.array(problem.configurations) != np.array(problem.references))
    ratio_errors = predicted[:, 0] / predicted[:, 1] / ratios - 1
    second_errors = predicted / problem.seconds - 1
    rows = []
    for subset, errors in (("ratio to dense", ratio_errors[factored]), ("seconds", second_errors[known].ravel())):
        if len(errors) == 0:
            continue
        found = statistics.summary(errors.tolist())
        rows.append({
            "kind": "pass", "subset": subset, "protocol": f"configurations, {folds} folds", "points": len(errors),
            **{f"{name}_pct": round(100 * found[name], 2) for name in ("mean", "median", "p95", "bias")},
        })  # fmt: skip
    return rows
