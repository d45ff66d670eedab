"""What one phase costs, dense or decomposed, and what is saved."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from costmodel.pricing.pricer import Configurations, PhasePricer
from costmodel.pricing.request import saved_pct


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
    columns = priced.costs(configuration)
    values: dict[str, Any] = {name: None if column is None else column.item() for name, column in columns.items()}
    work, traffic = priced.work, values["hbm_bytes"]
    return PhaseCosts(
        arithmetic_intensity=values["flops"] / traffic,
        tokens_per_s=work.tokens / values["latency_s"],
        fits=values["peak_memory_bytes"] <= priced.hardware.memory_bytes,
        level=priced.time_model.level,
        latency_p05_s=values.pop("latency_p05_s", None),
        latency_p95_s=values.pop("latency_p95_s", None),
        **values,
    )
