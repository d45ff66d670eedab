"""The cost model's answers for a case, at every level that there is for the hardware. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from costmodel.decomposition.factors import Decomposition
from costmodel.errors import CalibrationError
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import HardwareProfile
from costmodel.model import ModelSpec
from costmodel.pricing.estimate import estimate
from costmodel.pricing.phase import PhaseCosts
from costmodel.timing.calibration.load import find_calibration
from costmodel.timing.calibration.record import Calibration
from costmodel.units import DType
from validate.speed.records import Prediction


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictor:
    """Prices on one device: on the ideal roofline, and with the first calibration that serves the workload's type, way
    of running and stack."""

    hardware: HardwareProfile
    calibrations: Sequence[Calibration] = ()

    def predictions(self, spec: ModelSpec, decomposition: Decomposition, work: Workload) -> list[Prediction]:
        """One per level, the datasheet first.

        Raises:
            HardwareError: when the profile has no rate for the workload's type.
        """
        serving = [
            each
            for each in self.calibrations
            if work.dtype in each.dtypes and work.runtime in each.runtimes and each.stack in (None, work.stack)
        ]
        return [self._predict(spec, decomposition, work, each) for each in (None, *serving[:1])]

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


def calibrations_for(
    option: str, hardware: HardwareProfile, dtype: DType, runtimes: Iterable[Runtime], stack: str | None = None
) -> tuple[list[Calibration], list[str]]:
    """The calibrations of a run: the one asked for, and the shipped one for ways of running that it does not serve.

    Args:
        option: as of `find_calibration`.
        hardware, dtype, runtimes, stack: what is to be predicted.

    Returns:
        The calibrations, the one asked for first, and a line for each way of running that it does not serve.

    Raises:
        CalibrationError: when the one asked for cannot be read or serves none of them.
    """
    asked: list[Calibration] = []
    spare: list[Calibration] = []
    refused: dict[Runtime, CalibrationError] = {}
    for runtime in sorted(runtimes, key=list(Runtime).index):
        try:
            calibration = find_calibration(option, hardware, dtype, runtime, stack)
        except CalibrationError as error:
            refused[runtime] = error
        else:
            asked += [calibration] if calibration is not None and calibration not in asked else []
    if refused and not asked:
        raise next(iter(refused.values()))
    notes = []
    for runtime in refused:
        shipped = find_calibration("auto", hardware, dtype, runtime)
        spare += [shipped] if shipped is not None and shipped not in spare else []
        level = f"the calibration that ships for {hardware.name}"
        if shipped is None or shipped.level == "generation":
            level = f"what is known of devices like {hardware.name}"
        notes.append(f"{option} does not serve {runtime.value} runs, which are predicted by {level}")
    return [*asked, *spare], notes
