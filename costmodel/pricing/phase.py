"""What one phase costs, dense or decomposed, whole and operation by operation, and what is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from costmodel.forward.ops import Op
from costmodel.pricing.configurations import Configurations
from costmodel.pricing.pricer import PhasePricer
from costmodel.pricing.request import saved_pct
from costmodel.timing.columns import OpTimings


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseCosts:
    """What one pass costs; dimensions in the names, None where it cannot be known."""

    params: int
    weight_bytes: int
    flops: int
    vector_flops: int
    hbm_bytes: int
    arithmetic_intensity: float
    latency_s: float
    latency_lower_s: float
    latency_upper_s: float
    latency_p05_s: float | None
    latency_p95_s: float | None
    level: str
    tokens_per_s: float
    kv_cache_bytes: int
    peak_memory_bytes: int
    fits: bool
    energy_j: float | None
    device_s: float
    """Sum of the operations' times on the device."""
    host_s: float
    """Time the host needs to launch all kernels, where it runs beside the device; else 0."""
    kernels: int

    def to_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


def savings(dense: PhaseCosts, decomposed: PhaseCosts) -> dict[str, float | None]:
    """100 (dense - decomposed) / dense of each cost, and the speed-up dense / decomposed; None where unknown."""
    names = ("params", "weight_bytes", "flops", "latency", "energy", "peak_memory")
    saved: dict[str, float | None] = {}
    for name in names:
        field = {"latency": "latency_s", "energy": "energy_j", "peak_memory": "peak_memory_bytes"}.get(name, name)
        saved[f"{name}_pct"] = saved_pct(getattr(dense, field), getattr(decomposed, field))
    saved["speedup"] = dense.latency_s / decomposed.latency_s
    return saved


def phase_costs(priced: PhasePricer, configuration: Configurations) -> PhaseCosts:
    """Costs of one configuration, arrays of shape (layers, tensors), as Python numbers."""
    costs = priced.costs(configuration)
    columns = {name: getattr(costs, name) for name in costs.__slots__}
    values: dict[str, Any] = {name: None if column is None else column.item() for name, column in columns.items()}
    return PhaseCosts(
        arithmetic_intensity=values["flops"] / values["hbm_bytes"],
        tokens_per_s=priced.work.tokens / values["latency_s"],
        fits=values["peak_memory_bytes"] <= priced.hardware.memory_bytes,
        level=priced.time_model.level,
        **values,
    )


def op_rows(ops: Sequence[Op], timings: OpTimings) -> list[dict[str, Any]]:
    """Operations and their times, in one order, as rows with the contract's keys."""
    times = (timings.compute_s, timings.memory_s, timings.overhead_s, timings.latency_s)
    return [
        {
            "name": op.name,
            "kind": op.kind,
            "m": op.gemm[0] if op.gemm else None,
            "n": op.gemm[1] if op.gemm else None,
            "k": op.gemm[2] if op.gemm else None,
            "flops": op.cost.flops,
            "vector_flops": op.cost.vector_flops,
            "hbm_bytes": op.cost.hbm_bytes,
            "kernels": op.cost.kernels,
            "arithmetic_intensity": op.cost.arithmetic_intensity,
            "compute_s": compute_s,
            "memory_s": memory_s,
            "overhead_s": overhead_s,
            "latency_s": latency_s,
            "bound": bound,
        }
        for op, compute_s, memory_s, overhead_s, latency_s, bound in zip(
            ops, *(column.tolist() for column in times), timings.bound(), strict=True
        )
    ]
