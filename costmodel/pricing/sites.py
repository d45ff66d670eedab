"""Costs of the decomposable linears of a layer, dense or factored, for arrays of forms and ranks.

On several devices each is split in the fastest way that its ranks and the workload allow
(`costmodel.forward.sharding`).
"""

from __future__ import annotations

import numpy as np

from costmodel.arrays import Ints
from costmodel.decomposition.factors import Factor, LowRank
from costmodel.forward.cost import weight_bytes
from costmodel.forward.ops import Collective, summed_rows
from costmodel.forward.routing import grouped_work, stack_work
from costmodel.forward.sharding import DENSE_WAYS, WAYS, is_legal, split_stages
from costmodel.forward.work import NO_EXPERTS, gemm_work
from costmodel.forward.workload import Way, Workload
from costmodel.model import ModelSpec
from costmodel.pricing.configurations import DENSE, TUCKER
from costmodel.pricing.costs import Additive
from costmodel.tensors import Split, WeightTensor
from costmodel.timing.columns import OpColumns, OpTimings, TimeModel


class Sites:
    """Prices the tensors of a model, as one device holds it, under one workload.

    Args:
        model: from `costmodel.forward.sharding.rank_of`.
        work: what is run.
        time_model: of the device, and of what devices exchange.
    """

    def __init__(self, model: ModelSpec, work: Workload, time_model: TimeModel) -> None:
        self.model, self.work, self.time_model = model, work, time_model
        splits = [tensor.split for tensor in model.tensors]
        allowed = {*work.ways, *(WAYS[split][0] for split in splits)}
        self._ways = list(dict.fromkeys(way for split in splits for way in WAYS[split] if way in allowed))
        """The ways to split that some factored weight takes."""
        self._takes = np.array([[way in WAYS[split] and way in work.ways for split in splits] for way in self._ways])
        self._first = np.array([self._ways.index(WAYS[split][0]) for split in splits])
        """Which tensors take each way, and the place of the first way of each."""
        self._chosen: dict[tuple[WeightTensor, Factor], Way] = {}
        self._out_features = np.array([t.out_features for t in model.tensors], dtype=np.int64)
        self._in_features = np.array([t.in_features for t in model.tensors], dtype=np.int64)
        stacks = [(stack_work(t, model, work), t.copies) for t in model.tensors]
        self._rows = np.array([stack.rows for stack, _ in stacks], dtype=np.int64)
        self._row_bytes = self._rows * work.act_bytes
        rows = [summed_rows(t, stack, work) for t, (stack, _) in zip(model.tensors, stacks, strict=True)]
        self._summed_rows = np.array(rows, dtype=np.int64)
        """Of what devices sum behind each tensor."""
        self._read = np.array([stack.read for stack, _ in stacks], dtype=np.int64)
        self._launched = np.array([stack.kernels for stack, _ in stacks], dtype=np.int64)
        self._copies = np.array([copies for _, copies in stacks], dtype=np.int64)
        """Of each tensor the rows, the weights read, the kernels of one linear, and the weights that are held: of a
        stack of experts."""
        self._bias = np.array([t.out_features if t.bias else 0 for t in model.tensors], dtype=np.int64)
        forms = [work.site_form(t) for t in model.tensors]
        self._forms = list(dict.fromkeys(forms))
        self._form_of = np.array([self._forms.index(form) for form in forms], dtype=np.int64)
        """The forms that weights are held in, and which of them each tensor's is."""
        self._dense = self._dense_costs(splits)

    def costs(self, form: Ints, rank_in: Ints, rank_out: Ints) -> Additive:
        """Costs of sites, tensors on the last axis, each split over the devices in its fastest way.

        Args:
            form, rank_in, rank_out: int64 of one shape (..., tensors), as in Configurations.
        """
        width = len(self.model.tensors)
        counts = np.empty((form.size // width, *self._dense.counts.shape), dtype=np.int64)
        times = np.empty((form.size // width, *self._dense.times.shape))
        counts[:], times[:] = self._dense.counts, self._dense.times
        counts, times = counts.reshape(form.size, -1), times.reshape(form.size, -1)
        places = np.flatnonzero(form != DENSE)
        if len(places):
            first, last = rank_in.reshape(-1)[places], rank_out.reshape(-1)[places]
            core = last * (form.reshape(-1)[places] == TUCKER)
            factored = self._factored(places % width, first, last, core)
            counts[places], times[places] = factored.counts, factored.times
        return Additive(counts.reshape(*form.shape, -1), times.reshape(*form.shape, -1))

    def way(self, tensor: WeightTensor, factor: Factor) -> Way:
        """How a factored weight of the rank's model is split over the devices."""
        if len(self._ways) == 1:
            return self._ways[0]
        if (tensor, factor) not in self._chosen:
            self._chosen[tensor, factor] = self._choose(tensor, factor)
        return self._chosen[tensor, factor]

    def _choose(self, tensor: WeightTensor, factor: Factor) -> Way:
        first, last = (np.array([rank], dtype=np.int64) for rank in factor.ranks)
        columns, core = np.array([self.model.tensors.index(tensor)]), 0 * last if isinstance(factor, LowRank) else last
        several = [self._split(way, columns, first, last, core) for way in self._ways]
        return self._ways[int(self._fastest(several, columns, first, last)[0])]

    def extra_live(self, rank_out: Ints) -> Ints:
        """Live bytes that factors add to a dense linear's: what the last one reads, never less than the others."""
        extra: Ints = self._row_bytes * rank_out
        return extra

    def _dense_costs(self, splits: list[Split]) -> Additive:
        """Costs of every tensor as it is, (tensors,); where its columns are split, what it gives is summed."""
        columns = np.arange(len(splits))
        merged_n = np.array([[tensor.merged_n for tensor in self.model.tensors]], dtype=np.int64)
        n, k, bias = (each[None] for each in (self._out_features, self._in_features, self._bias))
        costs = self._linears(columns, n, k, bias, merged_n, self._experts([None]))
        summed = np.array([DENSE_WAYS[split] == "reduce-hidden" for split in splits])
        return (
            costs + self._collective("all_reduce", self._out_features * summed, self._summed_rows)
            if summed.any()
            else costs
        )

    def _factored(self, columns: Ints, first: Ints, last: Ints, core: Ints) -> Additive:
        """Costs of factored weights, each of the tensor at this place, in its fastest way: all int64 (sites,)."""
        several = [self._split(way, columns, first, last, core) for way in self._ways]
        if len(several) == 1:
            return several[0]
        chosen = self._fastest(several, columns, first, last), np.arange(len(columns))
        counts, times = (np.stack([getattr(costs, name) for costs in several]) for name in ("counts", "times"))
        return Additive(counts[chosen], times[chosen])

    def _fastest(self, several: list[Additive], columns: Ints, first: Ints, last: Ints) -> Ints:
        """Place of each site's fastest way among those that it can take, int64 (sites,).

        A site whose ranks no allowed way can deal out has the first of its split.
        """
        tp = self.work.tp
        legal = np.stack([is_legal(way, first, last, tp) == 0 for way in self._ways]) & self._takes[:, columns]
        seconds = np.where(legal, np.stack([costs.time("device_s") for costs in several]), np.inf)
        return np.where(legal.any(axis=0), np.argmin(seconds, axis=0), self._first[columns])

    def _split(self, way: Way, columns: Ints, first: Ints, last: Ints, core: Ints) -> Additive:
        """Costs of factored weights that are all split in one way, whether they can be or not."""
        out, inner, held = self._out_features[columns], self._in_features[columns], self._bias[columns]
        stages = split_stages(way, first, last, core, out, inner, held, self.work.tp)
        products = [stage for stage in stages if stage.kind == "gemm" and (stage.suffix != ".core" or core.any())]
        n, k, bias = (np.array([getattr(stage, name) for stage in products]) for name in ("n", "k", "bias"))
        experts = self._experts(list(range(len(products))))
        costs = self._linears(columns, n, k, bias, experts=None if experts is None else experts[:, columns])
        for stage in stages:
            if stage.kind != "gemm":
                rows = self._summed_rows if stage.summed else self._rows
                costs = costs + self._collective(stage.kind, stage.n, rows[columns])
        return costs

    def _collective(self, kind: Collective, width: Ints, rows: Ints) -> Additive:
        """Costs of collectives on so many rows of activations so many columns wide, none where it is 0."""
        zero, kernels = np.zeros_like(width), np.minimum(width, 1)
        ops = OpColumns(
            kind=kind,
            m=zero[None],
            n=zero[None],
            k=zero[None],
            executed_flops=zero[None],
            vector_flops=zero[None],
            hbm_bytes=zero[None],
            kernels=kernels[None],
            message_bytes=(width * rows)[None] * self.work.act_bytes,
        )
        return additive_of(self.time_model, ops, kernels=kernels)

    def _experts(self, places: list[int | None]) -> Ints | None:
        """The `ExpertWork` of each tensor's products at these places (linears, tensors, fields), None where none is of
        experts in one kernel."""
        if self.model.experts is None:
            return None
        found = [[grouped_work(t, self.model, self.work, place) for t in self.model.tensors] for place in places]
        if not any(work for row in found for work in row):
            return None
        return np.array([[work or NO_EXPERTS for work in row] for row in found], dtype=np.int64)

    def _linears(
        self,
        columns: Ints,
        n: Ints,
        k: Ints,
        bias: Ints,
        merged_n: Ints | None = None,
        experts: Ints | None = None,
    ) -> Additive:
        """Costs of linears, summed over the first axis: int64 (linears, sites), of the tensors at `columns`; entries
        with n or k of 0 stand for none."""
        work, m = self.work, self._rows[columns]
        copies, read, launched = self._copies[columns], self._read[columns], self._launched[columns]
        weights = n * k
        some = weights > 0
        if not some.all():
            n, k, m, launched = n * some, k * some, m * some, launched * some
        flops, act_read, act_written = gemm_work(m, n, k, work.input_bytes, work.act_bytes)
        held = self._held_bytes(columns, n, k, bias * some)
        table = np.empty((5, *n.shape), dtype=np.int64)
        table[0], table[1], table[2], table[4] = weights + bias, held, flops, launched
        table[3] = read * held + act_read + act_written
        ops = OpColumns(
            kind="gemm",
            m=np.broadcast_to(m, n.shape),
            n=n,
            k=k,
            executed_flops=table[2],
            vector_flops=np.zeros_like(n),
            hbm_bytes=table[3],
            kernels=table[4],
            merged_n=merged_n,
            experts=experts,
            fp8=some if work.fp8 else None,
        )
        summed = table.sum(axis=1)
        return additive_of(
            self.time_model,
            ops,
            params=copies * summed[0],
            weight_bytes=copies * summed[1],
            flops=summed[2],
            hbm_bytes=summed[3],
            kernels=summed[4],
        )

    def _held_bytes(self, columns: Ints, n: Ints, k: Ints, bias: Ints) -> Ints:
        """Resident bytes of weights and biases, tensors on the last axis."""
        first, *others = self._forms
        held = weight_bytes(n, k, bias, act_bytes=self.work.act_bytes, weight_dtype=first)
        for number, form in enumerate(others, start=1):
            own = weight_bytes(n, k, bias, act_bytes=self.work.act_bytes, weight_dtype=form)
            held = np.where(self._form_of[columns] == number, own, held)
        return held


def additive_of(time_model: TimeModel, ops: OpColumns, **counts: Ints | int) -> Additive:
    """Counts beside the seconds of operations, summed over the first axis."""
    summed = OpTimings(time_model.times(ops).table.sum(axis=1))
    latency, low, high = summed.latency_s, summed.p05_s, summed.p95_s
    if time_model.together < 1:
        low, high = (latency + time_model.together * (end - latency) for end in (low, high))
    return Additive.of(
        latency.shape,
        **counts,
        device_s=latency,
        lower_s=summed.lower_s,
        upper_s=summed.upper_s,
        busy_s=summed.busy_s,
        p05_s=low,
        p95_s=high,
        host_s=time_model.launches(ops).sum(0) * np.float64(time_model.host_launch_s),
    )
