"""How wrong predictions were: errors by level beside null models and noise floor. Reads records only; no torch."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from validate.speed import statistics
from validate.speed.records import Sample, Timing

NULL_MODELS: dict[str, float] = {"time ~ parameters": 1.0, "time ~ 0.6 x parameters": 0.6}
"""Null models that any prediction must beat: the saving in time is this part of the saving in parameters."""

Predicted = Mapping[str, tuple[float, float]]
"""Sample id -> predicted seconds of dense and of the configuration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRow:
    """Errors of one prediction over some samples; fractions, positive where it says too much.

    `tau` is the rank correlation with what was measured, `sign_right` the share of `decided` samples for which "faster
    than dense?" was answered right; a sample is decided when its interval and the noise floor exclude a ratio of 1.
    """

    name: str
    count: int
    bias: float
    median: float
    p95: float
    worst: float
    tau: float | None = None
    sign_right: float | None = None
    decided: int = 0
    mean: float

    def to_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseFloor:
    """What a perfect prediction would still be off by.

    Attributes:
        repeats: samples measured twice; `median` and `worst` are of |ln(first / second)| / sqrt(2), the deviation of a
            single measurement.
        dense: comparisons of the dense model with itself; `dense_worst` is the largest |ratio - 1|.
        half_width: median half-width of the intervals.
        disturbed: samples during which something else used the machine.
    """

    repeats: int
    median: float | None
    worst: float | None
    dense: int
    dense_worst: float | None
    half_width: float | None
    disturbed: int

    @property
    def floor(self) -> float:
        """The deviation that counts as noise: the repeats' median, else the intervals' half-width, else 0."""
        return self.median if self.median is not None else (self.half_width or 0.0)

    def to_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """Records turned into error tables.

    Attributes:
        ratios: errors of the predicted ratio to dense, one row per level and null model.
        latencies: errors of predicted seconds, one row per level; of the configurations and of dense, each once.
        groups: the best level's ratio errors by stratum: name of the stratum -> rows.
        level: the level that `groups` are of, and that a gate looks at.
    """

    samples: Sequence[Sample]
    failed: Sequence[Sample]
    noise: NoiseFloor
    ratios: Sequence[ErrorRow]
    latencies: Sequence[ErrorRow]
    groups: Mapping[str, Sequence[ErrorRow]]
    level: str | None

    @property
    def gate(self) -> float | None:
        """Median error of the best level's ratio, which --fail-above looks at; None without comparable samples."""
        return next((row.median for row in self.ratios if row.name == self.level), None)

    def to_json(self) -> dict[str, object]:
        return {
            "samples": len(self.samples) + len(self.failed),
            "ok": len(self.samples),
            "failed": len(self.failed),
            "identity_ok": sum(all(c.expected == c.found for c in s.identity) for s in self.samples),
            "noise_floor": self.noise.to_json(),
            "ratio_errors": [row.to_json() for row in self.ratios],
            "latency_errors": [row.to_json() for row in self.latencies],
            "level": self.level,
            "groups": {name: [row.to_json() for row in rows] for name, rows in self.groups.items()},
        }


def measured(sample: Sample) -> Timing:
    """The timing of a sample that has one."""
    if sample.timing is None:
        raise ValueError(f"sample {sample.id} was not measured")
    return sample.timing


def evaluate(samples: Iterable[Sample], extra: Mapping[str, Predicted] | None = None) -> Evaluation:
    """Error tables of a run.

    Args:
        samples: the records.
        extra: further levels by name, such as held-out predictions of a fit; they replace a recorded level of that
            name. The last level is the best one.
    """
    everything = list(samples)
    good = [sample for sample in everything if sample.status == "ok" and sample.timing is not None]
    levels = {**recorded_levels(good), **(extra or {})}
    noise = noise_floor(good)
    compared = [sample for sample in good if sample.strata.form != "dense"]
    ratios: list[ErrorRow] = []
    latencies: list[ErrorRow] = []
    for name, predicted in levels.items():
        ratios += _row(name, compared, functools.partial(_ratio, predicted), noise.floor)
        latencies += _latency_rows(name, good, predicted)
    for name, part in NULL_MODELS.items():
        ratios += _row(name, compared, functools.partial(_null, part), noise.floor)
    level = list(levels)[-1] if levels else None
    groups = _groups(compared, levels[level], noise.floor) if level else {}
    failed = [sample for sample in everything if sample.status != "ok" or sample.timing is None]
    return Evaluation(
        samples=good, failed=failed, noise=noise, ratios=ratios, latencies=latencies, groups=groups, level=level
    )


def recorded_levels(samples: Iterable[Sample]) -> dict[str, Predicted]:
    """Predictions that the records carry, by level."""
    levels: dict[str, dict[str, tuple[float, float]]] = {}
    for sample in samples:
        for each in sample.predicted:
            levels.setdefault(each.level, {})[sample.id] = (each.dense_s, each.decomposed_s)
    return dict(levels)


def noise_floor(samples: Sequence[Sample]) -> NoiseFloor:
    """The noise of measured samples."""
    pairs = [(measured(s).ratio, s.repeat.ratio) for s in samples if s.repeat is not None]
    repeats = [abs(math.log(first / second)) / math.sqrt(2) for first, second in pairs]
    dense = [abs(measured(s).ratio - 1) for s in samples if s.strata.form == "dense"]
    widths = [measured(s).half_width for s in samples if math.isfinite(measured(s).ratio_high)]
    return NoiseFloor(
        repeats=len(repeats),
        median=statistics.median(repeats) if repeats else None,
        worst=max(repeats, default=None),
        dense=len(dense),
        dense_worst=max(dense, default=None),
        half_width=statistics.median(widths) if widths else None,
        disturbed=sum(bool(measured(s).disturbed) for s in samples),
    )


def decided(sample: Sample, floor: float) -> bool:
    """Whether a measured ratio differs from 1 by more than its own interval and the noise."""
    timing = measured(sample)
    return (timing.ratio_high < 1 or timing.ratio_low > 1) and abs(timing.ratio - 1) > floor


def _ratio(predicted: Predicted, sample: Sample) -> float | None:
    pair = predicted.get(sample.id)
    return None if pair is None else pair[1] / pair[0]


def _null(part: float, sample: Sample) -> float:
    return 1 - part * (1 - sample.strata.param_ratio)


def _row(
    name: str, samples: Sequence[Sample], predict: Callable[[Sample], float | None], floor: float
) -> list[ErrorRow]:
    found = [(sample, value) for sample in samples if (value := predict(sample)) is not None]
    if not found:
        return []
    errors = statistics.summary([value / measured(sample).ratio - 1 for sample, value in found])
    clear = [(value < 1) == (measured(sample).ratio < 1) for sample, value in found if decided(sample, floor)]
    tau = statistics.kendall_tau([value for _, value in found], [measured(sample).ratio for sample, _ in found])
    return [
        ErrorRow(
            name=name,
            count=len(found),
            bias=errors["bias"],
            mean=errors["mean"],
            median=errors["median"],
            p95=errors["p95"],
            worst=errors["worst"],
            tau=tau,
            sign_right=sum(clear) / len(clear) if clear else None,
            decided=len(clear),
        )
    ]


def _latency_rows(name: str, samples: Sequence[Sample], predicted: Predicted) -> list[ErrorRow]:
    errors = []
    for sample in samples:
        if sample.id in predicted:
            dense, own = predicted[sample.id]
            timing = measured(sample)
            errors += [own / timing.candidate.median_s - 1, dense / timing.dense.median_s - 1]
    if not errors:
        return []
    row = statistics.summary(errors)
    return [
        ErrorRow(
            name=name,
            count=len(errors),
            bias=row["bias"],
            mean=row["mean"],
            median=row["median"],
            p95=row["p95"],
            worst=row["worst"],
        )
    ]


STRATA: dict[str, Callable[[Sample], str]] = {
    "phase": lambda sample: str(sample.workload["phase"]),
    "batch": lambda sample: f"{sample.workload['batch']:>3}",
    "rank class": lambda sample: f"mod {sample.strata.rank_class}" if sample.strata.rank_class else "none",
    "form": lambda sample: sample.strata.form,
    "tensors": lambda sample: sample.strata.tensors,
    "runtime": lambda sample: str(sample.workload["runtime"]),
}
"""What errors are grouped by, and the group of a sample."""


def _groups(samples: Sequence[Sample], predicted: Predicted, floor: float) -> dict[str, list[ErrorRow]]:
    result: dict[str, list[ErrorRow]] = {}
    for stratum, of in STRATA.items():
        names = sorted({of(sample) for sample in samples}, key=lambda text: (len(text), text))
        if len(names) > 1 or stratum == "phase":
            result[stratum] = [
                row
                for name in names
                for row in _row(
                    name.strip(), [s for s in samples if of(s) == name], functools.partial(_ratio, predicted), floor
                )
            ]
    return result
