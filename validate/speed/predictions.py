"""The cost model's answers for a case, at every level that there is for the hardware. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from costmodel.decomposition.factors import Decomposition
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import HardwareProfile
from costmodel.model import ModelSpec
from costmodel.pricing.estimate import estimate
from costmodel.pricing.phase import PhaseCosts
from costmodel.timing.calibration.record import Calibration
from validate.speed.records import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """Prices on one device: on the ideal roofline, and with each calibration that serves the workload's type."""

    hardware: HardwareProfile
    calibrations: Sequence[Calibration] = ()

    def predictions(self, spec: ModelSpec, decomposition: Decomposition, work: Workload) -> list[Prediction]:
        """One per level, the datasheet first.

        Raises:
            HardwareError: when the profile has no rate for the workload's type.
        """
        fitting = [each for each in self.calibrations if work.dtype in each.dtypes]
        return [self._predict(spec, decomposition, work, each) for each in (None, *fitting)]

    def counts(self, spec: ModelSpec, decomposition: Decomposition, work: Workload) -> dict[str, int]:
        """Parameters, bytes and FLOPs that the built model must have."""
        costs = estimate(spec, self.hardware, decomposition, [work]).phases[0].decomposed
        names = ("params", "weight_bytes", "flops", "kv_cache_bytes")
        return {name: getattr(costs, name) for name in names}

    def _predict(
        self, spec: ModelSpec, decomposition: Decomposition, work: Workload, calibration: Calibration | None
    ) -> Prediction:
        phase = estimate(spec, self.hardware, decomposition, [work], calibration=calibration).phases[0]
        costs: PhaseCosts = phase.decomposed
        return Prediction(
            level=costs.level,
            dense_s=phase.dense.latency_s,
            decomposed_s=costs.latency_s,
            decomposed_lower_s=costs.latency_lower_s,
            decomposed_upper_s=costs.latency_upper_s,
            peak_memory_bytes=costs.peak_memory_bytes,
            energy_j=costs.energy_j,
        )
