"""Costs of many configurations at once: arrays of ranks in, arrays of costs out. One estimate is the batch of one.

A configuration is three int arrays of shape (..., layers, tensors): the form of each site and its two inner ranks.
Everything but the fixed operations depends on sites alone and adds up over them, so a pass costs
outer + sum over kept layers (fixed + sum over tensors site), with three exceptions that are taken from the sums at the
end: eager latency is the larger of device and host time, energy follows from latency and busy time, and peak memory
takes the maximum of live activations. Tested against the operations of the DAG (costmodel.forward.passes).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from costmodel.arrays import Floats, Ints
from costmodel.decomposition.factors import Decomposition, LowRank
from costmodel.errors import InputError
from costmodel.forward.cost import OpCost
from costmodel.forward.frame import INPUT, carried, epilogue_ops, first_input, layer_ops, prologue_ops
from costmodel.forward.ops import Op, live_bytes
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import Phase, Workload
from costmodel.hardware.profile import HardwareProfile
from costmodel.model import ModelSpec
from costmodel.pricing.linears import linear_columns
from costmodel.timing.columns import OpColumns, OpTimings, TimeModel
from costmodel.timing.datasheet import energy_joules

DENSE, SVD, TUCKER = 0, 1, 2
COUNTS = ("params", "weight_bytes", "flops", "vector_flops", "hbm_bytes", "kernels", "kv_cache_bytes")
"""Additive integer costs, the last axis of `Additive.counts`."""
TIMES = ("device_s", "lower_s", "upper_s", "busy_s", "p05_s", "p95_s")
"""Additive times of the device, the last axis of `Additive.times`."""
_LARGEST = 1 << 62
"""No count of a pass, whatever its ranks, exceeds this; sums of a few stay within int64."""
_MOST_FACTORS = 3
"""Factors multiply no count of a dense linear by more: three linears of at most the smaller side's rank."""
_ORDINARY_TOKENS = 1 << 16
"""A model that is too large to count with so many tokens is to blame itself, not the workload."""


@dataclass(frozen=True, slots=True)
class Additive:
    """Costs that add up: `counts` int64 of shape (..., len(COUNTS)), `times` float64 of shape (..., len(TIMES))."""

    counts: Ints
    times: Floats

    def sum(self, axis: int | tuple[int, ...]) -> Additive:
        """Sum over site or layer axes, given as negative numbers that leave the last axis alone."""
        return Additive(self.counts.sum(axis=axis), self.times.sum(axis=axis))


@dataclass(frozen=True, slots=True)
class Configurations:
    """Ranks of many configurations: `form`, `rank_in`, `rank_out` int64 of shape (..., layers, tensors), with ranks 0
    where the form is DENSE and two equal ones where it is SVD; `kept` bool of shape (..., layers), False where the
    layer is dropped."""

    form: Ints
    rank_in: Ints
    rank_out: Ints
    kept: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]

    @classmethod
    def of(cls, model: ModelSpec, decomposition: Decomposition) -> Configurations:
        """The arrays of one configuration, which is checked against the model."""
        shape = (model.num_layers, len(model.tensors))
        arrays = np.zeros((3, *shape), dtype=np.int64)
        columns = {tensor.name: index for index, tensor in enumerate(model.tensors)}
        limits = [min(tensor.out_features, tensor.in_features) for tensor in model.tensors]
        rows = []
        for (layer, name), factor in decomposition.factors.items():
            column = columns.get(name, -1)
            first, last = factor.ranks
            in_model = column >= 0 and 0 <= layer < shape[0]
            if not (in_model and min(first, last) >= 1 and max(first, last) <= limits[column]):
                decomposition.check(model)
            rows.append((layer * shape[1] + column, SVD if isinstance(factor, LowRank) else TUCKER, first, last))
        if rows:
            table = np.array(rows)
            if table.dtype.kind != "i":  # a rank that is no whole number
                decomposition.check(model)
            places, *values = table.T
            arrays.reshape(3, -1)[:, places] = values
        kept = np.ones(shape[0], dtype=np.bool_)
        if decomposition.dropped:
            decomposition.check(model)
            kept[list(decomposition.dropped)] = False
        return cls(arrays[0], arrays[1], arrays[2], kept)


class PhasePricer:
    """Prices configurations of one model under one workload on one device; everything shared is computed once.

    Raises:
        HardwareError: when the device has no rate for the workload's type.
        InputError: when counts of the workload would not fit 64 bits.
    """

    def __init__(self, model: ModelSpec, work: Workload, hardware: HardwareProfile, time_model: TimeModel) -> None:
        self.model, self.work, self.hardware, self.time_model = model, work, hardware, time_model
        windows = list(dict.fromkeys(model.sliding_windows))
        self.window_of_layer = np.array([windows.index(window) for window in model.sliding_windows])
        templates = [layer_ops(model, work, window) for window in windows]
        before, after = prologue_ops(model, work), epilogue_ops(model, work)
        _check_counts(model, work)
        outer_params = sum(model.outer_params.values())
        fixed_params = model.params_per_layer - sum(tensor.params for tensor in model.tensors)
        self.outer = self._fixed([*before, *after], outer_params, 0)
        """Costs outside the layers, shape ()."""
        self.layer_fixed = _stack(
            [
                self._fixed([op for op in ops if op.site is None], fixed_params, window_kv_bytes(model, work, window))
                for ops, window in zip(templates, windows, strict=True)
            ]
        )
        """Costs of a layer outside its tensors, shape (windows,)."""
        self._liveness(before, templates, after)
        self.out_features = np.array([t.out_features for t in model.tensors], dtype=np.int64)
        self.in_features = np.array([t.in_features for t in model.tensors], dtype=np.int64)
        self.bias = np.array([t.out_features if t.bias else 0 for t in model.tensors], dtype=np.int64)
        """Elements of each tensor's bias."""

    def _liveness(self, before: tuple[Op, ...], templates: list[tuple[Op, ...]], after: tuple[Op, ...]) -> None:
        """Set what peak memory is put together from: live bytes of dense layers by window, and outside of them."""
        model = self.model
        held, first = carried(model, before), first_input(before)
        held_bytes = sum(op.out_bytes for op in before if op.name in held)
        output_bytes = next(op.out_bytes for op in before if op.name == first)
        self.shared_bytes = output_bytes if first in held else 0
        """Bytes of the first layer's input that are counted twice: also among what lives through all layers."""
        self.outer_live = _outer_live(before, after, output_bytes, held)
        empty = Decomposition(dropped=frozenset(range(model.num_layers)))
        self.empty_live = max(live_bytes(forward_ops(model, empty, self.work)))
        """Peak of a pass whose layers are all dropped."""
        lives = [_layer_live(template, output_bytes, held_bytes) for template in templates]
        self.fixed_live = np.array([fixed for fixed, _ in lives], dtype=np.int64)
        self.site_live = np.array([[sites[t.name] for t in model.tensors] for _, sites in lives], dtype=np.int64)

    def _fixed(self, ops: list[Op], params: int, kv_bytes: int) -> Additive:
        costs = [op.cost for op in ops]
        counts = [params, params * self.work.act_bytes, *_summed(costs), kv_bytes]
        timings = self.time_model.times(OpColumns.of(ops))
        return Additive(np.array(counts, dtype=np.int64), np.array([each.sum() for each in _columns(timings)]))

    def sites(self, form: Ints, rank_in: Ints, rank_out: Ints) -> tuple[Additive, Ints]:
        """Costs of sites, tensors on the last axis, and the live bytes that each adds to the rest of its layer's.

        Args:
            form, rank_in, rank_out: int64 of one shape (..., tensors), as in Configurations.

        Returns:
            Additive of shape (..., tensors), and int64 (..., tensors): live bytes beyond the dense linear's.
        """
        dense, tucker = form == DENSE, form == TUCKER
        n = np.stack([rank_in, np.where(tucker, rank_out, 0), np.broadcast_to(self.out_features, form.shape)])
        first_k = np.where(dense, 0, self.in_features)
        k = np.stack([first_k, np.where(tucker, rank_in, 0), np.where(dense, self.in_features, rank_out)])
        bias = np.zeros_like(n)
        bias[2] = self.bias
        linears, resident = linear_columns(self.work, n, k, bias)
        timings = self.time_model.times(linears)
        params, zero = n * k + bias, np.zeros_like(form)
        columns = [
            params.sum(0),
            resident.sum(0),
            linears.matrix_flops.sum(0),
            zero,
            linears.hbm_bytes.sum(0),
            linears.kernels.sum(0),
            zero,
        ]
        extra = np.where(dense, 0, self.work.tokens * self.work.act_bytes * rank_out)
        return Additive(
            np.stack(columns, axis=-1), np.stack([each.sum(0) for each in _columns(timings)], axis=-1)
        ), extra

    def additive(self, configurations: Configurations) -> tuple[Additive, Ints]:
        """Additive costs of whole passes, shape (...), and their live activation peaks in bytes, int64 (...)."""
        sites, extra = self.sites(configurations.form, configurations.rank_in, configurations.rank_out)
        kept = configurations.kept
        per_layer = sites.sum(-2)
        fixed = Additive(self.layer_fixed.counts[self.window_of_layer], self.layer_fixed.times[self.window_of_layer])
        mask = kept[..., None]
        counts = self.outer.counts + ((per_layer.counts + fixed.counts) * mask).sum(axis=-2)
        times = self.outer.times + ((per_layer.times + fixed.times) * mask).sum(axis=-2)
        site_live = (self.site_live[self.window_of_layer] + extra).max(axis=-1)
        live = np.maximum(site_live, self.fixed_live[self.window_of_layer])
        first = kept & (np.cumsum(kept, axis=-1) == 1)
        live = np.where(kept, live - first * self.shared_bytes, 0)
        peak = np.where(kept.any(axis=-1), np.maximum(live.max(axis=-1), self.outer_live), self.empty_live)
        return Additive(counts, times), peak

    def finish(self, additive: Additive, live: Ints) -> dict[str, Floats | Ints | None]:
        """The costs that are not sums, beside those that are; arrays of the batch's shape under the contract's names.

        `latency_p05_s` and `latency_p95_s` are None where the time model has no intervals, `energy_j` where the profile
        lacks a power figure.
        """
        columns: dict[str, Floats | Ints | None] = dict(zip(COUNTS, np.moveaxis(additive.counts, -1, 0), strict=True))
        device, lower, upper, busy, low, high = np.moveaxis(additive.times, -1, 0)
        host = np.float64(self.time_model.host_launch_s) * additive.counts[..., COUNTS.index("kernels")]
        latency = np.maximum(device, host)
        columns |= {
            "device_s": device,
            "host_s": host,
            "latency_s": latency,
            "latency_lower_s": np.maximum(lower, host),
            "latency_upper_s": np.maximum(upper, host),
            "latency_p05_s": np.maximum(low, host) if self.time_model.has_interval else None,
            "latency_p95_s": np.maximum(high, host) if self.time_model.has_interval else None,
        }
        columns["peak_memory_bytes"] = columns["weight_bytes"] + columns["kv_cache_bytes"] + live  # type: ignore[operator]
        columns["energy_j"] = energy_joules(self.hardware, latency, busy)
        return columns

    def costs(self, configurations: Configurations) -> dict[str, Floats | Ints | None]:
        """Every cost of every configuration, by the contract's names; see `finish`."""
        return self.finish(*self.additive(configurations))


def window_kv_bytes(model: ModelSpec, work: Workload, window: int | None) -> int:
    """KV cache of one layer at the end of the pass: 2 batch kv_heads positions head_dim elements."""
    if model.is_encoder:
        return 0
    positions = work.kv_len if window is None else min(work.kv_len, window)
    return 2 * work.batch * model.kv_size * positions * work.act_bytes


def _check_counts(model: ModelSpec, work: Workload) -> None:
    """Raise InputError when a count of some configuration would not fit, and say whether model or workload is why."""
    if _most(model, work) <= _LARGEST:
        return
    token = replace(work, phase=Phase.PREFILL, batch=1, q_len=1, kv_len=1)
    if _most(model, token) * _ORDINARY_TOKENS > _LARGEST:
        raise InputError(
            f"{model.name} is too large to count",
            value=f"{model.num_params:,} parameters",
            hint="check the sizes in its configuration",
        )
    raise InputError(
        "batch x length is too large to count",
        value=f"{work.batch} x {work.kv_len}",
        hint="lower --batch or the lengths",
    )


def _most(model: ModelSpec, work: Workload) -> int:
    """An upper bound of every count of a pass, of any configuration."""
    layers = [
        _summed([op.cost for op in layer_ops(model, work, each)]) for each in dict.fromkeys(model.sliding_windows)
    ]
    outer = _summed([op.cost for op in (*prologue_ops(model, work), *epilogue_ops(model, work))])
    columns: list[tuple[int, ...]] = list(zip(*layers, outer, strict=True))
    return _MOST_FACTORS * max(model.num_layers * max(column[:-1]) + column[-1] for column in columns)


def _columns(timings: OpTimings) -> list[Floats]:
    """In the order of TIMES."""
    return [timings.latency_s, timings.lower_s, timings.upper_s, timings.busy_s, timings.p05_s, timings.p95_s]


def _summed(costs: list[OpCost]) -> list[int]:
    return [
        sum(cost.flops for cost in costs),
        sum(cost.vector_flops for cost in costs),
        sum(cost.hbm_bytes for cost in costs),
        sum(cost.kernels for cost in costs),
    ]


def _stack(parts: list[Additive]) -> Additive:
    return Additive(np.stack([part.counts for part in parts]), np.stack([part.times for part in parts]))


def _layer_live(template: tuple[Op, ...], hidden_bytes: int, held_bytes: int) -> tuple[int, dict[str, int]]:
    """Live bytes while a dense layer's operations run: the most over those without a site, and for each site's
    linear. `held_bytes` live through all layers; the layer's input is a tensor of its own."""
    placeholder = Op(name=INPUT, kind="elementwise", cost=OpCost(), out_bytes=hidden_bytes)
    lives = live_bytes([placeholder, *template])[1:]
    fixed = max(live for op, live in zip(template, lives, strict=True) if op.site is None)
    return fixed + held_bytes, {op.site: live + held_bytes for op, live in zip(template, lives, strict=True) if op.site}


def _outer_live(before: tuple[Op, ...], after: tuple[Op, ...], hidden_bytes: int, held: tuple[str, ...]) -> int:
    """Most live bytes outside the layers, whose output is a tensor of its own."""
    output = Op(
        name=INPUT, kind="elementwise", cost=OpCost(), out_bytes=hidden_bytes, inputs=(first_input(before),), holds=held
    )
    return max(live_bytes([*before, output, *after]))
