"""Per-site cost tables of a design space, in integers, so that a sum of any order is the same number.

Times are floats, and a float sum depends on its order: two configurations that cost the same would differ in the last
bit, and a closed form would differ from brute force. So each time is rounded once to a grid of 2^-52 of the largest
total that the space can reach; on the grid every sum is exact. A total moves by less than 1e-12 of that largest total.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Choices, Floats, Ints
from costmodel.decomposition.sites import site_mask
from costmodel.explore.quality import QualityTable
from costmodel.pricing.configurations import DENSE, SVD, TUCKER
from costmodel.pricing.costs import COUNTS, TIMES, Additive, PassCosts
from costmodel.pricing.pricer import PhasePricer
from costmodel.pricing.request import DecodeSteps
from costmodel.space.base import DesignSpace
from costmodel.timing.datasheet import energy_joules

COLUMN = {name: place for place, name in enumerate((*COUNTS, *TIMES))}
"""Place of each additive cost on the last axis of every table; times in ticks of `PhaseTable.quantum_s`."""
_GRID_BITS = 52
_BLOCK = 512
"""Configurations summed at a time, which bounds the memory of their sites' costs."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PhaseTable:
    """Costs of one pass over a space: base + sum over sites of delta, and a maximum for the live activations.

    Attributes:
        pricer: what the numbers come from, and what turns sums into costs.
        quantum_s: seconds of one tick, a power of two.
        base: int64 (columns,): the dense model.
        delta: int64 (tensors, 1 + R, columns): what a choice adds to it; choice 0 is dense and adds nothing.
        live_floor: live bytes of the dense model at their peak.
        excess: int64 (layers, tensors, 1 + R): live bytes of a choice beyond `live_floor`, 0 where it stays below or
            the space cannot choose it. No built-in model has any; GPT-2 and OPT with an MLP narrower than hidden do.
    """

    pricer: PhasePricer
    quantum_s: float
    base: Ints
    delta: Ints
    live_floor: int
    excess: Ints

    @classmethod
    def of(cls, pricer: PhasePricer, space: DesignSpace, extra_s: float = 0.0) -> PhaseTable:
        """The table of one workload; totals stay exact when `extra_s` is added to them."""
        ranks = np.array(space.ranks, dtype=np.int64).T
        choice = np.vstack([np.zeros((1, ranks.shape[1]), dtype=np.int64), ranks])
        form = np.where(choice > 0, SVD if space.form == "svd" else TUCKER, DENSE)
        parts = pricer.choices(form, choice, choice)
        layers = len(parts.site_live)
        fixed = parts.outside.times + parts.layers.times.sum(axis=0)
        mask = site_mask(pricer.model)
        highest = float((fixed + layers * parts.sites.times.max(axis=0).sum(axis=0)).max())
        quantum = 2.0 ** (math.ceil(math.log2(highest + extra_s)) - _GRID_BITS)

        def ticks(part: Additive) -> Ints:
            return np.concatenate([part.counts, np.rint(part.times / quantum).astype(np.int64)], axis=-1)

        table = ticks(parts.sites).swapaxes(0, 1)
        dense = mask.sum(axis=0) @ table[:, 0]
        base = ticks(parts.outside) + ticks(parts.layers).sum(axis=0) + dense
        live = parts.site_live.swapaxes(1, 2)
        floor = max(int((live[:, :, 0] * mask).max()), parts.other_live)
        excess = np.maximum(live - floor, 0)
        excess[:, :, 0] = 0
        excess[:, :, 1:] *= space.free[:, :, None] & space.possible
        return cls(
            pricer=pricer, quantum_s=quantum, base=base, delta=table - table[:, :1], live_floor=floor, excess=excess
        )

    @property
    def raises_peak(self) -> bool:
        """Whether some choice raises the peak of live activations above the dense model's."""
        return bool(self.excess.any())

    def costs(self, columns: Ints, excess: Ints) -> PassCosts:
        """Every cost from sums of columns, int64 (..., columns), and the largest excess, int64 (...)."""
        counts, ticks = np.split(columns, [len(COUNTS)], axis=-1)
        additive = Additive(counts, ticks * np.float64(self.quantum_s))
        return self.pricer.finish(additive, self.live_floor + excess)


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestArrays:
    """Costs of many requests, arrays of one shape, as `costmodel.pricing.request.RequestCosts` has them."""

    ttft_s: Floats
    tpot_s: Floats | None
    latency_s: Floats
    energy_j: Floats | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RequestTable:
    """A prefill and decode steps whose KV cache grows; only the attention of a step grows with it.

    Attributes:
        first: the first decode step, on a grid on which every step is exact.
        growth: int64 (steps,) in ascending order: ticks by which the device takes longer at a step than at the first.
        after_s: float64 (steps + 1,): sum of growth[i:] in seconds.
        busy_s: busy time that all steps together have beyond steps x first.
    """

    first: PhaseTable
    growth: Ints
    after_s: Floats
    busy_s: float

    @classmethod
    def of(cls, steps: DecodeSteps, space: DesignSpace) -> RequestTable:
        """The table of the decode steps after a prefill."""
        grown = steps.growth(np.ones(steps.first.model.num_layers, dtype=np.bool_))
        extra_s = max(float(np.abs(times).max(initial=0.0)) for times in (grown.device_s, grown.busy_s))
        table = PhaseTable.of(steps.first, space, extra_s=extra_s)
        growth = np.sort(np.rint(grown.device_s / table.quantum_s).astype(np.int64))
        tails = np.cumsum(growth[::-1] * table.quantum_s)[::-1]
        return cls(first=table, growth=growth, after_s=np.append(tails, 0.0), busy_s=float(grown.busy_s.sum()))

    def costs(self, columns: Ints, prefill: PassCosts) -> RequestArrays:
        """Costs of whole requests from the sums of their first step, int64 (..., columns), and their prefills'.

        A step takes max(device + growth, host). The growth is sorted, so the steps whose launches take longer than
        the device are the first ones, found by bisection; the rest is a sum of a tail. What enters are exact sums,
        so configurations with equal sums have equal requests.
        """
        count = len(self.growth)
        host = columns[..., COLUMN["host_s"]] * np.float64(self.first.quantum_s)
        device = columns[..., COLUMN["device_s"]]
        bound = np.searchsorted(self.growth, host / self.first.quantum_s - device)
        quantum = np.float64(self.first.quantum_s)
        steps = bound * host + (count - bound) * (device * quantum) + self.after_s[bound]
        steps = steps + count * self.first.pricer.time_model.step_s
        busy = count * (columns[..., COLUMN["busy_s"]] * quantum) + self.busy_s
        energy = energy_joules(self.first.pricer.hardware, steps, busy)
        return RequestArrays(
            ttft_s=prefill.latency_s,
            tpot_s=steps / count if count else None,
            latency_s=prefill.latency_s + steps,
            energy_j=None if energy is None or prefill.energy_j is None else prefill.energy_j + energy,
        )


class CostTables:
    """All tables that a space needs under some workloads: `phases` by phase name, and the request's.

    Args:
        space: whose sites and candidate ranks.
        pricers: one per phase.
        steps: the decode steps of a request, which needs the prefill among the pricers.
        quality: the quality of the space's choices, where it is known.
    """

    def __init__(
        self,
        space: DesignSpace,
        pricers: Sequence[PhasePricer],
        steps: DecodeSteps | None = None,
        quality: QualityTable | None = None,
    ) -> None:
        self.space, self.steps, self.quality = space, steps, quality
        self.phases = {pricer.work.phase.value: PhaseTable.of(pricer, space) for pricer in pricers}
        self.request = RequestTable.of(steps, space) if steps else None
        self.parts = {**self.phases, **({"step": self.request.first} if self.request else {})}
        """Every table of columns: the phases, and `step` for the first decode step of a request."""

    def batch(self, choices: Choices) -> CostBatch:
        """Costs of configurations given site by site, choices int64 (layers, tensors) or (n, layers, tensors)."""
        if choices.ndim == 3 and len(choices) > _BLOCK:
            starts = range(0, len(choices), _BLOCK)
            return CostBatch.joined([self.batch(choices[start : start + _BLOCK]) for start in starts])
        columns, excess = {}, {}
        tensors = np.arange(choices.shape[-1])
        layers = np.arange(choices.shape[-2])[:, None]
        few = 1 + len(self.space.ranks[0]) <= 2 * len(layers)
        tally = _tally(choices, 1 + len(self.space.ranks[0])) if few else None
        for name, table in self.parts.items():
            if tally is None:
                added = table.delta[tensors, choices].sum(axis=(-3, -2))
            else:
                added = tally @ table.delta.reshape(-1, len(table.base))
            columns[name] = table.base + added
            if table.raises_peak:
                excess[name] = table.excess[layers, tensors, choices].max(axis=(-2, -1))
            else:
                excess[name] = np.zeros(choices.shape[:-2], dtype=np.int64)
        return CostBatch(self, columns, excess, self.quality.ticks(choices) if self.quality else None)

    def peaks_alike(self, phases: Sequence[str]) -> bool:
        """Whether in these phases a choice has the same live bytes in whatever layer it is made."""
        return all(self.space.alike_in_layers(self.phases[name].excess) for name in phases)

    @functools.cached_property
    def dense(self) -> CostBatch:
        """The dense model, shape ()."""
        return self.batch(np.zeros(self.space.free.shape, dtype=np.int64))


def _tally(choices: Choices, number: int) -> Ints:
    """How many layers make each of `number` choices of each tensor, int64 (..., tensors x number)."""
    tensors = choices.shape[-1]
    each = choices.reshape(-1, *choices.shape[-2:])
    places = (np.arange(len(each))[:, None, None] * tensors + np.arange(tensors)) * number + each
    counts = np.bincount(places.ravel(), minlength=len(each) * tensors * number)
    return counts.reshape(*choices.shape[:-2], tensors * number)


class CostBatch:
    """Costs of many configurations by name, each computed when first asked for.

    Args:
        tables: where the sums come from.
        columns: for each part its sums, int64 (..., columns).
        excess: for each part the live bytes beyond the floor, int64 (...).
        quality_ticks: int64 (...), where quality is known for these configurations.
    """

    def __init__(
        self,
        tables: CostTables,
        columns: Mapping[str, Ints],
        excess: Mapping[str, Ints],
        quality_ticks: Ints | None = None,
    ) -> None:
        self.tables, self.columns, self.excess, self.quality_ticks = tables, columns, excess, quality_ticks
        self._passes: dict[str, PassCosts] = {}

    @classmethod
    def joined(cls, batches: Sequence[CostBatch]) -> CostBatch:
        """Batches of shapes (n,), (m,), ... of the same tables, at least one, as one batch."""
        first = batches[0]
        columns = {name: np.concatenate([batch.columns[name] for batch in batches]) for name in first.columns}
        excess = {name: np.concatenate([batch.excess[name] for batch in batches]) for name in first.excess}
        ticks = [batch.quality_ticks for batch in batches if batch.quality_ticks is not None]
        return cls(first.tables, columns, excess, np.concatenate(ticks) if ticks else None)

    def phase(self, name: str) -> PassCosts:
        """Every cost of a phase."""
        if name not in self._passes:
            self._passes[name] = self.tables.phases[name].costs(self.columns[name], self.excess[name])
        return self._passes[name]

    @functools.cached_property
    def request(self) -> RequestArrays:
        """Costs of the requests."""
        assert self.tables.request is not None
        return self.tables.request.costs(self.columns["step"], self.phase("prefill"))

    def quality(self) -> Floats:
        """Quality in the unit of its file; lower is better."""
        assert self.tables.quality is not None
        assert self.quality_ticks is not None
        return self.quality_ticks * np.float64(self.tables.quality.quantum)
