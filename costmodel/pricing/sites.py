"""Costs of the decomposable linears of a layer, dense or factored, for arrays of forms and ranks.

On several devices each is split in the fastest way that its ranks and the workload allow
(`costmodel.forward.sharding`).
"""

from __future__ import annotations

import numpy as np

from costmodel.arrays import Ints
from costmodel.decomposition.factors import Factor, LowRank
from costmodel.forward.cost import weight_bytes
from costmodel.forward.merging import merged_widths
from costmodel.forward.ops import Collective
from costmodel.forward.routing import stack_work
from costmodel.forward.sharding import DENSE_WAYS, WAYS, is_legal, split_stages
from costmodel.forward.work import gemm_work
from costmodel.forward.workload import Way, Workload
from costmodel.model import ModelSpec
from costmodel.pricing.configurations import DENSE, SVD, TUCKER
from costmodel.pricing.costs import COUNTS, Additive
from costmodel.tensors import WeightTensor
from costmodel.timing.columns import OpColumns, TimeModel
from costmodel.timing.stacked import StackTimes
from costmodel.weights import WeightFormat


class Sites:
    """Prices the tensors of a model, as one device holds it, under one workload.

    Args:
        model: from `costmodel.forward.sharding.rank_of`.
        work: what is run.
        time_model: of the device, and of what devices exchange.
    """

    def __init__(self, model: ModelSpec, work: Workload, time_model: TimeModel) -> None:
        self.model, self.work, self.time_model = model, work, time_model
        self._splits = [tensor.split for tensor in model.tensors]
        self._chosen: dict[tuple[WeightTensor, Factor], Way] = {}
        self._out_features = np.array([t.out_features for t in model.tensors], dtype=np.int64)
        self._in_features = np.array([t.in_features for t in model.tensors], dtype=np.int64)
        widths = merged_widths(model)
        self._merged_n = np.array([widths.get(t, 0) for t in model.tensors], dtype=np.int64)
        stacks = [(stack_work(t, model, work), t.copies) for t in model.tensors]
        self._rows = np.array([stack.rows for stack, _ in stacks], dtype=np.int64)
        self._read = np.array([stack.read for stack, _ in stacks], dtype=np.int64)
        self._launched = np.array([stack.kernels for stack, _ in stacks], dtype=np.int64)
        self._copies = np.array([copies for _, copies in stacks], dtype=np.int64)
        """Of each tensor the rows, the weights read, the kernels of one linear, and the weights that are held: of a
        stack of experts."""
        self._bias = np.array([t.out_features if t.bias else 0 for t in model.tensors], dtype=np.int64)

    def costs(self, form: Ints, rank_in: Ints, rank_out: Ints) -> Additive:
        """Costs of sites, tensors on the last axis, each split over the devices in its fastest way.

        Args:
            form, rank_in, rank_out: int64 of one shape (..., tensors), as in Configurations.
        """
        ways = self._ways()
        if len(ways) == 1:
            return self._split(ways[0], form, rank_in, rank_out)
        several = [self._split(way, form, rank_in, rank_out) for way in ways]
        fastest = self._fastest(ways, several, form, rank_in, rank_out)
        counts, times = (np.stack(parts) for parts in zip(*(costs.stack() for costs in several), strict=True))
        place = fastest[None, ..., None]
        return Additive.unstack(np.take_along_axis(counts, place, 0)[0], np.take_along_axis(times, place, 0)[0])

    def way(self, tensor: WeightTensor, factor: Factor) -> Way:
        """How a factored weight of the rank's model is split over the devices."""
        if (tensor, factor) not in self._chosen:
            self._chosen[tensor, factor] = self._choose(tensor, factor)
        return self._chosen[tensor, factor]

    def _choose(self, tensor: WeightTensor, factor: Factor) -> Way:
        ways = self._ways()
        if len(ways) == 1:
            return ways[0]
        shape = (len(self.model.tensors),)
        form = np.full(shape, SVD if isinstance(factor, LowRank) else TUCKER)
        first, last = (np.full(shape, rank, dtype=np.int64) for rank in factor.ranks)
        several = [self._split(way, form, first, last) for way in ways]
        return ways[int(self._fastest(ways, several, form, first, last)[self.model.tensors.index(tensor)])]

    def extra_live(self, rank_out: Ints) -> Ints:
        """Live bytes that factors add to a dense linear's: what the last one reads, never less than the others."""
        extra: Ints = self._rows * self.work.act_bytes * rank_out
        return extra

    def _ways(self) -> list[Way]:
        """The ways to split that some weight takes, dense or factored."""
        allowed = {*self.work.ways, *(WAYS[split][0] for split in self._splits)}
        factored = [way for split in self._splits for way in WAYS[split] if way in allowed]
        return list(dict.fromkeys([*factored, *(DENSE_WAYS[split] for split in self._splits)]))

    def _fastest(self, ways: list[Way], several: list[Additive], form: Ints, rank_in: Ints, rank_out: Ints) -> Ints:
        """Place of each site's fastest way among those that it can take, int64 of the sites' shape.

        A dense weight has the one that sums what it gives, where its columns are split; a factored one whose ranks no
        allowed way can deal out has the first of its split.
        """
        seconds, first = [], np.zeros(form.shape, dtype=np.int64)
        for place, (way, costs) in enumerate(zip(ways, several, strict=True)):
            takes = np.array([way in WAYS[split] and way in self.work.ways for split in self._splits])
            plain = np.array([way == DENSE_WAYS[split] for split in self._splits])
            legal = np.where(form == DENSE, plain, takes & (is_legal(way, rank_in, rank_out, self.work.tp) == 0))
            seconds.append(np.where(legal, costs.device_s, np.inf))
            first[..., [way == WAYS[split][0] for split in self._splits]] = place
        stacked = np.stack(seconds)
        return np.where(np.isinf(stacked).all(axis=0), first, np.argmin(stacked, axis=0))

    def _split(self, way: Way, form: Ints, rank_in: Ints, rank_out: Ints) -> Additive:
        """Costs of sites that are all split in one way, whether they can be or not."""
        dense = form == DENSE
        core = np.where(form == TUCKER, rank_out, 0)
        out, bias = np.broadcast_to(self._out_features, form.shape), np.broadcast_to(self._bias, form.shape)
        inner = np.where(dense, 0, self._in_features)
        stages = split_stages(way, rank_in, rank_out, core, out, inner, bias, self.work.tp)
        products = [stage for stage in stages if stage.kind == "gemm"]
        n, k, biases = (np.stack([getattr(stage, name) for stage in products]) for name in ("n", "k", "bias"))
        k[2] = np.where(dense, self._in_features, k[2])
        merged_n = np.zeros_like(n)
        merged_n[2] = np.where(dense, self._merged_n, 0)
        linears, resident = self._linears(n, k, biases, merged_n)
        zero = np.zeros_like(form)
        costs = additive_of(
            self.time_model,
            linears,
            params=self._copies * (n * k + biases).sum(0),
            weight_bytes=resident.sum(0),
            flops=linears.executed_flops.sum(0),
            vector_flops=zero,
            hbm_bytes=linears.hbm_bytes.sum(0),
            kernels=linears.kernels.sum(0),
            kv_cache_bytes=zero,
        )
        for stage in stages:
            if stage.kind != "gemm":
                costs = costs + self._collective(stage.kind, stage.n)
        return costs

    def _collective(self, kind: Collective, columns: Ints) -> Additive:
        """Costs of collectives on so many columns of activations, none where it is 0."""
        zero, kernels = np.zeros_like(columns), np.minimum(columns, 1)
        ops = OpColumns(
            kind=kind,
            m=zero[None],
            n=zero[None],
            k=zero[None],
            executed_flops=zero[None],
            vector_flops=zero[None],
            hbm_bytes=zero[None],
            kernels=kernels[None],
            message_bytes=columns[None] * (self.work.tokens * self.work.act_bytes),
        )
        counts = dict.fromkeys(COUNTS, zero) | {"kernels": kernels}
        return additive_of(self.time_model, ops, **counts)

    def _linears(self, n: Ints, k: Ints, bias: Ints, merged_n: Ints) -> tuple[OpColumns, Ints]:
        """Decomposable linears, dense ones or factors, and the resident bytes of each weight and bias; entries with n
        or k of 0 stand for none."""
        some = np.minimum(n * k, 1)
        n, k = n * some, k * some
        m, act_bytes = self._rows * some, self.work.act_bytes
        flops, read, written = gemm_work(m, n, k, self.work.input_bytes, act_bytes)
        weights = self._held_bytes(n, k, bias * some)
        columns = OpColumns(
            kind="gemm",
            m=m,
            n=n,
            k=k,
            executed_flops=flops,
            vector_flops=np.zeros_like(n),
            hbm_bytes=self._read * weights + read + written,
            kernels=self._launched * some,
            merged_n=merged_n,
            fp8=some > 0 if self.work.fp8 else None,
        )
        return columns, self._copies * weights

    def _held_bytes(self, n: Ints, k: Ints, bias: Ints) -> Ints:
        """Resident bytes of weights and biases, tensors on the last axis."""
        work = self.work
        forms = [work.site_form(tensor.name) for tensor in self.model.tensors]
        first = weight_bytes(n, k, bias, act_bytes=work.act_bytes, weight_dtype=forms[0])
        if all(form is forms[0] for form in forms):
            return first
        plain = np.array([not isinstance(form, WeightFormat) for form in forms])
        stored = work.stored or work.dtype
        held = weight_bytes(n, k, bias, act_bytes=work.act_bytes, weight_dtype=stored)
        return np.where(plain, weight_bytes(n, k, bias, act_bytes=work.act_bytes, weight_dtype=work.dtype), held)


def additive_of(time_model: TimeModel, ops: OpColumns, **counts: Ints) -> Additive:
    """Counts beside the seconds of operations, summed over the first axis."""
    timings = time_model.times(ops)
    latency, low, high = (each.sum(0) for each in (timings.latency_s, timings.p05_s, timings.p95_s))
    if time_model.together < 1:
        low, high = (latency + time_model.together * (end - latency) for end in (low, high))
    launched = time_model.launches(ops) if isinstance(time_model, StackTimes) else ops.kernels
    return Additive(
        **counts,
        device_s=latency,
        lower_s=timings.lower_s.sum(0),
        upper_s=timings.upper_s.sum(0),
        busy_s=timings.busy_s.sum(0),
        p05_s=low,
        p95_s=high,
        host_s=launched.sum(0) * np.float64(time_model.host_launch_s),
    )
