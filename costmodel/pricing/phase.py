"""What one phase costs, dense or decomposed, whole and operation by operation, and what is saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from costmodel.decomposition.factors import Decomposition
from costmodel.forward.ops import Op
from costmodel.pricing.configurations import Configurations
from costmodel.pricing.pricer import PhasePricer
from costmodel.pricing.saving import saved_pct, saving_ends
from costmodel.timing.columns import OpColumns, OpTimings


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
    communication_s: float = 0.0
    """Time of the device that collectives with others take; part of `device_s`."""
    communication_bytes: int = 0
    """Their messages, each counted whole."""

    def to_json(self) -> dict[str, object]:
        """The contract's keys; what is exchanged where there is somebody to exchange it with."""
        alone = () if self.communication_bytes else ("communication_s", "communication_bytes")
        return {name: getattr(self, name) for name in self.__slots__ if name not in alone}


def savings(dense: PhaseCosts, decomposed: PhaseCosts, error: float | None) -> dict[str, float | None]:
    """100 (dense - decomposed) / dense of each cost, the speed-up dense / decomposed, and the 90 % interval of the
    saved latency, whose ratio is off by `error`; None where unknown."""
    names = ("params", "weight_bytes", "flops", "latency", "energy", "peak_memory")
    saved: dict[str, float | None] = {}
    for name in names:
        field = {"latency": "latency_s", "energy": "energy_j", "peak_memory": "peak_memory_bytes"}.get(name, name)
        saved[f"{name}_pct"] = saved_pct(getattr(dense, field), getattr(decomposed, field))
    saved["speedup"] = dense.latency_s / decomposed.latency_s
    ends = saving_ends(dense, decomposed, error)
    low, high = (None, None) if ends is None else map(float, ends)
    return saved | {"latency_p05_pct": low, "latency_p95_pct": high}


def phase_costs(priced: PhasePricer, decomposition: Decomposition, configuration: Configurations) -> PhaseCosts:
    """Costs of one configuration, also given as arrays of shape (layers, tensors), as Python numbers: of one device."""
    costs = priced.costs(configuration)
    columns = {name: getattr(costs, name) for name in costs.__slots__}
    values: dict[str, Any] = {name: None if column is None else column.item() for name, column in columns.items()}
    return PhaseCosts(
        arithmetic_intensity=values["flops"] / values["hbm_bytes"],
        tokens_per_s=priced.work.tokens / values["latency_s"],
        fits=values["peak_memory_bytes"] <= priced.hardware.memory_bytes,
        level=priced.time_model.level,
        **(_communication(priced, decomposition) if priced.work.devices > 1 else {}),
        **values,
    )


def _communication(priced: PhasePricer, decomposition: Decomposition) -> dict[str, Any]:
    sent = [op for op in priced.ops(decomposition) if op.cost.message_bytes]
    seconds = priced.time_model.times(OpColumns.of(sent)).latency_s if sent else np.zeros(0)
    many = priced.work.microbatches
    return {
        "communication_s": many * float(seconds.sum()),
        "communication_bytes": many * sum(op.cost.message_bytes for op in sent),
    }


def op_rows(ops: Sequence[Op], columns: OpColumns, timings: OpTimings) -> list[dict[str, Any]]:
    """Operations, also given as columns, and their times, in one order, as rows with the contract's keys."""
    times = (timings.compute_s, timings.memory_s, timings.overhead_s, timings.latency_s)
    table = zip(ops, columns.hbm_bytes.tolist(), *(column.tolist() for column in times), timings.bound(), strict=True)
    rows = []
    for op, moved, compute_s, memory_s, overhead_s, latency_s, bound in table:
        cost, (m, n, k) = op.cost, op.gemm or (None, None, None)
        flops, sent = cost.flops, cost.message_bytes
        row = {
            "name": op.name,
            "kind": op.kind,
            "m": m,
            "n": n,
            "k": k,
            "flops": flops,
            "vector_flops": cost.vector_flops,
            "hbm_bytes": moved,
            "kernels": cost.kernels,
            "arithmetic_intensity": flops / moved if moved else 0.0,
            "compute_s": compute_s,
            "memory_s": memory_s,
            "overhead_s": overhead_s,
            "latency_s": latency_s,
            "bound": "communication" if sent else bound,
        }
        if sent:
            row["message_bytes"] = sent
        rows.append(row)
    return rows
