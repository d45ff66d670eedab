"""Passes through stages on devices of their own: what each holds, and when all microbatches are through.

With m microbatches and stages that take t_s for one of them, the last result of a prefill comes after
sum t_s + (m - 1) max t_s, which is (m + N - 1) t of N even stages: a share of (N - 1) / (m + N - 1) is idle (GPipe,
arXiv 1811.06965, section 2.3). Decode steps follow each other without a gap: the step of all sequences takes the longer
of sum t_s, a microbatch's way through all stages, and m max t_s, all microbatches' time on the slowest one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from costmodel.arrays import Bools, Floats, Ints
from costmodel.forward.stages import stage_layers
from costmodel.forward.workload import Phase, Workload
from costmodel.pricing.costs import Additive, PassCosts

_OF_BATCH = ("flops", "vector_flops", "hbm_bytes", "kernels", "kv_cache_bytes")
"""Counts that every microbatch adds to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What one device of a stage holds and does in a pass of the whole batch; the time of one microbatch."""

    layers: int
    params: int
    weight_bytes: int
    flops: int
    hbm_bytes: int
    kv_cache_bytes: int
    peak_memory_bytes: int
    latency_s: float

    def to_json(self) -> dict[str, int | float]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Pipeline:
    """The stages of passes, one entry of each sequence for each stage, arrays of one shape (...).

    Attributes:
        work: of the whole batch.
        parts: what a microbatch costs.
        seconds: how long it takes.
        live: activations at their peak, in bytes.
        cache_copies: KV caches at the peak.
    """

    work: Workload
    parts: Sequence[Additive]
    seconds: Sequence[Floats]
    live: Sequence[Ints]
    cache_copies: int

    def whole(self) -> Additive:
        """A microbatch's costs of one device of each stage together."""
        first, *others = self.parts
        for part in others:
            first = first + part
        return first

    def latency(self, once: Floats) -> Floats:
        """Seconds of all microbatches, where one alone takes `once`."""
        many, slowest = self.work.microbatches, np.stack(self.seconds).max(axis=0)
        after: Floats = once + (many - 1) * slowest
        steady: Floats = np.maximum(once, many * slowest)
        return after if self.work.phase is Phase.PREFILL else steady

    def peaks(self) -> Ints:
        """Memory of a device of each stage at its peak, int64 (stages, ...)."""
        copies = self.work.microbatches * self.cache_copies
        return np.stack(
            [
                part.count("weight_bytes") + copies * part.count("kv_cache_bytes") + live
                for part, live in zip(self.parts, self.live, strict=True)
            ]
        )

    def costs(self, once: PassCosts, energy_j: Floats | None) -> PassCosts:
        """Costs of one device of each stage together, with the memory of the fullest one.

        Args:
            once: of one microbatch.
            energy_j: of all.
        """
        many, latency = self.work.microbatches, self.latency(once.latency_s)
        longer = latency / once.latency_s
        p05, p95 = once.latency_p05_s, once.latency_p95_s
        return replace(
            once,
            **{name: getattr(once, name) * many for name in _OF_BATCH},
            peak_memory_bytes=self.peaks().max(axis=0),
            device_s=once.device_s * many,
            host_s=once.host_s * many,
            latency_s=latency,
            latency_lower_s=once.latency_lower_s * longer,
            latency_upper_s=once.latency_upper_s * longer,
            latency_p05_s=None if p05 is None else p05 * longer,
            latency_p95_s=None if p95 is None else p95 * longer,
            energy_j=energy_j,
        )

    def stages(self, kept: Bools) -> tuple[Stage, ...]:
        """The stages of one configuration whose layers are kept where this is true, bool (layers,)."""
        many, cut = self.work.microbatches, stage_layers(len(kept), self.work.pp)
        return tuple(
            Stage(
                layers=int(kept[layers.start : layers.stop].sum()),
                params=int(part.count("params")),
                weight_bytes=int(part.count("weight_bytes")),
                flops=many * int(part.count("flops")),
                hbm_bytes=many * int(part.count("hbm_bytes")),
                kv_cache_bytes=many * int(part.count("kv_cache_bytes")),
                peak_memory_bytes=int(peak),
                latency_s=float(seconds),
            )
            for layers, part, peak, seconds in zip(cut, self.parts, self.peaks(), self.seconds, strict=True)
        )


def idle_share(stages: Sequence[Stage], microbatches: int, latency_s: float) -> float:
    """Share of the stages' time in which they wait for each other: the bubble."""
    return 1 - microbatches * sum(stage.latency_s for stage in stages) / (len(stages) * latency_s)
