"""What a roofline picture shows: roofs of a device, and marks for the operations of an estimate. Draws nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from costmodel.hardware.profile import HardwareProfile
from costmodel.show.report import configuration_text, phase_title
from costmodel.units import DType

if TYPE_CHECKING:
    from costmodel.forward.ops import Op
    from costmodel.model import ModelSpec
    from costmodel.pricing.estimate import Estimate
    from costmodel.pricing.phase_estimate import PhaseEstimate

GROUPS = {
    "attn": "attention projections",
    "mlp": "MLP projections",
    "attention": "attention",
    "head": "LM head, pooler",
    "vector": "norms, RoPE, element-wise",
}
"""Key and name of each class of roles; a class has a colour of its own."""
SAME = 0.12
"""Marks of one class whose coordinates differ by less than this share are drawn as one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """A ceiling of the device: the dense peak of matrix products of these types, or of vector work."""

    label: str
    flops_per_s: float
    selected: bool
    """Whether the workload's own type runs under it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """Operations of one class that lie at one place of the roofline.

    Attributes:
        variant: the dense pass's operations, or those that replace factored weights in the decomposed pass.
        roles: tensors or kinds of operation, as in the estimate's table.
        group: key of GROUPS.
        operations: how many.
        flops: of matrix products, counted whole, as everywhere.
        work_flops: executed, matrix and vector work together: what a masked kernel skips is left out.
        hbm_bytes: traffic.
        latency_s: on the device, all operations together.
        share: of the device time of the whole pass, 0 to 1.
        bound: what limits most of that time: compute, memory or overhead.
    """

    variant: Literal["dense", "factored"]
    roles: tuple[str, ...]
    group: str
    operations: int
    flops: int
    work_flops: int
    hbm_bytes: int
    latency_s: float
    share: float
    bound: str

    @property
    def work_intensity(self) -> float:
        """FLOP of executed work per byte, the x coordinate."""
        return self.work_flops / self.hbm_bytes

    @property
    def flops_per_s(self) -> float:
        """Achieved rate of executed work, the y coordinate."""
        return self.work_flops / self.latency_s

    @property
    def label(self) -> str:
        """The roles in one line, a suffix that all share said once: `q k v o_proj`."""
        names, ending = list(self.roles), "_proj"
        if len(names) > 1 and all(name.endswith(ending) for name in names):
            names = [*(name.removesuffix(ending) for name in names[:-1]), names[-1]]
        return " ".join(names) if len(names) < 5 else f"{names[0]} .. {names[-1]}"

    def to_json(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {
            **fields,
            "roles": list(self.roles),
            "label": self.label,
            "arithmetic_intensity": self.flops / self.hbm_bytes,
            "work_intensity": self.work_intensity,
            "flops_per_s": self.flops_per_s,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One phase: its marks, arrows (positions in `marks`, from dense to factored), and what has no place.

    Attributes:
        idle: share of the dense pass's device time that goes to operations that compute nothing (copies, look-ups),
            which a logarithmic axis cannot show.
        device_s, host_s: of the decomposed pass; the larger one is the latency.
    """

    phase: str
    title: str
    verdict: str
    marks: tuple[Mark, ...]
    arrows: tuple[tuple[int, int], ...]
    idle: float
    device_s: float
    host_s: float

    def to_json(self) -> dict[str, Any]:
        fields = {name: getattr(self, name) for name in self.__slots__}
        return {**fields, "marks": [mark.to_json() for mark in self.marks]}


@dataclass(frozen=True, slots=True, kw_only=True)
class RooflineChart:
    """Everything a picture needs; rates in FLOP/s and B/s.

    The roofline is Williams, Waterman, Patterson (CACM 52(4), 2009): min(peak, bandwidth x intensity).
    """

    title: str
    configuration: str
    level: str
    memory_bytes_per_s: float
    roofs: tuple[Roof, ...]
    panels: tuple[Panel, ...]

    @classmethod
    def of(cls, result: Estimate) -> RooflineChart:
        """The chart of an estimate: one panel per phase."""
        dtype = result.phases[0].workload.dtype
        return cls(
            title=f"{result.model.name} on {result.hardware.name}",
            configuration=configuration_text(result.decomposition, result.model),
            level=result.phases[0].decomposed.level,
            memory_bytes_per_s=result.hardware.memory_bytes_per_s,
            roofs=device_roofs(result.hardware, dtype),
            panels=tuple(_panel(phase) for phase in result.phases),
        )

    @property
    def x_range(self) -> tuple[float, float]:
        """Whole decades of FLOP/B that hold every mark and every ridge point, and leave room for the roofs' names."""
        ridges = [roof.flops_per_s / self.memory_bytes_per_s for roof in self.roofs]
        left, right = _decades([mark.work_intensity for panel in self.panels for mark in panel.marks] + ridges)
        return left, 30.0 * right

    @property
    def y_range(self) -> tuple[float, float]:
        """Whole decades of FLOP/s that hold every mark and every roof."""
        rates = [mark.flops_per_s for panel in self.panels for mark in panel.marks]
        return _decades(rates + [roof.flops_per_s for roof in self.roofs])

    def to_json(self) -> dict[str, Any]:
        return {
            "title": self.title,
            "configuration": self.configuration,
            "level": self.level,
            "memory_bytes_per_s": self.memory_bytes_per_s,
            "x_range": self.x_range,
            "y_range": self.y_range,
            "roofs": [{name: getattr(roof, name) for name in roof.__slots__} for roof in self.roofs],
            "panels": [panel.to_json() for panel in self.panels],
        }


def device_roofs(hardware: HardwareProfile, dtype: DType) -> tuple[Roof, ...]:
    """The floating-point peaks of a device from low to high, types of equal peak in one roof; `dtype`'s is selected."""
    rates: dict[float, list[str]] = {hardware.vector_flops_per_s: ["fp32 vector"]}
    for each, rate in hardware.matrix_flops_per_s.items():
        if each not in (DType.INT8, DType.INT4):
            rates.setdefault(rate, []).append(each.value)
    own = hardware.matrix_rate(dtype)
    return tuple(
        Roof(label=", ".join(_without_twin(rates[rate])), flops_per_s=rate, selected=rate == own)
        for rate in sorted(rates)
    )


def _without_twin(names: list[str]) -> list[str]:
    return ["fp32"] if sorted(names) == ["fp32", "fp32 vector"] else names


def _panel(phase: PhaseEstimate) -> Panel:
    model = phase.pricer.model
    dense, idle = _marks(phase, "dense", model)
    factored = _marks(phase, "factored", model)[0] if phase.configuration.factors else []
    marks = [*dense, *factored]
    arrows = {
        (start, len(dense) + end)
        for end, after in enumerate(factored)
        for start, before in enumerate(dense)
        if set(before.roles) & set(after.roles)
    }
    return Panel(
        phase=phase.workload.phase.value,
        title=phase_title(phase),
        verdict=phase.verdict.text,
        marks=tuple(marks),
        arrows=tuple(sorted(arrows)),
        idle=idle,
        device_s=phase.decomposed.device_s,
        host_s=phase.decomposed.host_s,
    )


def _marks(phase: PhaseEstimate, variant: Literal["dense", "factored"], model: ModelSpec) -> tuple[list[Mark], float]:
    """Marks of a pass from the longest-running on, and the share of its time that computes nothing."""
    ops, timings = phase.ops("dense" if variant == "dense" else "decomposed")
    latencies = timings.latency_s.tolist()
    everything = sum(latencies)
    by_role: dict[str, Mark] = {}
    bounds: dict[str, dict[str, float]] = {}
    for op, latency, bound in zip(ops, latencies, timings.bound(), strict=True):
        if variant == "factored" and not op.is_factor:
            continue
        mark = _mark(op, latency, everything, variant, model)
        by_role[op.role] = _sum([by_role[op.role], mark]) if op.role in by_role else mark
        times = bounds.setdefault(op.role, {})
        times[bound] = times.get(bound, 0.0) + latency
    placed = [
        replace(mark, bound=max(bounds[role], key=bounds[role].__getitem__))
        for role, mark in by_role.items()
        if mark.work_flops
    ]
    idle = sum(mark.share for mark in by_role.values() if not mark.work_flops)
    return sorted(_merged(placed), key=lambda mark: -mark.latency_s), idle


def group_of(op: Op, model: ModelSpec) -> str:
    """The key of GROUPS that an operation's colour stands for."""
    if op.site:
        return model.tensor(op.site).group
    return {"gemm": "head", "attention": "attention", "alltoall": "mlp"}.get(op.kind, "vector")


def _mark(op: Op, latency: float, everything: float, variant: Literal["dense", "factored"], model: ModelSpec) -> Mark:
    group = group_of(op, model)
    cost = op.cost
    return Mark(
        variant=variant,
        roles=(op.role,),
        group=group,
        operations=1,
        hbm_bytes=cost.hbm_bytes,
        latency_s=latency,
        flops=cost.flops,
        work_flops=cost.executed_flops + cost.vector_flops,
        share=latency / everything,
        bound="",
    )


def _merged(marks: Iterable[Mark]) -> list[Mark]:
    """Marks of one class at one place become one."""
    kept: list[Mark] = []
    for mark in marks:
        for index, other in enumerate(kept):
            if mark.group == other.group and _close(mark, other):
                kept[index] = _sum([other, mark])
                break
        else:
            kept.append(mark)
    return kept


def _close(one: Mark, other: Mark) -> bool:
    pairs = ((one.work_intensity, other.work_intensity), (one.flops_per_s, other.flops_per_s))
    return all(math.isclose(a, b, rel_tol=SAME) for a, b in pairs)


def _sum(marks: list[Mark]) -> Mark:
    longest = max(marks, key=lambda mark: mark.latency_s)
    return replace(
        longest,
        roles=tuple(dict.fromkeys(role for mark in marks for role in mark.roles)),
        operations=sum(mark.operations for mark in marks),
        flops=sum(mark.flops for mark in marks),
        work_flops=sum(mark.work_flops for mark in marks),
        hbm_bytes=sum(mark.hbm_bytes for mark in marks),
        latency_s=sum(mark.latency_s for mark in marks),
        share=sum(mark.share for mark in marks),
    )


def _decades(values: list[float]) -> tuple[float, float]:
    logs = [math.log10(value) for value in values]
    return 10.0 ** math.floor(min(logs) - 0.1), 10.0 ** math.ceil(max(logs) + 0.1)
