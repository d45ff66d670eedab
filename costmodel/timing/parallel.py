"""Times of one of several devices that share out a model: its own operations, and the collectives among all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from costmodel.timing.around import TimesAroundDevice
from costmodel.timing.collectives import collective_time
from costmodel.timing.columns import EXCHANGES, OpColumns, OpTimings


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ParallelTimes(TimesAroundDevice):
    """A device's time model beside the time of collectives, which nothing overlaps with.

    While it waits for others a device counts as idle.
    """

    tp: int
    """Devices that share out each weight."""
    ep: int
    """Groups of them that share out experts, among which all-to-alls go."""

    def times(self, ops: OpColumns) -> OpTimings:
        """Seconds of each operation; exactly 0 where kernels = 0."""
        if ops.message_bytes is None:
            return self.device.times(ops)
        if isinstance(ops.kind, str):
            return self._collectives(ops.kind, ops)
        sent = np.isin(ops.kind, EXCHANGES)
        own = replace(ops, kind=np.where(sent, "elementwise", ops.kind), kernels=np.where(sent, 0, ops.kernels))
        timings = self.device.times(replace(own, message_bytes=None))
        for kind in dict.fromkeys(ops.kind[sent].ravel().tolist()):
            mask = (ops.kind == kind) * 1
            exchanged = self._collectives(kind, replace(ops, kernels=ops.kernels * mask))
            timings = OpTimings(timings.table + exchanged.table)
        return timings

    def _collectives(self, kind: str, ops: OpColumns) -> OpTimings:
        """Operations that are all of one collective, where they have a kernel.

        Sends were not measured: one takes what two devices take to gather two such messages, each sending its own.
        """
        assert ops.message_bytes is not None
        there = ops.kernels > 0
        devices, message = self.ep if kind == "alltoall" else self.tp, ops.message_bytes.astype(np.float64)
        if kind == "send":
            kind, devices, message = "all_gather", 2, 2 * message
        took = collective_time(self.hardware, kind, devices, message)
        latency, start, wire = (
            np.where(there, part, 0.0) for part in (took.latency_s, took.latency_part_s, took.bandwidth_part_s)
        )
        return OpTimings.of(
            compute_s=np.zeros_like(latency),
            memory_s=wire,
            overhead_s=start,
            latency_s=latency,
            lower_s=np.minimum(latency, np.maximum(start, wire)),
            upper_s=np.maximum(latency, start + wire),
            busy_s=np.zeros_like(latency),
            p05_s=np.where(there, took.p05_s, 0.0) if self.has_interval else latency,
            p95_s=np.where(there, took.p95_s, 0.0) if self.has_interval else latency,
        )
