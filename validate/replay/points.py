"""Measurements of whole models that others published, each put to the model as a question of our own.

A table has the columns `model_config, dtype, batch, seq, phase, kind, measured, hw, stack` and, where they say
something, `new_tokens, weight_dtype, attention, lm_head, decompose, tp`; other columns pass unread. `kind` is `time`
(ms), `memory` (MB of each device), `ratio` or `memory_ratio` (factored over dense), or `factored_time` (ms). `seq` is
the prompt of a prefill or request, the attended length of a decode step; a request is a prefill and `new_tokens`
decode steps.
"""

from __future__ import annotations

import enum
import os.path
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.held import held
from costmodel.decomposition.text import parse_decomposition
from costmodel.errors import CostModelError, InputError
from costmodel.families.load import load_model
from costmodel.files.table import is_plain, read_table
from costmodel.forward.workload import Attention, Cache, LmHead, Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.hardware.stack import Stack, load_stack
from costmodel.pricing.checks import usual_latent
from costmodel.pricing.estimate import estimate
from costmodel.pricing.phase import PhaseCosts
from costmodel.timing.calibration.load import find_calibration
from costmodel.timing.columns import Z90
from costmodel.units import DType

KINDS = {"time": "ms", "factored_time": "ms", "memory": "MB", "ratio": "ratio", "memory_ratio": "ratio"}
"""What a row may measure, and the unit of its answer."""
REQUIRED = ("model_config", "dtype", "batch", "seq", "phase", "kind", "measured", "hw", "stack")
RATIO_SPREAD = 0.1
"""Standard deviation of the logarithm of a ratio factored / dense, in which most errors of a pass cancel."""
MEMORY_SPREAD = 0.05
"""The same of a peak of memory."""
_LEAST, _MOST = 1e-9, 1e12
"""Bounds of what is measured, in the unit of its kind."""
_DIGITS = re.compile(r"\d{1,9}(\.0+)?", re.ASCII)
E = TypeVar("E", bound=enum.Enum)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """An answer in the unit of its row, and the ends of its 90 % interval."""

    value: float
    low: float
    high: float
    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PointRow:
    """One row of the table with its prediction.

    Attributes:
        number: of the row in the file, from 1.
        group: the columns that summaries go by: device, stack, kind.
    """

    number: int
    group: Mapping[str, str]
    measured: float
    prediction: Prediction

    @property
    def inside(self) -> bool:
        """Whether the measurement lies within the interval."""
        return self.prediction.low <= self.measured <= self.prediction.high

    @property
    def error_pct(self) -> float:
        """100 (predicted / measured - 1)."""
        return 100 * (self.prediction.value / self.measured - 1)

    def to_json(self) -> dict[str, object]:
        prediction = self.prediction
        return {
            "row": self.number,
            **self.group,
            "measured": self.measured,
            "predicted": prediction.value,
            "p05": prediction.low,
            "p95": prediction.high,
            "inside": self.inside,
            "error_pct": self.error_pct,
            "level": prediction.level,
        }


def read_points(path: Path) -> list[dict[str, str]]:
    """The rows of a table.

    Raises:
        InputError: when the file cannot be read as CSV, or a column is missing.
    """
    table = read_table(path, InputError)
    table.require(REQUIRED)
    texts = {name: ["" if each is None else str(each) for each in values] for name, values in table.columns.items()}
    return [{name: values[row] for name, values in texts.items()} for row in range(len(table))]


def predict_points(rows: Sequence[Mapping[str, str]], folder: Path) -> list[PointRow]:
    """Predictions in the order of the rows; `folder` is what paths of `model_config` are relative to.

    Raises:
        InputError: in one line that names the row: an unknown device, stack, model, kind or a number that is none.
    """
    answers = []
    for number, row in enumerate(rows, 1):
        try:
            measured = _number(row, "measured")
            answers.append(
                PointRow(
                    number=number,
                    group={"device": row["hw"], "stack": row["stack"], "kind": row["kind"]},
                    measured=measured,
                    prediction=predict(row, folder),
                )
            )
        except CostModelError as error:
            raise InputError(f"row {number}: {error}") from error
    return answers


def predict(row: Mapping[str, str], folder: Path) -> Prediction:
    """The answer to one row.

    Raises:
        CostModelError: when the row asks for what does not exist.
    """
    kind = row["kind"]
    if kind not in KINDS:
        raise InputError("unknown kind", value=kind, allowed=", ".join(KINDS))
    if row["phase"] not in ("prefill", "decode", "request"):
        raise InputError("unknown phase", value=row["phase"], allowed="prefill, decode, request")
    stack, hardware = load_stack(row["stack"]), load_hardware(row["hw"])
    path = folder / row["model_config"]
    model = load_model(path if os.path.isfile(path) else row["model_config"])
    specs = [spec for spec in (row.get("decompose") or "").split(" + ") if spec.strip()]
    decomposition = parse_decomposition(specs, model) if specs else held(model) or Decomposition()
    runtime = Runtime(stack.runtime if hardware.asynchronous else "eager")
    how = _how(row, stack, runtime)
    seq, steps = _whole(row, "seq", 1), _whole(row, "new_tokens", 0)
    works = [Workload.decode(seq, **how) if row["phase"] == "decode" else Workload.prefill(seq, **how)]
    if row["phase"] == "request" and steps:
        works.append(Workload.decode(seq + 1 + steps // 2, **how))
    calibration = find_calibration("auto", hardware, works[0].dtype, runtime, stack.name)
    tokens = steps + 1 if row["phase"] == "request" else None
    answer = estimate(model, hardware, decomposition, works, calibration=calibration, new_tokens=tokens)
    factored = [phase.decomposed for phase in answer.phases]
    dense = [phase.dense for phase in answer.phases]
    request = answer.request
    level = factored[0].level
    if kind == "memory":
        peak = request.decomposed.peak_memory_bytes if request else factored[0].peak_memory_bytes
        return _around((peak + stack.context_bytes) / 1e6, MEMORY_SPREAD, level)
    if kind == "memory_ratio":
        return _around(factored[0].peak_memory_bytes / dense[0].peak_memory_bytes, MEMORY_SPREAD, level)
    if kind == "ratio":
        pair = (request.decomposed, request.dense) if request else (factored[0], dense[0])
        return _around(pair[0].latency_s / pair[1].latency_s, RATIO_SPREAD, level)
    total_s = request.decomposed.latency_s if request else factored[0].latency_s
    low, high = _relative(factored, steps)
    return Prediction(value=total_s * 1e3, low=total_s * 1e3 * low, high=total_s * 1e3 * high, level=level)


def summarise(rows: Sequence[PointRow]) -> list[dict[str, object]]:
    """Errors by device, stack and kind, and of all rows of a kind: number, median and mean absolute error, median
    error, the worst, and the share of measurements within the interval."""
    groups: dict[tuple[str, str, str], list[PointRow]] = {}
    for row in rows:
        device, stack, kind = row.group["device"], row.group["stack"], row.group["kind"]
        for key in (("all", "all", kind), ("all", stack, kind), (device, "all", kind), (device, stack, kind)):
            groups.setdefault(key, []).append(row)
    return [
        {"device": device, "stack": stack, "kind": kind, **_errors(members)}
        for (device, stack, kind), members in sorted(groups.items())
    ]


def _errors(rows: Sequence[PointRow]) -> dict[str, object]:
    errors = [row.error_pct for row in rows]
    sizes = [abs(error) for error in errors]
    return {
        "points": len(rows),
        "median_abs_pct": median(sizes),
        "mean_abs_pct": sum(sizes) / len(sizes),
        "median_pct": median(errors),
        "worst_pct": max(errors, key=abs),
        "inside_pct": 100 * sum(row.inside for row in rows) / len(rows),
    }


def _how(row: Mapping[str, str], stack: Stack, runtime: Runtime) -> dict[str, Any]:
    """Options of every workload of a row."""
    weight_dtype = row.get("weight_dtype")
    return {
        "batch": _whole(row, "batch", 1),
        "tp": _whole(row, "tp", 1) if row.get("tp") else 1,
        "dtype": _choice(DType, row["dtype"], "dtype"),
        "weight_dtype": _choice(DType, weight_dtype, "weight_dtype") if weight_dtype else None,
        "attention": _choice(Attention, row.get("attention") or stack.attention, "attention"),
        "lm_head": _choice(LmHead, row.get("lm_head") or "last", "lm_head"),
        "runtime": runtime,
        "cache": Cache(stack.cache),
        "stack": stack.name,
        "latent": usual_latent(stack.name),
    }


def _relative(phases: Sequence[PhaseCosts], steps: int) -> tuple[float, float]:
    """Ends of the interval over the prediction: of a request, of its prefill and its steps together."""
    weights = [1.0, float(steps)][: len(phases)]
    total = sum(weight * phase.latency_s for weight, phase in zip(weights, phases, strict=True))
    ends = []
    for name in ("latency_p05_s", "latency_p95_s"):
        values = [getattr(phase, name) or phase.latency_s for phase in phases]
        ends.append(sum(weight * value for weight, value in zip(weights, values, strict=True)) / total)
    return ends[0], ends[1]


def _around(value: float, spread: float, level: str) -> Prediction:
    """A value whose logarithm has a standard deviation of `spread`."""
    factor = 1 + Z90 * spread
    return Prediction(value=value, low=value / factor, high=value * factor, level=level)


def _number(row: Mapping[str, str], name: str) -> float:
    try:
        value = float(row[name])
    except ValueError:
        value = float("nan")
    if not (_LEAST <= value <= _MOST and is_plain(row[name])):
        raise InputError(name, value=row[name], allowed=f"a number from {_LEAST:g} to {_MOST:g}")
    return value


def _whole(row: Mapping[str, str], name: str, least: int) -> int:
    text = row.get(name) or "0"
    if not _DIGITS.fullmatch(text) or int(text.partition(".")[0]) < least:
        raise InputError(name, value=text, allowed=f"a whole number of at least {least}")
    return int(text.partition(".")[0])


def _choice(kind: type[E], value: str, name: str) -> E:
    try:
        return kind(value)
    except ValueError:
        raise InputError(f"unknown {name}", value=value, allowed=", ".join(each.value for each in kind)) from None
