"""A published row as seconds by class of operation, so that a stack's factors are fitted without pricing again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from costmodel.arrays import Floats
from costmodel.decomposition.factors import Decomposition
from costmodel.families.load import load_model
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import Attention, Cache, LmHead, Runtime, Workload
from costmodel.hardware.host import host_of
from costmodel.hardware.profile import load_hardware
from costmodel.hardware.stack import CLASSES, Stack, load_stack
from costmodel.pricing.estimate import pricer
from costmodel.timing.calibration.load import find_calibration
from costmodel.timing.columns import OpColumns
from costmodel.timing.datasheet import DatasheetRoofline
from costmodel.timing.stacked import StackTimes, class_of
from costmodel.units import DType
from validate.replay.points import read_points

_GEMM = CLASSES.index("gemm")
_QUADRATURE = ((0.0, 1 / 6), (0.5, 4 / 6), (1.0, 1 / 6))
"""Simpson's rule over the lengths of a request's steps, whose times are nearly quadratic in them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """The passes of one row.

    Attributes:
        weights: float64 (passes,), how often each runs.
        seconds: float64 (passes, classes) on the device, of kernels as the stack merges them, beside their fixed time.
        fixed: float64 (passes, classes), that fixed time, of the kernels that the stack launches.
        launches: float64 (passes, classes), operations that the host launches.
        reads: float64 (passes,), seconds in which matrix products read what they move at one byte a core and cycle.
        slowness: of the host.
        host_spread: standard deviation of the logarithm of `slowness` among hosts of its class.
        low, high: how far the ends of the kernels' interval, as a pass keeps it, lie from their seconds, in logarithms.
        level: what the kernels' seconds stand on.
        roofline_s: at the datasheet's peaks, bare kernels, for a null model.
        measured_s: what was published.
    """

    weights: Floats
    seconds: Floats
    fixed: Floats
    launches: Floats
    reads: Floats
    slowness: float
    host_spread: float
    low: float
    high: float
    level: str
    roofline_s: float
    measured_s: float

    def latency_s(self, time: Floats, launch_s: float, step_s: float, bytes_per_cycle: float = 0.0) -> float:
        """The prediction with a stack's figures by class; no `bytes_per_cycle`, no limit to what kernels read."""
        device, host = self._parts(time, launch_s, bytes_per_cycle)
        return float((np.maximum(device, host) + step_s) @ self.weights)

    def launch_bound(self, time: Floats, launch_s: float, bytes_per_cycle: float = 0.0) -> bool:
        """Whether most of the row is passes that wait for the host."""
        device, host = self._parts(time, launch_s, bytes_per_cycle)
        return float((host > device) @ self.weights) > self.weights.sum() / 2

    def _parts(self, time: Floats, launch_s: float, bytes_per_cycle: float) -> tuple[Floats, Floats]:
        """Seconds of each pass, (passes,), on the device and of the host."""
        device: Floats = self.seconds @ time + self.fixed.sum(axis=1)
        if bytes_per_cycle:
            device = device + np.maximum(self.reads / bytes_per_cycle - self.seconds[:, _GEMM] * time[_GEMM], 0.0)
        return device, self.launches.sum(axis=1) * launch_s * self.slowness


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A row with its passes and what it stands for."""

    stack: str
    kind: str
    source: str
    laboratory: str
    device: str
    passes: Passes


def passes_of(row: Mapping[str, str], folder: Path) -> Passes:
    """The passes of a row of kind `time`."""
    stack, hardware = load_stack(row["stack"]), load_hardware(row["hw"])
    path = folder / row["model_config"]
    model = load_model(path if path.is_file() else row["model_config"])
    runtime = Runtime(stack.runtime if hardware.asynchronous else "eager")
    how: dict[str, Any] = {
        "batch": int(row["batch"]),
        "dtype": DType(row["dtype"]),
        "weight_dtype": DType(row["weight_dtype"]) if row.get("weight_dtype") else None,
        "attention": Attention(row.get("attention") or stack.attention),
        "lm_head": LmHead(row.get("lm_head") or "last"),
        "runtime": runtime,
        "cache": Cache(stack.cache),
    }
    seq, steps = int(row["seq"]), int(row.get("new_tokens") or 0)
    works = [(Workload.decode(seq, **how) if row["phase"] == "decode" else Workload.prefill(seq, **how), 1.0)]
    if row["phase"] == "request":
        works += [(Workload.decode(seq + 1 + round(at * (steps - 1)), **how), w * steps) for at, w in _QUADRATURE]
    calibration = find_calibration("auto", hardware, DType(row["dtype"]), runtime)
    plain = replace(stack, time=MappingProxyType(dict.fromkeys(CLASSES, 1.0)), gemm_bytes_per_cycle=None, spread=0.0)
    host = host_of(None, hardware)
    seconds, fixed, launches, reads, ends, ideal = [], [], [], [], [], []
    for work, _ in works:
        priced = pricer(model, hardware, work, calibration)
        columns = OpColumns.of(forward_ops(model, Decomposition(), work))
        cycles_per_s = hardware.core_cycles_per_s if hardware.asynchronous else math.inf
        times = StackTimes(
            device=priced.time_model,
            stack=plain,
            host=host,
            element_bytes=work.act_bytes,
            core_cycles_per_s=cycles_per_s,
        )
        priced_ops = times.times(columns)
        parts = priced_ops.latency_s - priced_ops.overhead_s, priced_ops.overhead_s, times.launches(columns)
        place = np.array([CLASSES.index(class_of(str(kind))) for kind in columns.kind])
        for rows, part in zip((seconds, fixed, launches), parts, strict=True):
            rows.append([float(part[place == index].sum()) for index in range(len(CLASSES))])
        reads.append(float(columns.hbm_bytes[place == _GEMM].sum()) / cycles_per_s)
        ideal.append(float(DatasheetRoofline.of(hardware, work.dtype, runtime).times(columns).latency_s.sum()))
        ends.append([float(each.sum()) for each in (priced_ops.p05_s, priced_ops.latency_s, priced_ops.p95_s)])
    weights = np.array([weight for _, weight in works])
    low, middle, high = np.log(weights @ np.array(ends))
    return Passes(
        weights=weights,
        seconds=np.array(seconds),
        fixed=np.array(fixed),
        launches=np.array(launches),
        reads=np.array(reads),
        slowness=host.slowness if hardware.asynchronous else 0.0,
        host_spread=host.spread,
        low=times.kept * (middle - low),
        high=times.kept * (high - middle),
        level=priced.time_model.level,
        roofline_s=float(weights @ np.array(ideal)),
        measured_s=float(row["measured"]) / 1e3,
    )


def document(source: str) -> str:
    """What was published at once: of one run's JSON file among many the folder."""
    return source.rpartition("/")[0] if source.endswith(".json") else source


def laboratory(source: str) -> str:
    """Who measured: sources of one name before the first blank or `/` of their second part are one laboratory."""
    return source.split()[0].split("/")[0].lower()


def points_of(path: Path) -> list[Point]:
    """The rows that a fit may use: times of quality A and B on GPUs."""
    points = []
    for row in read_points(path):
        if row["kind"] != "time" or row.get("quality", "A") == "C":
            continue
        stack = load_stack(row["stack"])
        points.append(
            Point(
                stack=stack.name,
                kind=kind_of(stack),
                source=document(row.get("source", "")),
                laboratory=laboratory(row.get("source", "?")),
                device=row["hw"],
                passes=passes_of(row, path.parent),
            )
        )
    return points


def kind_of(stack: Stack) -> str:
    """The stack's kind; an engine that launches its kernels one by one is a kind of its own."""
    return f"launched {stack.kind}" if stack.kind == "engine" and stack.runtime == "eager" else stack.kind
