"""One phase of an estimate: the dense model beside the decomposed one, whole, by device and operation by operation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from costmodel.decomposition.factors import Decomposition
from costmodel.forward.ops import Op
from costmodel.forward.workload import Workload
from costmodel.pricing.configurations import Configurations
from costmodel.pricing.phase import PhaseCosts, op_rows, savings
from costmodel.pricing.pricer import PhasePricer
from costmodel.pricing.verdict import Verdict
from costmodel.timing.columns import OpColumns, OpTimings

if TYPE_CHECKING:
    from costmodel.pricing.stages import Stage

DENSE = Decomposition()


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseEstimate:
    """One phase of an estimate: the dense model beside the decomposed one under the same workload."""

    pricer: PhasePricer
    configuration: Decomposition
    dense: PhaseCosts
    decomposed: PhaseCosts
    verdict: Verdict

    @property
    def workload(self) -> Workload:
        """What was run."""
        return self.pricer.work

    @property
    def saved(self) -> dict[str, float | None]:
        """Savings in percent of dense, the speed-up, and the interval of the saved latency."""
        return savings(self.dense, self.decomposed, self.pricer.ratio_error)

    @property
    def devices(self) -> dict[str, Any]:
        """All devices together, whose shares `dense` and `decomposed` are; how factored weights are split over them."""
        answer = {"count": self.workload.devices, **self.pricer.work.split, "whole": self.whole(), "ways": self.ways()}
        return answer | ({"pipeline": self.pipeline()} if self.workload.pp > 1 else {})

    @property
    def working_s(self) -> float:
        """Seconds in which a device works on the decomposed pass: the latency, or of a pipeline the sum over its stages
        of their time for all microbatches, without the time in which they wait for each other."""
        if self.workload.pp == 1:
            return self.decomposed.latency_s
        return self.workload.microbatches * sum(stage.latency_s for stage in self.stages())

    def stages(self, chosen: Decomposition | None = None) -> tuple[Stage, ...]:
        """What one device of each stage of a pipeline holds and does, decomposed unless another is given."""
        chosen = self.configuration if chosen is None else chosen
        configuration = Configurations.of(self.pricer.model, chosen)
        return self.pricer.pipeline(configuration).stages(configuration.kept)

    def pipeline(self) -> dict[str, Any]:
        """The stages, the microbatches that pass them, and the share of their time in which they wait."""
        from costmodel.pricing.stages import idle_share  # of no use to a pass of one stage

        many, answer = self.workload.microbatches, dict[str, Any]()
        for which, costs, chosen in self._both():
            stages = self.stages(chosen)
            bubble = idle_share(stages, many, costs.latency_s)
            answer[which] = {"bubble": bubble, "stages": [stage.to_json() for stage in stages]}
        return {"microbatches": many, **answer}

    def _both(self) -> tuple[tuple[str, PhaseCosts, Decomposition], ...]:
        return ("dense", self.dense, DENSE), ("decomposed", self.decomposed, self.configuration)

    def whole(self) -> dict[str, dict[str, Any]]:
        """Costs of all devices together: parameters once, what each of them holds and does in sum."""
        work, model = self.workload, self.pricer.model
        count = work.devices // work.pp
        summed = (
            "weight_bytes",
            "flops",
            "vector_flops",
            "hbm_bytes",
            "kv_cache_bytes",
            "peak_memory_bytes",
            "energy_j",
        )
        answer = {}
        for name, costs, chosen in self._both():
            sums: dict[str, Any] = {
                key: None if getattr(costs, key) is None else count * getattr(costs, key) for key in summed
            }
            if work.pp > 1:
                sums["peak_memory_bytes"] = count * sum(stage.peak_memory_bytes for stage in self.stages(chosen))
            answer[name] = {
                "params": chosen.params(model),
                **sums,
                "tokens_per_s": costs.tokens_per_s,
                "tokens_per_s_per_device": costs.tokens_per_s / work.devices,
            }
        return answer

    def ways(self) -> dict[str, dict[str, int]]:
        """How many sites of each tensor are split in which way."""
        found: dict[str, dict[str, int]] = {}
        for site, factor in sorted(self.configuration.factors.items()):
            if site.layer not in self.configuration.dropped:
                way = self.pricer.linears.way(self.pricer.rank.kind_of(site.layer).tensor(site.tensor), factor)
                by_way = found.setdefault(site.tensor, {})
                by_way[way] = by_way.get(way, 0) + 1
        return found

    def ops(self, which: Literal["dense", "decomposed"] = "decomposed") -> tuple[Sequence[Op], OpTimings]:
        """Every operation in execution order, and their times as columns in the same order."""
        ops = self.pricer.ops(self._chosen(which))
        return ops, self.pricer.time_model.times(OpColumns.of(ops))

    def counted_ops(self, which: Literal["dense", "decomposed"]) -> tuple[list[tuple[Op, int]], OpTimings]:
        """Operations of each different layer once, and how often each of them runs; the times of one run."""
        counts = self.pricer.counted_ops(self._chosen(which))
        return counts, self.pricer.time_model.times(OpColumns.of([op for op, _ in counts]))

    def _chosen(self, which: Literal["dense", "decomposed"]) -> Decomposition:
        return self.configuration if which == "decomposed" else DENSE

    def op_rows(self, which: Literal["dense", "decomposed"] = "decomposed") -> list[dict[str, Any]]:
        """The operations as rows with the contract's keys."""
        ops = self.pricer.ops(self._chosen(which))
        columns = OpColumns.of(ops)
        return op_rows(ops, columns, self.pricer.time_model.times(columns))
