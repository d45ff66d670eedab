"""A device's time model as a stack uses it: kernels merged, fused and copied, and launched by a host."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from costmodel.arrays import Floats, Ints
from costmodel.hardware.host import Host
from costmodel.hardware.stack import Stack
from costmodel.timing.columns import (
    EXCHANGES,
    MEMORY_ROW,
    OVERHEAD_ROW,
    WHOLE_ROWS,
    Z90,
    OpColumns,
    OpTimings,
    TimeModel,
)

_OF_GENERATION = 0.5
"""What a pass under a stack keeps of the kernels' intervals of a device that was not measured, which are of single
kernels; of 0.3, 0.5, 0.6 and 0.7 it is the one by which intervals of published passes hold the most where a source is
left out, at no more than twice the error (studies/stacks)."""
_CLASS_OF = {
    "gemm": "gemm",
    "attention": "attention",
    "kv_cache": "cache",
    **dict.fromkeys(EXCHANGES, "communication"),
}
"""Class of each kind of operation; every other kind is `other`. Of `communication` a stack says nothing: its factors
are 1."""


def class_of(kind: str) -> str:
    """The class, of `costmodel.hardware.stack.CLASSES`, that a kind of operation belongs to."""
    return _CLASS_OF.get(kind, "other")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StackTimes:
    """Times of a device under a stack.

    Each operation takes time x the kernel's seconds beside its fixed ones + launches x the fixed ones, with the stack's
    figures of its class, and a matrix product no less than its bytes do at the rate at which the stack's kernels read;
    a pass adds the stack's step time once (`costmodel.pricing`). Where a stack merges products, dense members of a
    group are priced as the one product that they are, each with its share of columns; a factored member stands alone,
    and the others keep their shares: what they lose by a narrower product is not priced. The host launches kernels x
    launches of the class, each in launch_s x the host's slowness, or where the stack has no launch of its own in what
    bare kernels take; where a pass is replayed it launches nothing. The 90 % interval puts two independent terms
    together in quadrature: what a pass keeps of the kernels' own intervals (`kept`; a laboratory's, or a generation's,
    are part of them) and the stack's spread of whole passes whose source was not fitted; a stack without a spread keeps
    the kernels' own.
    """

    device: TimeModel
    stack: Stack
    host: Host
    element_bytes: int
    """Of an activation."""
    core_cycles_per_s: float
    """Clock cycles of all cores together, which the stack's reads are counted by; infinite where they set no limit."""

    @property
    def level(self) -> str:
        """Of the device's times."""
        return self.device.level

    @property
    def has_interval(self) -> bool:
        """A stack that states its spread gives every level an interval."""
        return self.device.has_interval or self.stack.spread > 0

    @property
    def together(self) -> float:
        """All, where the stack has a spread: `times` has taken what a pass keeps of the kernels' intervals."""
        return 1.0 if self.stack.spread else self.device.together

    @property
    def kept(self) -> float:
        """Of the distance between a pass and the sum of its kernels' ends."""
        return _OF_GENERATION if self.device.level == "generation" else self.device.together

    @property
    def host_launch_s(self) -> float:
        """Of one kernel that the stack launches unmerged; 0 where it launches none. Without a launch of the stack's own
        that of bare kernels, which is the device's whatever the host."""
        launch_s = self.stack.launch_s
        return self.device.host_launch_s if launch_s is None else launch_s * self.host.slowness

    @property
    def step_s(self) -> float:
        """Seconds of a pass beside all of its operations."""
        return self.stack.step_s

    def host_and_step(self, end: int) -> tuple[float, float]:
        """Factor of the host's seconds, and seconds of the step, at an end of the interval."""
        host_spread = float(np.hypot(self.stack.launch_spread, self.host.spread)) if self.stack.launch_s else 0.0
        host, step = (float(np.exp(end * Z90 * spread)) for spread in (host_spread, self.stack.spread))
        return host, self.step_s * step

    def times(self, ops: OpColumns) -> OpTimings:
        """Seconds of each operation; exactly 0 where kernels = 0."""
        time, launches = self._by_class(ops, self.stack.time), self._by_class(ops, self.stack.launches)
        timings = self._merged_times(ops)
        fixed = timings.overhead_s * launches
        table = timings.table * time
        table[WHOLE_ROWS] = (timings.table[WHOLE_ROWS] - timings.overhead_s) * time + fixed
        table[OVERHEAD_ROW] = fixed
        if self.stack.gemm_bytes_per_cycle is not None:
            rate = self.core_cycles_per_s * self.stack.gemm_bytes_per_cycle
            read_s = np.where(np.asarray(ops.kind) == "gemm", ops.hbm_bytes, 0) / rate
            table[WHOLE_ROWS] += np.maximum(read_s - (OpTimings(table).latency_s - fixed), 0.0)
            table[MEMORY_ROW] = np.maximum(table[MEMORY_ROW], read_s)
        scaled = OpTimings(table)
        if self.stack.spread:
            whole = Z90 * self.stack.spread
            low, high = (np.hypot(self.kept * each, whole) for each in _ends(timings))
            return scaled.with_interval(scaled.latency_s * np.exp(-low), scaled.latency_s * np.exp(high))
        return scaled

    def launches(self, ops: OpColumns) -> Floats:
        """Operations that the host launches for each entry: of a merged product its share."""
        launched = ops.kernels * self._by_class(ops, self.stack.launches)
        return np.asarray(launched * self._share(ops), dtype=np.float64)

    def host_seconds(self, kernels: Ints, summed_s: Floats) -> Floats:
        """Each class has launches of its own: their sum."""
        return summed_s

    def _share(self, ops: OpColumns) -> Floats | float:
        """The part of a merged product that each operation is; 1 where it stands alone."""
        if not self.stack.merges or ops.merged_n is None:
            return 1.0
        merged = ops.merged_n > 0
        return np.where(merged, ops.n / np.where(merged, ops.merged_n, 1), 1.0)

    def _merged_times(self, ops: OpColumns) -> OpTimings:
        """The device's times, of a member of a merged product its share, by columns, of the whole product's."""
        share = self._share(ops)
        if isinstance(share, float):
            return self.device.times(ops)
        more = 1 / np.maximum(share, np.finfo(np.float64).tiny) - 1
        shared_input = ops.m * ops.k * self.element_bytes
        whole = replace(
            ops,
            n=np.where(share < 1, ops.merged_n if ops.merged_n is not None else 0, ops.n),
            executed_flops=_rounded(ops.executed_flops * (1 + more)),
            hbm_bytes=_rounded(ops.hbm_bytes + more * (ops.hbm_bytes - shared_input) * (share < 1)),
        )
        return OpTimings(self.device.times(whole).table * share)

    def _by_class(self, ops: OpColumns, figures: Mapping[str, float]) -> Floats | float:
        """The figure of each operation's class."""
        if isinstance(ops.kind, str):
            return figures.get(class_of(ops.kind), 1.0)
        by_kind = [figures.get(class_of(kind), 1.0) for kind in ops.kind.ravel().tolist()]
        return np.array(by_kind, dtype=np.float64).reshape(ops.kind.shape)


def _ends(timings: OpTimings) -> tuple[Floats, Floats]:
    """How far the ends of the operations' intervals lie from their latencies, in logarithms; 0 where nothing runs."""
    least = np.finfo(np.float64).tiny
    low, latency, high = (np.maximum(each, least) for each in (timings.p05_s, timings.latency_s, timings.p95_s))
    return np.maximum(np.log(latency / low), 0.0), np.maximum(np.log(high / latency), 0.0)


def _rounded(values: Floats) -> Ints:
    return np.rint(values).astype(np.int64)
