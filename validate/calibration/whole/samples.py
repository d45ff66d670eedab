"""Records of whole passes -> a calibration of level `samples`, and its predictions of held-out ones.

Non-negative factors by least squares on relative errors of seconds and of the difference between configuration and
dense, pulled slightly towards what was known before: seven on the profile's roofline
(costmodel.timing.calibration.additive), or with a calibration from probes four on its times
(costmodel.timing.calibration.scaled).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.arrays import Floats
from costmodel.forward.workload import Runtime
from costmodel.hardware.profile import HardwareProfile
from costmodel.timing.calibration.file import SCHEMA
from costmodel.timing.calibration.passes import Reach
from validate.calibration.file import calibration_bytes
from validate.calibration.spread import ends
from validate.calibration.whole.basis import Basis, ProbesBasis, RooflineBasis
from validate.calibration.whole.pass_errors import pass_rows
from validate.calibration.whole.passes import MIN_SAMPLES, Passes, seconds_of
from validate.errors import FitError
from validate.speed.records import Sample

LEVEL = "samples"
MIN_MODELS = 3
"""Models from which on each is also predicted by a fit that saw only the others."""


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
        """The file; see `calibration_bytes`."""
        return calibration_bytes(self.content)


def usable(samples: Sequence[Sample], hardware: HardwareProfile) -> list[Sample]:
    """Samples with finite times of the device itself: on one that its host feeds, those of replayed graphs."""
    runtime = Runtime.GRAPH if hardware.asynchronous else Runtime.EAGER
    return [
        sample
        for sample in samples
        if sample.status == "ok"
        and sample.timing is not None
        and sample.workload["runtime"] == runtime.value
        and all(math.isfinite(t) and t > 0 for t in (*seconds_of(sample), sample.timing.ratio))
    ]


def fit_samples(
    samples: Sequence[Sample], hardware: HardwareProfile, probes: Path | None = None, *, heads_in_pairs: bool = False
) -> SamplesFit:
    """Fit and cross-validate.

    Args:
        samples: of one device, type and stack; those that failed or have no finite time are passed over.
        hardware: the profile that they were predicted with.
        probes: a calibration file of level probes to stand on instead of the profile's roofline.
        heads_in_pairs: see `Passes.of`.

    Raises:
        FitError: when they are too few or not of one device and type, or a model of theirs had other parameters than
            are counted today; its text is one line.
        HardwareError: when the profile has no rate for the type.
        CalibrationError: when the probes' file cannot be read or is of another device.
    """
    good = usable(samples, hardware)
    if len(good) < MIN_SAMPLES:
        how = "replayed graphs" if hardware.asynchronous else "samples"
        raise FitError(f"{len(good)} usable {how}", allowed=f"at least {MIN_SAMPLES}")
    stack: str | None = good[0].workload.get("stack")
    kinds = {(sample.hardware, sample.workload["dtype"], sample.workload.get("stack") or "torch") for sample in good}
    if len(kinds) > 1 or good[0].hardware != hardware.name:
        named = ", ".join(sorted(f"{device} {dtype} {stack}" for device, dtype, stack in kinds))
        allowed = f"{hardware.name}, one type and stack"
        raise FitError("records of another device, or of several", value=named, allowed=allowed)
    _require_counted(good)
    work = good[0].work()
    device = (hardware, work.dtype, work.runtime)
    basis: Basis = RooflineBasis.of(*device) if probes is None else ProbesBasis.of(probes, *device)
    problem = Passes.of(good, basis, heads_in_pairs=heads_in_pairs)
    predicted, folds = problem.held_out(problem.configurations)
    factors = problem.solve(np.arange(len(good)), np.arange(len(good)))
    if not factors[: basis.gemm_parts].any():
        raise FitError("the fit leaves no time to GEMMs", hint="measure more samples, or undisturbed ones")
    known = np.flatnonzero(np.isfinite(predicted[:, 0]))
    if len(known) < MIN_SAMPLES:
        raise FitError("too few configurations to hold any out", value=len(set(problem.configurations)))
    residuals = np.log(problem.seconds[known] / predicted[known]).clip(-10, 10).ravel()
    low, high = ends(residuals)
    tokens = [each.work().tokens for each in good]
    lengths = [each.work().kv_len for each in good]
    reach = Reach(
        low=min(0.0, float(low)),
        high=max(0.0, float(high)),
        tokens=(min(tokens), max(tokens)),
        kv_len=(min(lengths), max(lengths)),
        models=tuple(sorted({each.model.name for each in good})),
    )
    form = basis.content(factors, reach)
    day = min(each.started for each in good)[:10]
    source = {"source": f"{len(good)} samples of {len(reach.models)} model(s), {day}", "licence": "own measurements"}
    levels = {f"{LEVEL}, configurations held out ({folds} folds)": _pairs(good, predicted)}
    if len(reach.models) >= MIN_MODELS:
        unseen, _ = problem.held_out([each.model.name for each in good])
        levels[f"{LEVEL}, whole models held out"] = _pairs(good, unseen)
    if probes is not None:
        levels = {"probes, no model seen": _pairs(good, problem.parts @ basis.start), **levels}
    content = {
        **form,
        "schema": SCHEMA,
        "hardware": hardware.name,
        "dtypes": [work.dtype.value],
        "runtimes": [work.runtime.value],
        "level": LEVEL,
        "provenance": [*form["provenance"], source],
        "errors": [*form["errors"], *pass_rows(good, levels)],
        **({"stack": stack} if stack else {}),
    }
    return SamplesFit(content=content, predicted=_pairs(good, predicted), folds=folds)


def _require_counted(samples: Sequence[Sample]) -> None:
    """Raise FitError where a record's model was another one than its configuration stands for today."""
    for sample in samples:
        spec = sample.spec()
        counted = sample.decomposition(spec).params(spec)
        built = [check.found for check in sample.identity if check.name == "params" and check.found != counted]
        if built:
            raise FitError(
                f"sample {sample.id} measured another {sample.model.name} than its configuration names",
                value=f"{built[0]:,} parameters",
                allowed=f"{counted:,}",
                hint="architectures in its record says which class it was",
            )


def _pairs(samples: Sequence[Sample], seconds: Floats) -> dict[str, tuple[float, float]]:
    """Sample id -> seconds of dense and of the configuration, where they are known."""
    return {
        each.id: (float(dense), float(own))
        for each, (own, dense) in zip(samples, seconds, strict=True)
        if math.isfinite(own)
    }
