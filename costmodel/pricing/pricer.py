"""Costs of many configurations at once: arrays of ranks in, arrays of costs out. One estimate is the batch of one.

Everything but the fixed operations depends on sites alone and adds up over them, so a pass costs
outside + sum over kept layers (fixed + sum over tensors site), with three exceptions that are taken from the sums at
the end: eager latency is the larger of device and host time, energy follows from latency and busy time, and peak memory
takes the maximum of live activations. What is fixed comes from the operations of the forward pass
(costmodel.forward.frame), what sites cost from the formula of its linears; tested against the whole list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from costmodel.arrays import Floats, Ints
from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.sites import site_mask
from costmodel.forward.frame import INPUT, epilogue_ops, layer_ops, prologue
from costmodel.forward.ops import Op
from costmodel.forward.passes import counted_ops, forward_ops
from costmodel.forward.sharding import rank_of
from costmodel.forward.stages import FIRST_PARTS, require_stages, send, stage_layers
from costmodel.forward.workload import Cache, Phase, Workload
from costmodel.hardware.profile import HardwareProfile
from costmodel.model import ModelSpec
from costmodel.pricing.configurations import Configurations
from costmodel.pricing.costs import COUNTS, TIMES, Additive, PassCosts
from costmodel.pricing.count_bounds import check_counts, summed_counts
from costmodel.pricing.liveness import Liveness
from costmodel.pricing.sites import Sites, additive_of
from costmodel.timing.columns import OpColumns, TimeModel
from costmodel.timing.datasheet import energy_joules
from costmodel.weights import WeightFormat

if TYPE_CHECKING:
    from costmodel.pricing.site_choices import SiteChoices
    from costmodel.pricing.stages import Pipeline


class PhasePricer:
    """Prices configurations of one model under one workload on one device; everything shared is computed once.

    Raises:
        HardwareError: when the device has no rate for the workload's type.
        InputError: when counts of the workload would not fit 64 bits.
    """

    def __init__(
        self,
        model: ModelSpec,
        work: Workload,
        hardware: HardwareProfile,
        time_model: TimeModel,
        ratio_error: float | None = None,
    ) -> None:
        self.model, self.work, self.hardware, self.time_model = model, work, hardware, time_model
        self.ratio_error = ratio_error
        """Relative error of the ratio of two passes' times, None where unknown."""
        self.rank = model = rank_of(model, work.tp, work.ep)
        require_stages(model, work.pp)
        self.share = work = work.of_device
        """What each device runs, and of which workload: the model itself on one device."""
        self._low, self._high = time_model.host_and_step(-1), time_model.host_and_step(1)
        self.cache_copies = 2 if work.cache is Cache.GROWING and work.phase is Phase.DECODE else 1
        """KV caches at the peak of a pass: a growing one lives beside the one that it was copied from."""
        check_counts(model, work)
        places = {variant: place for place, variant in enumerate(dict.fromkeys(model.variants))}
        self.variants = tuple(places)
        """The different (kind, sliding window) of the model's layers."""
        self.variant_of_layer = np.array([places[variant] for variant in model.variants])
        """Place of each layer among them, int64 (layers,)."""
        self.linears = Sites(model, work, time_model)
        """The model's decomposable linears."""
        self._mask = None if not model.kinds else site_mask(model)
        first, last = prologue(model, work).ops, epilogue_ops(model, work)
        params = model.outer_params
        saved = {part: _vocabulary_saved(model, work) * bool(params[part]) for part in ("token_embedding", "lm_head")}
        if work.pp == 1:
            self._outside = self._fixed([*first, *last], sum(params.values()), 0, saved_bytes=sum(saved.values()))
        else:
            table, copied = params["token_embedding"], model.tie_embeddings
            at_first = sum(params[part] for part in FIRST_PARTS)
            at_last = sum(params.values()) - at_first + table * copied
            saved["lm_head"] += saved["token_embedding"] * copied
            self.ends = (
                self._fixed([*first], at_first, 0, saved_bytes=saved["token_embedding"]),
                self._fixed([send(model, work, INPUT)], 0, 0),
                self._fixed([*last], at_last, 0, saved_bytes=saved["lm_head"]),
            )
            """Costs before the layers, of what a stage sends to the next, and behind the layers."""
            at_start, sent, at_end = self.ends
            self._outside = at_start + at_end
            for _ in range(work.pp - 1):
                self._outside = self._outside + sent
        layers = [
            self._fixed(
                [op for op in layer_ops(kind, work, window) if op.site is None],
                kind.params_per_layer - sum(tensor.params for tensor in kind.tensors),
                window_kv_bytes(kind, work, window),
            )
            for kind, window in self.variants
        ]
        counts, times = (np.stack([getattr(layer, name) for layer in layers]) for name in ("counts", "times"))
        self._layers = Additive(counts, times)[self.variant_of_layer].repeated(model.loops)
        self._liveness = Liveness.of(model, work, self.variants)
        self._listed: tuple[Decomposition | None, Sequence[Op]] = (None, [])

    def costs(self, configurations: Configurations) -> PassCosts:
        """Every cost of every configuration; of a pipeline those of one device of each stage together."""
        if self.work.pp > 1:
            pipeline = self.pipeline(configurations)
            whole, many = pipeline.whole(), self.work.microbatches
            once = self.finish(whole, np.zeros_like(pipeline.live[0]))
            energy_j = self.energy_j(pipeline.latency(once.latency_s), whole.time("busy_s") * many)
            return pipeline.costs(once, energy_j)
        return self.finish(*self.additive(configurations))

    def additive(self, configurations: Configurations) -> tuple[Additive, Ints]:
        """Additive costs of whole passes, shape (...), and their live activation peaks in bytes, int64 (...)."""
        layers = self.layer_costs(configurations)
        extra = self.linears.extra_live(configurations.rank_out)
        return self._outside + layers.sum(), self._liveness.peak(self.variant_of_layer, configurations.kept, extra)

    def layer_costs(self, configurations: Configurations) -> Additive:
        """Additive costs of every layer, shape (..., layers); 0 where one is dropped."""
        sites = self.linears.costs(configurations.form, configurations.rank_in, configurations.rank_out)
        sites = sites.repeated(self.rank.loops)
        sites = sites if self._mask is None else sites.where(self._mask)
        return (sites.sum() + self._layers).where(configurations.kept)

    def pipeline(self, configurations: Configurations) -> Pipeline:
        """The stages of passes, of one microbatch; of a workload that has several stages."""
        from costmodel.pricing.stages import Pipeline  # of no use to a pass of one stage

        sites, (first, sent, last) = self.layer_costs(configurations), self.ends
        hidden = self.share.tokens * self.rank.hidden_size * self.share.act_bytes
        inside, extra = (
            replace(self._liveness, outer=hidden, empty=hidden),
            self.linears.extra_live(configurations.rank_out),
        )
        parts, live = [], []
        cut = stage_layers(self.model.num_layers, self.work.pp)
        for place, layers in enumerate(cut):
            own, at_end = slice(layers.start, layers.stop), place == len(cut) - 1
            part = Additive(sites.counts[..., own, :], sites.times[..., own, :]).sum() + (last if at_end else sent)
            parts.append(part if place else part + first)
            liveness = inside if place and not at_end else self._liveness
            live.append(liveness.peak(self.variant_of_layer[own], configurations.kept[..., own], extra[..., own, :]))
        return Pipeline(
            work=self.work,
            parts=parts,
            seconds=[np.maximum(p.time("device_s"), self.host_seconds(p)) + self.time_model.step_s for p in parts],
            live=live,
            cache_copies=self.cache_copies,
        )

    def choices(self, form: Ints, rank_in: Ints, rank_out: Ints) -> SiteChoices:
        """The parts of passes whose sites choose among these, int64 (choices, tensors) as in Configurations."""
        from costmodel.pricing.site_choices import SiteChoices  # of no use to one configuration

        live, places = self._liveness, self.variant_of_layer
        first = np.zeros(len(places), dtype=np.int64)
        first[0] = live.shared
        site_live = live.site[places][:, None] + self.linears.extra_live(rank_out) - first[:, None, None]
        return SiteChoices(
            outside=self._outside,
            layers=self._layers,
            sites=self.linears.costs(form, rank_in, rank_out).repeated(self.rank.loops),
            site_live=site_live,
            other_live=max(int((live.fixed[places] - first).max()), live.outer),
        )

    def ops(self, decomposition: Decomposition) -> Sequence[Op]:
        """Every operation that each device runs for a configuration, in execution order.

        Of several devices the last list is kept, since the costs and the rows of a configuration both take it.
        """
        known, ops = self._listed
        if known is not decomposition:
            ops = forward_ops(self.rank, decomposition, self.share, self.linears.way)
            self._listed = (decomposition, ops) if self.work.devices > 1 else (None, [])
        return ops

    def counted_ops(self, decomposition: Decomposition) -> list[tuple[Op, int]]:
        """Those of each different layer once, with how often each runs."""
        return counted_ops(self.rank, decomposition, self.share, self.linears.way)

    def finish(self, additive: Additive, live: Ints) -> PassCosts:
        """The costs of passes from their sums and their peaks of live activations, int64 (...)."""
        host, step, has_interval = self.host_seconds(additive), self.time_model.step_s, self.time_model.has_interval
        device, lower, upper, busy, p05, p95 = (additive.time(name) for name in TIMES[:-1])
        latency = np.maximum(device, host) + step
        (host_low, step_low), (host_high, step_high) = self._low, self._high
        counts = {name: additive.count(name) for name in COUNTS}
        return PassCosts(
            **counts,
            peak_memory_bytes=counts["weight_bytes"] + self.cache_copies * counts["kv_cache_bytes"] + live,
            device_s=device,
            host_s=host,
            latency_s=latency,
            latency_lower_s=np.maximum(lower, host) + step,
            latency_upper_s=np.maximum(upper, host) + step,
            latency_p05_s=np.maximum(p05, host * host_low) + step_low if has_interval else None,
            latency_p95_s=np.maximum(p95, host * host_high) + step_high if has_interval else None,
            energy_j=self.energy_j(latency, busy),
        )

    def energy_j(self, latency: Floats, busy: Floats) -> Floats | None:
        """Energy of one device of each stage together, which are busy so long in sum; None where it is unknown."""
        stages = self.work.pp
        energy = energy_joules(self.hardware, latency, busy / stages)
        return None if energy is None else stages * energy

    def host_seconds(self, additive: Additive) -> Floats:
        """Time of the host to launch passes."""
        return self.time_model.host_seconds(additive.count("kernels"), additive.time("host_s"))

    def _fixed(self, ops: list[Op], params: int, kv_bytes: int, saved_bytes: int = 0) -> Additive:
        """Costs of operations that no configuration changes, shape (); their weights have the activations' type but
        for `saved_bytes`."""
        return additive_of(
            self.time_model,
            OpColumns.of(ops),
            params=params,
            weight_bytes=params * self.share.act_bytes - saved_bytes,
            kv_cache_bytes=kv_bytes,
            **summed_counts(ops),
        )


def window_kv_bytes(model: ModelSpec, work: Workload, window: int | None) -> int:
    """KV cache of one layer at the end of the pass: batch x positions x the elements that a position takes."""
    if model.is_encoder:
        return 0
    positions = work.kv_len if window is None else min(work.kv_len, window)
    return work.batch * (model.cache_width * positions + model.state_size) * work.kv_bytes


def _vocabulary_saved(model: ModelSpec, work: Workload) -> int:
    """Bytes that a quantised token embedding, or LM head, takes less than in the activations' type."""
    form = work.vocabulary_form
    if not isinstance(form, WeightFormat):
        return 0
    plain, held = (
        model.vocab_size * model.embed_dim * work.act_bytes,
        form.matrix_bytes(model.vocab_size, model.embed_dim),
    )
    return plain - held
