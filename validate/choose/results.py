"""Points of a loop with what was measured of them: both halves of the text, and latency by phase. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from costmodel.decomposition.text import describe
from costmodel.model import ModelSpec
from validate.choose.fitted import fit_name, load_fitted
from validate.choose.points import Plan, Point, config_key, round_plans
from validate.errors import RunError
from validate.interval import Interval
from validate.quality.intervals import change
from validate.quality.records import QUALITY, QualityRecord, TextRecord
from validate.speed.records import Sample, Timing, read_samples
from validate.store.record_format import device_of

AGAIN = "again"
"""Folder with a folder of times for each configuration that was chosen, and so timed again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One measured point.

    Attributes:
        point: why it was measured, and what was predicted.
        searched, verified: text measures on the half that was searched on, and on the other.
        timings: latency relative to dense, by phase; a phase that could not be timed is missing.
        change: increase of NLL on the other half, nats per token.
        change_searched: on the half that was searched on.
        text: the configuration as SPECs.
        dense_costs: predicted seconds of the dense model by phase.
    """

    point: Point
    searched: TextRecord
    verified: TextRecord
    timings: Mapping[str, Timing]
    change: Interval
    change_searched: Interval
    text: str
    dense_costs: Mapping[str, float]

    @property
    def is_ours(self) -> bool:
        """Whether the search found it."""
        return self.point.role != "baseline"

    @property
    def is_dense(self) -> bool:
        """Whether it is the model as it is."""
        return self.point.rule == "dense"


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """Points of the frontiers of one search, on the half of the text that was searched on.

    Left out are those of dropped layers and nothing else, which are measured rather than predicted.

    Attributes:
        predicted, measured: increase of NLL by point, nats per token.
    """

    predicted: Sequence[float]
    measured: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """The predictor of the search that counts.

    Attributes:
        form: of the predictor.
        points: configurations that it was fitted to; 0 for the curvature of the loss as it is.
        sampled: random configurations measured beside.
    """

    form: str
    points: int
    sampled: int

    @property
    def sentence(self) -> str:
        """For people."""
        fitted = f"fitted to {self.points} configurations" if self.points else "as it is"
        return f"searched by {self.form}, {fitted}; {self.sampled} random configurations measured beside"


@dataclass(frozen=True, slots=True, kw_only=True)
class Results:
    """Everything that a loop measured.

    Attributes:
        plan: as it was before measuring.
        dense: the model as it is.
        points: in the order of the plan.
        phases: whose latency counts.
        fitted: what the predictor was fitted to.
        name: of the model.
        model: its structure.
        device: that latency was measured on.
        rounds: the points of earlier searches, and at the end those of the one that counts.
        again: by configuration and phase, a second timing beside dense of what was chosen for the first.
    """

    plan: Plan
    dense: Result
    points: Sequence[Result]
    phases: Sequence[str]
    fitted: Fitted
    name: str
    model: ModelSpec
    device: str
    rounds: Sequence[Round]
    again: Mapping[str, Mapping[str, Timing]] = field(default_factory=dict)

    def latency_width(self, phase: str) -> float | None:
        """Median half-width of measured latencies relative to dense; None for size and where nothing was timed."""
        widths = [each.timings[phase].half_width for each in self.points if phase in each.timings]
        return float(np.median(widths)) if widths else None

    @property
    def ours(self) -> list[Result]:
        """What the search found, and the dense model, which is always there to be chosen."""
        return [*(result for result in self.points if result.is_ours), self.dense]

    @property
    def baselines(self) -> list[Result]:
        return [result for result in self.points if not result.is_ours]

    @property
    def frontier(self) -> list[Result]:
        """Points of the predicted frontiers spread over their costs."""
        return [result for result in self.points if result.point.role == "frontier"]


def read_results(folder: Path) -> Results:
    """The results in a folder.

    Raises:
        RecordError: when a file is missing or malformed.
        RunError: when something was not measured.
    """
    plan = Plan.read(folder)
    searched, verified = (
        {config_key(record.config): record for record in QUALITY.read(folder / name)} for name in ("search", "verify")
    )
    timed = read_samples(folder / "latency")
    times = _timings(timed)
    dense = next(record for record in verified.values() if record.is_dense)
    spec = dense.spec()
    bases = _text(dense), _text(searched[config_key(dense.config)])

    def result(point: Point) -> Result:
        if point.key not in verified or point.key not in searched or point.key not in times:
            raise RunError("a configuration was not measured", value=point.label, hint="the same command continues")
        mine, other = _text(verified[point.key]), _text(searched[point.key])
        return Result(
            point=point,
            searched=other,
            verified=mine,
            timings=times[point.key],
            change=change(mine.nll, bases[0].nll, mine.tokens),
            change_searched=change(other.nll, bases[1].nll, other.tokens),
            dense_costs=plan.dense,
            text=describe(verified[point.key].decomposition(spec), spec),
        )

    first = Point(
        role="baseline",
        rule="dense",
        label="dense",
        config=dense.config,
        params=plan.dense_params,
        costs=plan.dense,
        quality=0.0,
    )
    plans = round_plans(folder)
    return Results(
        plan=plan,
        dense=result(first),
        points=[result(point) for point in plan.points],
        phases=list(plan.dense),
        fitted=_fitted(folder, plans, searched),
        name=dense.model.name,
        model=spec,
        device=_device(timed),
        rounds=_rounds([*plans, plan], searched, bases[1]),
        again=_timings(read_samples(sorted((folder / AGAIN).glob("*/samples.jsonl")))),
    )


def _fitted(folder: Path, plans: Sequence[Plan], searched: Mapping[str, QualityRecord]) -> Fitted:
    sampled = sum(record.origin == "sample" and record.text is not None for record in searched.values())
    form, points = load_fitted(folder / fit_name(len(plans)))
    return Fitted(form=form, points=points, sampled=sampled)


def _rounds(plans: Sequence[Plan], searched: Mapping[str, QualityRecord], dense: TextRecord) -> list[Round]:
    """What each search chose, as predicted and measured."""
    found = []
    for plan in plans:
        points = {
            point.key: point
            for point in plan.points
            if point.role == "frontier" and point.quality is not None and not point.told
        }
        losses = [_text(searched[key]) for key in points]
        found.append(
            Round(
                predicted=[point.quality or 0.0 for point in points.values()],
                measured=[(sum(each.nll) - sum(dense.nll)) / sum(dense.tokens) for each in losses],
            )
        )
    return found


def _timings(samples: Sequence[Sample]) -> dict[str, dict[str, Timing]]:
    """By configuration and phase; what could not be timed has an entry without phases."""
    found: dict[str, dict[str, Timing]] = {}
    for sample in samples:
        phases = found.setdefault(config_key(sample.config), {})
        if sample.timing is not None:
            phases[str(sample.workload["phase"])] = sample.timing
    return found


def _device(samples: Sequence[Sample]) -> str:
    environment = samples[0].environment if samples else {}
    name, kind, threads = device_of(environment)
    return f"{name}, {threads} thread{'s' * (threads != 1)}" if kind == "cpu" else name


def _text(record: QualityRecord) -> TextRecord:
    if record.text is None:
        raise RunError(
            "a configuration could not be measured",
            value=record.id,
            hint=record.failure.reason if record.failure else "",
        )
    return record.text
