"""The time model of a calibrated device: each operation by the form of its class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from costmodel.arrays import Floats
from costmodel.forward.work import AttentionShape
from costmodel.timing.bare import BareKernels
from costmodel.timing.calibration.shaped import FormName, ShapedForm, StreamForm
from costmodel.timing.columns import TIMING_ROWS, OpColumns, OpTimings

GENERAL_STREAM = "elementwise"
"""The class that prices whatever moves data and has no class of its own."""
_SHAPED_GEMM, _FUSED_ATTENTION = "GEMM of a shape", "attention of a shape"
"""What `_classes` calls the operations that have a shape; others of kinds `gemm` and `attention` have none."""
TOGETHER = 0.6
"""Of the distance between a pass and the sum of its kernels' ends: kernels of a layer, which repeat, are five to eight
different ones whose errors are their own (in quadrature, a factor of about 0.4), and share the laboratory's (1)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class CalibratedTimes(BareKernels):
    """Times from a calibration.

    GEMMs and fused attention by shape; kernels that move data by the bandwidth of their class, or of `elementwise`
    where an operation is a chain of several kernels or its class was not measured; matrix products without a shape
    (unfused attention) by the roofline that the GEMMs achieve, without its correction.

    Attributes:
        level: probes or samples.
        shaped: forms by shape.
        streams: forms by class of operation; GENERAL_STREAM is always among them.
        host_launch_s: host time per kernel beside the device; 0 where it does not run beside it.
    """

    level: str
    shaped: Mapping[FormName, ShapedForm]
    streams: Mapping[str, StreamForm]
    host_launch_s: float
    has_interval: bool = True
    together: float = TOGETHER

    def times(self, ops: OpColumns) -> OpTimings:
        """Seconds of each operation."""
        shape = ops.kernels.shape
        if isinstance(ops.kind, str) and ops.kind == "gemm" and ops.fp8 is None and ops.kernels.all():
            gemms = np.empty((3, *shape))
            gemms[0], gemms[1], gemms[2] = ops.m, ops.n, ops.k
            flops, moved = (each.ravel().astype(np.float64) for each in (ops.executed_flops, ops.hbm_bytes))
            found = self.shaped["gemm"].times(gemms.reshape(3, -1), flops, moved)
            return OpTimings(found.table.reshape(-1, *shape))
        out = np.zeros((len(TIMING_ROWS), ops.kernels.size))
        live = ops.kernels.ravel() > 0
        if isinstance(ops.kind, str) and ops.kind == "gemm":
            rows = np.flatnonzero(live)
            self._gemm(out, rows, ops)
        else:
            for rows, kind in self._classes(ops, live):
                if kind == _SHAPED_GEMM:
                    self._gemm(out, rows, ops)
                elif kind == _FUSED_ATTENTION:
                    self._attention(out, rows, ops)
                else:
                    self._stream(out, rows, ops, kind)
        return OpTimings(out.reshape(len(TIMING_ROWS), *shape))

    def _classes(self, ops: OpColumns, live: np.ndarray) -> list[tuple[np.ndarray, str]]:
        """Row numbers by the form that prices them."""
        kinds = np.broadcast_to(np.asarray(ops.kind), ops.kernels.shape).ravel()
        shaped = (ops.k.ravel() > 0) & live
        attention = np.zeros_like(live)
        if ops.attention is not None and {"prefill", "decode"} & set(self.shaped):
            attention = (ops.attention[..., 0].ravel() > 0) & live
        found = [(np.flatnonzero(shaped), _SHAPED_GEMM), (np.flatnonzero(attention), _FUSED_ATTENTION)]
        rest = live & ~shaped & ~attention
        found += [(np.flatnonzero(rest & (kinds == kind)), kind) for kind in sorted(set(kinds[rest].tolist()))]
        return [(rows, kind) for rows, kind in found if len(rows)]

    def _gemm(self, out: Floats, rows: np.ndarray, ops: OpColumns, form: FormName = "gemm") -> None:
        if len(rows) == 0:
            return
        if ops.fp8 is not None and "gemm:fp8" in self.shaped:
            fp8 = ops.fp8.ravel()[rows]
            self._gemm(out, rows[fp8], replace(ops, fp8=None), "gemm:fp8")
            self._gemm(out, rows[~fp8], replace(ops, fp8=None))
            return
        table = np.empty((5, len(rows)))
        for row, column in enumerate((ops.m, ops.n, ops.k, ops.executed_flops, ops.hbm_bytes)):
            table[row] = column.ravel()[rows]
        flops, moved = table[3:]
        out[:, rows] = self.shaped[form].times(table[:3], flops, moved).table

    def _attention(self, out: Floats, rows: np.ndarray, ops: OpColumns) -> None:
        if ops.attention is None:
            return
        shape = ops.attention.reshape(-1, len(AttentionShape._fields))[rows].T.astype(np.float64)
        flops, moved = (each.ravel()[rows].astype(np.float64) for each in (ops.executed_flops, ops.hbm_bytes))
        one = AttentionShape(*shape).q_len == 1
        for kind, chosen in (("decode", one), ("prefill", ~one)):
            if chosen.any():
                form = self.shaped.get(kind) or self.shaped["prefill" if kind == "decode" else "decode"]  # type: ignore[call-overload]
                out[:, rows[chosen]] = form.times(shape[:, chosen], flops[chosen], moved[chosen]).table

    def _stream(self, out: Floats, rows: np.ndarray, ops: OpColumns, kind: str) -> None:
        flops, moved, kernels = (
            each.ravel()[rows].astype(np.float64) for each in (ops.executed_flops, ops.hbm_bytes, ops.kernels)
        )
        general = self.streams[GENERAL_STREAM]
        own = self.streams.get(kind, general)
        for form, chosen in ((own, kernels == 1), (general, kernels > 1)):
            if chosen.any():
                out[:, rows[chosen]] = form.times(flops[chosen], moved[chosen], kernels[chosen]).table
