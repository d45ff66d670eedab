"""A likelihood-scoring run as the cost model sees it: device time of a batch, the harness's waiting, power by what
limits the device. What differs between set-ups enters through few constants that all benchmarks share."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from costmodel.decomposition.factors import Decomposition, Site, make_factor
from costmodel.errors import InputError
from costmodel.files.node import Node
from costmodel.files.read import read_json
from costmodel.forward.cost import FP32_BYTES
from costmodel.forward.ops import Op
from costmodel.forward.workload import Attention, LmHead, Runtime, Workload
from costmodel.hardware.profile import HardwareProfile
from costmodel.model import ModelSpec
from costmodel.pricing.configurations import Configurations
from costmodel.pricing.pricer import PhasePricer
from costmodel.timing.bare import BareKernels
from costmodel.timing.columns import OpColumns, OpTimings
from costmodel.timing.datasheet import DatasheetRoofline
from costmodel.units import DType
from validate.replay.table import Benchmark, TableRow

SCHEMA = 1
"""Version of the file of constants."""
Floats = npt.NDArray[np.float64]
_SCORING_KERNELS = 2
"""Logits cast to fp32, then their log-softmax."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayConstants:
    """What a set-up has in common on all its benchmarks. Only ratios of the powers matter to savings.

    Attributes:
        matrix_efficiency, memory_efficiency: achieved shares of the device's peaks, 0 to 1.
        harness_s_per_request: host time of the harness for one request while the device waits.
        compute_w, memory_w, idle_w: power of all devices together while limited by arithmetic, by memory or kernel
            overhead, and while waiting for the harness.
    """

    matrix_efficiency: float
    memory_efficiency: float
    harness_s_per_request: float
    compute_w: float
    memory_w: float
    idle_w: float

    def to_json(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectiveRoofline(BareKernels):
    """The ideal roofline at achieved peaks; `busy_s` is the time of operations that arithmetic limits."""

    ideal: DatasheetRoofline
    constants: ReplayConstants
    level: str = "samples"
    has_interval: bool = False
    together: float = 1.0
    host_launch_s: float = 0.0

    def times(self, ops: OpColumns) -> OpTimings:
        """Seconds of each operation."""
        compute = ops.executed_flops / (self.ideal.matrix_flops_per_s * self.constants.matrix_efficiency)
        compute = compute + ops.vector_flops / self.ideal.vector_flops_per_s
        memory = ops.hbm_bytes / (self.ideal.memory_bytes_per_s * self.constants.memory_efficiency)
        overhead = ops.kernels * np.float64(self.ideal.kernel_s)
        latency = np.maximum(compute, memory) + overhead
        return OpTimings.of(
            compute_s=compute,
            memory_s=memory,
            overhead_s=overhead,
            latency_s=latency,
            busy_s=np.where(compute >= memory, latency, 0.0),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ScoringRun:
    """Likelihood scoring of one model on one device: a prefill with logits at all positions, then a log-softmax.

    The set-up of the published table: fp16, eager ("unfused") attention, every tensor of a layer in three factors.
    """

    model: ModelSpec
    hardware: HardwareProfile
    dtype: DType = DType.FP16
    attention: Attention = Attention.UNFUSED
    form: str = "tucker"
    _priced: dict[Any, tuple[Floats, Floats]] = field(default_factory=dict)

    def decomposition(self, row: TableRow) -> Decomposition:
        """The row's configuration, checked against the model."""
        factor = make_factor(self.form, row.rank) if row.layers else None  # type: ignore[arg-type]
        factors = {Site(layer, t.name): factor for layer in row.layers for t in self.model.tensors}
        return Decomposition(factors).check(self.model)  # type: ignore[arg-type]

    def removed_bytes(self, row: TableRow) -> int:
        """Bytes of weights that a row's configuration saves."""
        shapes = {t.name: (t.out_features, t.in_features, t.weight_params) for t in self.model.tensors}
        factors = self.decomposition(row).factors
        saved = sum(shapes[site.tensor][2] - f.weight_params(*shapes[site.tensor][:2]) for site, f in factors.items())
        return saved * self.dtype.bits // 8

    def workload(self, batch: int, seq_len: int) -> Workload:
        """One batch."""
        return Workload.prefill(
            seq_len, batch=batch, dtype=self.dtype, attention=self.attention, lm_head=LmHead.ALL, runtime=Runtime.EAGER
        )

    def device_times(self, benchmark: Benchmark, seq_len: float, constants: ReplayConstants) -> tuple[Floats, Floats]:
        """Device seconds of a batch, and the part that arithmetic limits: float64 (1 + rows,), the dense row first.

        A mean length between two whole numbers is priced between the two.
        """
        low = min(max(1, math.floor(seq_len)), self.model.max_positions - 1)
        parts = [self._at(benchmark, length, constants) for length in (low, low + 1)]
        share = seq_len - low
        (first, first_busy), (second, second_busy) = parts
        return first + share * (second - first), first_busy + share * (second_busy - first_busy)

    def length_for(self, benchmark: Benchmark, dense_s: float, constants: ReplayConstants) -> float:
        """The mean padded length at which the dense model's batch takes the device `dense_s`.

        Raises:
            InputError: when no length up to the model's positions does.
        """
        low, high = 1, self.model.max_positions
        if not self._at(benchmark, low, constants)[0][0] <= dense_s <= self._at(benchmark, high, constants)[0][0]:
            raise InputError(
                f"{benchmark.name}: no length explains the dense row's device time on this hardware",
                value=dense_s,
                allowed=f"what 1 to {high} tokens take",
            )
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._at(benchmark, middle, constants)[0][0] <= dense_s else (low, middle)
        below, above = (self._at(benchmark, length, constants)[0][0] for length in (low, high))
        return low + float((dense_s - below) / (above - below))

    def by_role(self, row: TableRow, batch: int, seq_len: int, constants: ReplayConstants) -> dict[str, float]:
        """Device seconds of a batch by kind of operation; all factors together are `factors`."""
        priced = self._pricer(batch, seq_len, constants)
        ops = list(_forward(self.model, self.decomposition(row), priced.work))
        totals: dict[str, float] = {}
        for op, seconds in zip(ops, priced.time_model.times(OpColumns.of(ops)).latency_s.tolist(), strict=True):
            role = "factors" if op.is_factor else op.role
            totals[role] = totals.get(role, 0.0) + seconds
        return {**totals, "log-softmax": self._scoring_s(priced, constants)}

    def _at(self, benchmark: Benchmark, seq_len: int, constants: ReplayConstants) -> tuple[Floats, Floats]:
        key = (benchmark.name, seq_len, constants.matrix_efficiency, constants.memory_efficiency)
        if key not in self._priced:
            priced = self._pricer(benchmark.batch, seq_len, constants)
            sums, _ = priced.additive(self._configurations(benchmark))
            self._priced[key] = sums.time("device_s") + self._scoring_s(priced, constants), sums.time("busy_s")
        return self._priced[key]

    def _pricer(self, batch: int, seq_len: int, constants: ReplayConstants) -> PhasePricer:
        ideal = DatasheetRoofline.of(self.hardware, self.dtype, Runtime.EAGER)
        time_model = EffectiveRoofline(ideal=ideal, constants=constants)
        return PhasePricer(self.model, self.workload(batch, seq_len), self.hardware, time_model)

    def _scoring_s(self, priced: PhasePricer, constants: ReplayConstants) -> float:
        elements = priced.work.tokens * self.model.vocab_size
        traffic = elements * (priced.work.act_bytes + 3 * FP32_BYTES)
        rate = self.hardware.memory_bytes_per_s * constants.memory_efficiency
        return traffic / rate + _SCORING_KERNELS * self.hardware.kernel_floor_s

    @functools.lru_cache(maxsize=64)  # noqa: B019 - runs are few and short-lived
    def _configurations(self, benchmark: Benchmark) -> Configurations:
        rows = (benchmark.dense, *benchmark.rows)
        return Configurations.stack([Configurations.of(self.model, self.decomposition(row)) for row in rows])


def load_constants(path: str | Path) -> ReplayConstants:
    """Read a file of constants.

    Raises:
        InputError: when it cannot be read, or a constant is missing, unknown or out of its range.
    """
    content = Node(str(path), read_json(path, "constants", InputError), InputError)
    part = content.entries(["schema", "constants"])
    if part["schema"].integer(0, 10**6) != SCHEMA:
        raise part["schema"].wrong(str(SCHEMA))
    entries = part["constants"].table(ReplayConstants.__slots__)
    return ReplayConstants(**{name: node.number(*_bounds(name)) for name, node in entries.items()})


def _bounds(name: str) -> tuple[float, float]:
    """The least and the greatest value of a constant."""
    if name.endswith("efficiency"):
        return 1e-6, 1.0
    return (1e-9 if name == "compute_w" else 0.0), 1e9


def _forward(model: ModelSpec, decomposition: Decomposition, work: Workload) -> Iterator[Op]:
    from costmodel.forward.passes import forward_ops

    yield from forward_ops(model, decomposition, work)
