"""Layers of experts by the form that was fitted to measured ones, within any calibrated pass.

The form of `costmodel.timing.moe` is a sum over the layer's kernels, and so it is dealt out to the layer's operations:
each grouped product takes the p-norm of its arithmetic, its traffic and a tile's walk; what stands around them their
share of the copied activations, and the router the fixed time and that of each expert hit. Gate and up, dense, are one
product, half of which each is. A factor of a stack is one more grouped product of the same kernel, narrower, and what
runs beyond the layer's two products costs what a kernel of the device costs beside its work.

The form's errors go with the shape of an expert, which the layers of a model share, and so a pass keeps all of the
interval: `times` spreads it by what a pass leaves of intervals of operations (`TimeModel.together`, in logarithms).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from costmodel.arrays import Floats
from costmodel.forward.work import ExpertWork
from costmodel.forward.workload import ExpertKernels, Workload
from costmodel.hardware.profile import HardwareProfile
from costmodel.model import ModelSpec
from costmodel.timing.around import TimesAroundDevice
from costmodel.timing.columns import OVERHEAD_ROW, OpColumns, OpTimings, TimeModel
from costmodel.timing.moe import grouped_product, with_traffic_beside
from costmodel.timing.moe_file import WIDEN, MeasuredSizes, MoeNumbers, moe_table
from costmodel.timing.routing import TILES
from costmodel.units import DType


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ExpertTimes(TimesAroundDevice):
    """A device's time model with the operations of expert layers by the fitted form."""

    numbers: MoeNumbers
    dtype: DType

    def times(self, ops: OpColumns) -> OpTimings:
        """Seconds of each operation; exactly 0 where kernels = 0."""
        timings = self.device.times(ops)
        if ops.experts is None:
            return timings
        own = ops.experts.any(axis=-1) & (ops.kernels > 0)
        if not own.any():
            return timings
        work = ExpertWork(*ops.experts[own].T.astype(np.float64))
        m, n, k = (column[own].astype(np.float64) for column in (ops.m, ops.n, ops.k))
        table = timings.table.copy()
        table[:, own] = self._times(work, m, n, k, timings.table[OVERHEAD_ROW][own]).table
        return OpTimings(table)

    def _times(self, work: ExpertWork[Floats], m: Floats, n: Floats, k: Floats, kernel_s: Floats) -> OpTimings:
        numbers, hardware = self.numbers, self.hardware
        products = n > 0
        hit = np.maximum(work.hit, 1)
        tiles = np.array(TILES, dtype=np.float64)[:, None]
        tiled = np.tensordot(np.array(numbers.tile_shares), hit * np.ceil(m / hit / tiles) * tiles, axes=1)
        paired = np.maximum(work.paired, 1)
        parts = grouped_product(
            numbers, hardware, self.dtype, tiled=tiled, rows=m, hit=work.hit, n=n * paired, k=np.maximum(k, 1)
        )
        compute, memory, walk, busy = (np.where(products, part / paired, 0.0) for part in parts)
        moved = numbers.inner_copies * work.inner * 2 + numbers.hidden_copies * work.hidden * 2 + work.stream
        beside = moved / (hardware.memory_bytes_per_s * numbers.stream_memory)
        overhead = work.layers * (numbers.fixed_s + numbers.expert_s * work.hit) + work.extra / 2 * kernel_s
        return with_traffic_beside(
            compute=compute,
            memory=memory,
            walk=walk,
            busy=busy,
            beside=beside,
            overhead=overhead,
            low=numbers.low / self.together if self.has_interval else 0.0,
            high=numbers.high / self.together if self.has_interval else 0.0,
        )


def expert_numbers(model: ModelSpec, work: Workload, hardware: HardwareProfile) -> MoeNumbers | None:
    """The numbers by which a device's expert layers are priced under a calibration; None where it was not measured with
    such weights, or experts run one after the other. Beyond the measured layers the interval is wider."""
    if model.experts is None or work.experts is not ExpertKernels.FUSED or work.stored is not None:
        return None
    held = work.site_dtype.bits // 8
    if held != work.input_bytes or held > 2:
        return None
    found = moe_table().get((hardware.name, "fp8" if work.fp8 else "bf16"))
    if not found:
        return None
    numbers, share = found[0], work.of_device
    sizes = (share.tokens * work.ep, model.experts.number // work.ep, model.experts.intermediate_size // work.tp)
    compute, memory = (float(each[0]) for each in numbers.shape_factors(*np.array(sizes, dtype=np.float64)[:, None]))
    numbers = replace(numbers, compute=numbers.compute * compute, memory=numbers.memory * memory)
    if not beyond(numbers, model, work):
        return numbers
    return replace(numbers, low=numbers.low * WIDEN, high=numbers.high * WIDEN)


def beyond(numbers: MoeNumbers, model: ModelSpec, work: Workload) -> list[str]:
    """Which sizes of a layer of experts lie outside of those that the numbers were fitted to, in words."""
    if model.experts is None:
        return []
    sizes = MeasuredSizes(
        tokens=work.of_device.tokens * work.ep,
        hidden_size=model.experts.width or model.hidden_size,
        intermediate_size=model.experts.intermediate_size // work.tp,
        top_k=model.experts.per_token,
        experts=model.experts.number,
    )
    return [
        f"{name} {size} ({low} to {high})"
        for name, size, (low, high) in zip(sizes._fields, sizes, numbers.measured, strict=True)
        if not low <= size <= high
    ]


def numbers_of(times: TimeModel) -> MoeNumbers | None:
    """The numbers that a time model prices experts by, whatever it is wrapped in; None where none."""
    inner: object = times
    while not isinstance(inner, ExpertTimes):
        inner = getattr(inner, "device", None)
        if inner is None:
            return None
    return inner.numbers
