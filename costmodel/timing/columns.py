"""Operations as columns, their times as columns, and what every time model answers."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from costmodel.arrays import Bools, Floats, Ints
from costmodel.forward.cost import OpCost
from costmodel.forward.ops import Op
from costmodel.forward.work import NO_EXPERTS, AttentionShape

_NO_ATTENTION = AttentionShape(0, 0, 0, 0, 0, 0)
Z90 = 1.645
"""Standard deviations of a normal distribution from its middle to either end of its central 90 %."""
BOUNDS = ("compute", "memory", "overhead")
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "alltoall")
"""Kinds of operations in which devices exchange what they have."""
EXCHANGES = (*COLLECTIVES, "send")
"""The same, and what a stage sends to the next."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpColumns:
    """Operations as columns of one shape; every entry that stands for no operation has kernels = 0 and zeros.

    `kind` is the operation's class, or one class for all; m, n, k are 0 where the operation is no weight GEMM.
    """

    kind: npt.NDArray[np.str_] | str
    m: Ints
    n: Ints
    k: Ints
    executed_flops: Ints
    """Of matrix products, without what a masked kernel skips."""
    vector_flops: Ints
    hbm_bytes: Ints
    kernels: Ints
    attention: Ints | None = None
    """Of one more axis: the `AttentionShape` of fused attention, zeros elsewhere; None where there is none."""
    merged_n: Ints | None = None
    """Columns of the product that a merging stack makes of a GEMM and its neighbours, 0 where it stands alone."""
    message_bytes: Ints | None = None
    """Of collectives among devices, 0 elsewhere; None where there is none."""
    experts: Ints | None = None
    """Of one more axis: the `ExpertWork` of what runs for experts in one kernel, zeros elsewhere; None where nothing
    does."""
    fp8: Bools | None = None
    """Which GEMMs take both inputs in fp8 and give a result in 16 bits; None where none does."""

    @classmethod
    def of(cls, ops: Sequence[Op]) -> OpColumns:
        """Columns of a list of operations."""
        shapes = _table([op.gemm or (0, 0, 0) for op in ops], 3)
        flops, skipped, vector_flops, *moved, messages, kernels = _table([op.cost for op in ops], len(OpCost._fields))
        attention = experts = None
        if any(attended := [op.attention for op in ops]):
            attention = _table([each or _NO_ATTENTION for each in attended], len(_NO_ATTENTION)).T
        if any(grouped := [op.experts for op in ops]):
            experts = _table([each or NO_EXPERTS for each in grouped], len(NO_EXPERTS)).T
        fp8 = [op.fp8 for op in ops]
        return cls(
            attention=attention,
            experts=experts,
            message_bytes=messages if messages.any() else None,
            kind=np.array([op.kind for op in ops], dtype=np.str_),
            m=shapes[0],
            n=shapes[1],
            k=shapes[2],
            executed_flops=flops - skipped,
            vector_flops=vector_flops,
            hbm_bytes=np.sum(moved, axis=0),
            kernels=kernels,
            merged_n=np.array([op.merged_n for op in ops], dtype=np.int64),
            fp8=np.array(fp8, dtype=np.bool_) if any(fp8) else None,
        )


def _table(rows: Sequence[tuple[int, ...]], width: int) -> Ints:
    """The columns of rows of whole numbers, int64 (width, rows)."""
    return np.fromiter(itertools.chain.from_iterable(rows), np.int64, width * len(rows)).reshape(-1, width).T


TIMING_ROWS = (
    "latency_s",
    "lower_s",
    "upper_s",
    "p05_s",
    "p95_s",
    "compute_s",
    "memory_s",
    "busy_s",
    "overhead_s",
)
"""Rows of `OpTimings.table`: first what an operation takes in all, then its parts."""
WHOLE_ROWS = slice(5)
"""Those of an operation in all."""
_ROW = {name: row for row, name in enumerate(TIMING_ROWS)}
OVERHEAD_ROW = _ROW["overhead_s"]
MEMORY_ROW = _ROW["memory_s"]


@dataclass(frozen=True, slots=True)
class OpTimings:
    """Times of operations in seconds: `table` float64 (TIMING_ROWS, ...).

    `latency_s` is the model's answer; `lower_s` and `upper_s` are the max and the sum of compute and memory time plus
    overhead: bounds of the model, not of the truth. `busy_s` is the part in which the device works at its power limit.
    `p05_s` and `p95_s` hold 90 % of measurements between them where the model has intervals, else they equal
    `latency_s`. Over several operations each column adds up; the interval's ends do where errors go together, and else
    come nearer to the latency (`TimeModel.together`).
    """

    table: Floats

    @classmethod
    def of(
        cls,
        *,
        compute_s: Floats,
        memory_s: Floats,
        overhead_s: Floats,
        latency_s: Floats,
        busy_s: Floats,
        lower_s: Floats | None = None,
        upper_s: Floats | None = None,
        p05_s: Floats | None = None,
        p95_s: Floats | None = None,
    ) -> OpTimings:
        """The columns by name, all of the latency's shape.

        By default the bounds are those that follow from the parts, with the latency between them, and the interval is
        the latency alone.
        """
        if lower_s is None:
            lower_s = np.minimum(np.maximum(compute_s, memory_s) + overhead_s, latency_s)
        if upper_s is None:
            upper_s = np.maximum(compute_s + memory_s + overhead_s, latency_s)
        low = latency_s if p05_s is None else p05_s
        high = latency_s if p95_s is None else p95_s
        table = np.empty((len(TIMING_ROWS), *latency_s.shape))
        columns = (latency_s, lower_s, upper_s, low, high, compute_s, memory_s, busy_s, overhead_s)
        for row, column in enumerate(columns):
            table[row] = column
        return cls(table)

    def _row(self, name: str) -> Floats:
        row: Floats = self.table[_ROW[name]]
        return row

    @property
    def latency_s(self) -> Floats:
        """What each operation takes."""
        return self._row("latency_s")

    @property
    def lower_s(self) -> Floats:
        """The lower bound."""
        return self._row("lower_s")

    @property
    def upper_s(self) -> Floats:
        """The upper bound."""
        return self._row("upper_s")

    @property
    def p05_s(self) -> Floats:
        """The lower end of the interval."""
        return self._row("p05_s")

    @property
    def p95_s(self) -> Floats:
        """The upper end of the interval."""
        return self._row("p95_s")

    @property
    def compute_s(self) -> Floats:
        """Arithmetic alone."""
        return self._row("compute_s")

    @property
    def memory_s(self) -> Floats:
        """Traffic alone."""
        return self._row("memory_s")

    @property
    def busy_s(self) -> Floats:
        """The time at the power limit."""
        return self._row("busy_s")

    @property
    def overhead_s(self) -> Floats:
        """What kernels take beside their work."""
        return self._row("overhead_s")

    def with_interval(self, p05_s: Floats, p95_s: Floats) -> OpTimings:
        """The same between other ends of the interval."""
        table = self.table.copy()
        table[_ROW["p05_s"]], table[_ROW["p95_s"]] = p05_s, p95_s
        return OpTimings(table)

    def bound(self) -> list[str]:
        """What limits each operation: compute, memory, or the overhead of its kernels."""
        stacked = np.stack([self.compute_s, self.memory_s, self.overhead_s])
        return [BOUNDS[index] for index in stacked.argmax(axis=0)]


class TimeModel(Protocol):
    """Anything that prices operations on a device."""

    @property
    def level(self) -> str:
        """What the numbers stand on: datasheet, generation, probes or samples."""

    @property
    def has_interval(self) -> bool:
        """Whether `p05_s` and `p95_s` say anything."""

    @property
    def host_launch_s(self) -> float:
        """Time the host needs to launch one kernel while the device works; 0 where it does not run beside it."""

    @property
    def together(self) -> float:
        """How much of the intervals of operations the interval of their sum keeps: 1 where errors go together."""

    @property
    def step_s(self) -> float:
        """Seconds of a pass beside all of its operations."""

    def host_and_step(self, end: int) -> tuple[float, float]:
        """Factor of the host's seconds, and seconds of the step, at an end of the interval: -1 its lower one, 1 its
        upper one, 0 the prediction."""

    def times(self, ops: OpColumns) -> OpTimings:
        """Seconds of each operation; exactly 0 where kernels = 0."""

    def launches(self, ops: OpColumns) -> Ints | Floats:
        """What the host launches for each entry."""

    def host_seconds(self, kernels: Ints, summed_s: Floats) -> Floats:
        """Time of the host to launch passes of so many kernels, whose launches take `summed_s` one by one."""
