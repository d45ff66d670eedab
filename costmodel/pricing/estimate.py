"""One configuration of one model on one device: every cost, dense beside decomposed, and a verdict."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from costmodel.decomposition.experts import with_own_experts
from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.held import held
from costmodel.errors import InputError
from costmodel.forward.workload import Workload
from costmodel.hardware.host import host_of, measured_host
from costmodel.hardware.profile import HardwareProfile
from costmodel.hardware.stack import load_stack, names_bare_kernels
from costmodel.model import ModelSpec
from costmodel.pricing.assumptions import assumptions, warnings_for
from costmodel.pricing.configurations import Configurations
from costmodel.pricing.phase import PhaseCosts, phase_costs
from costmodel.pricing.phase_estimate import DENSE, PhaseEstimate
from costmodel.pricing.pricer import PhasePricer
from costmodel.pricing.saving import ratio_error
from costmodel.pricing.verdict import judge
from costmodel.timing.calibration.range import leaves
from costmodel.timing.columns import TimeModel
from costmodel.timing.datasheet import DatasheetRoofline
from costmodel.timing.stacked import StackTimes
from costmodel.units import DType, si

if TYPE_CHECKING:
    from costmodel.pricing.request import Request
    from costmodel.timing.calibration.record import Calibration

SCHEMA = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """The answer about one configuration.

    Attributes:
        phases: prefill, decode or both, in that order.
        request: a whole request where new_tokens was asked for.
        calibration: what corrected the roofline, or None.
    """

    model: ModelSpec
    hardware: HardwareProfile
    decomposition: Decomposition
    phases: tuple[PhaseEstimate, ...]
    request: Request | None
    calibration: Calibration | None

    @property
    def level(self) -> str:
        """What the times come from: datasheet, generation, probes or samples; one calibration serves every phase."""
        return self.phases[0].decomposed.level

    @property
    def assumptions(self) -> tuple[str, ...]:
        """What the numbers rest on, each with the sign of its error."""
        priced = assumptions(self.hardware, tuple(phase.pricer for phase in self.phases))
        if self.decomposition != held(self.model):
            return priced
        return (
            f"configuration: what the folder of {self.model.name} holds, beside the dense model that it was made of",
            *priced,
        )

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a user should know before trusting or deploying this configuration."""
        lengths = [phase.workload.kv_len for phase in self.phases]
        if self.request is not None:
            lengths.append(self.request.prompt_tokens + self.request.new_tokens - 1)
        found = list(warnings_for(self.model, self.decomposition, max(lengths, default=0)))
        if self.request is not None and not self.request.decomposed.fits:
            needed, capacity = self.request.decomposed.peak_memory_bytes, self.hardware.memory_bytes
            found.append(f"the request does not fit: {si(needed, 'B')} at its peak on {si(capacity, 'B')}")
        if self.calibration is not None:
            for phase in self.phases:
                found += leaves(self.calibration, phase.pricer.model, phase.pricer.work, self.decomposition)
        return tuple(dict.fromkeys(found))

    def to_json(self) -> dict[str, Any]:
        """The contract's JSON."""
        phases = [
            {
                "workload": phase.workload.to_json(),
                "dense": phase.dense.to_json(),
                "decomposed": phase.decomposed.to_json(),
                "saved": phase.saved,
                "verdict": phase.verdict.to_json(),
                **({"devices": phase.devices} if phase.workload.devices > 1 else {}),
                "ops": phase.op_rows(),
            }
            for phase in self.phases
        ]
        return {
            "schema": SCHEMA,
            "model": self.model.name,
            "hardware": self.hardware.name,
            "decomposition": self.decomposition.to_json(),
            "phases": phases,
            "request": self.request.to_json() if self.request else None,
            "assumptions": list(self.assumptions),
            "warnings": list(self.warnings),
        }


def estimate(
    model: ModelSpec,
    hardware: HardwareProfile,
    decomposition: Decomposition,
    workloads: Iterable[Workload],
    *,
    calibration: Calibration | None = None,
    new_tokens: int | None = None,
) -> Estimate:
    """Price a configuration and the dense model under each workload.

    Args:
        model: from `load_model`.
        hardware: from `load_hardware`.
        decomposition: from a SPEC or a file; checked here.
        workloads: one per phase.
        calibration: measured corrections to the roofline, or None for the datasheet level.
        new_tokens: price a request as well: the first workload, which must be a prefill and yields the first new
            token, and a decode step for each other.

    Raises:
        DecompositionError: when a site or rank does not exist in `model`.
        HardwareError: when the device has no rate for a workload's type.
        InputError: when an encoder is asked to decode, or a request has no prefill.
    """
    whole, model = model, with_own_experts(model, decomposition)
    configuration = Configurations.of(model, decomposition)
    phases = tuple(
        _phase(
            pricer(model, hardware, work, calibration),
            _dense_costs(pricer(whole, hardware, work, calibration)),
            decomposition,
            configuration,
        )
        for work in workloads
    )
    request = None
    if new_tokens is not None:
        if not phases:
            raise InputError("a request needs a workload", value=new_tokens)
        from costmodel.pricing.request import request_of  # no other answer needs it

        request = request_of(phases[0].pricer, decomposition, new_tokens)
    return Estimate(
        model=model,
        hardware=hardware,
        decomposition=decomposition,
        phases=phases,
        request=request,
        calibration=calibration,
    )


@functools.lru_cache(maxsize=64)
def pricer(
    model: ModelSpec, hardware: HardwareProfile, work: Workload, calibration: Calibration | None = None
) -> PhasePricer:
    """The pricer of a workload, cached: models, profiles and calibrations are shared objects.

    Raises:
        InputError: when an encoder is asked to decode.
    """
    if (stored := work.of_model(model)) is not work:
        return pricer(model, hardware, stored, calibration)
    if not model.generates and work.phase.value == "decode":
        raise InputError(f"{model.name} is {model.role} and has no decode phase", value="decode", allowed="prefill")
    if calibration is None:
        times: TimeModel = DatasheetRoofline.of(hardware, work.dtype, work.runtime)
    else:
        from costmodel.timing.calibration.load import time_model

        times = time_model(hardware, work.dtype, work.runtime, calibration)
        if model.experts is not None and calibration.passes is None:
            from costmodel.timing.experts import ExpertTimes, expert_numbers

            if (numbers := expert_numbers(model, work, hardware)) is not None:
                dtype = DType.FP8 if work.fp8 else DType.BF16
                times = ExpertTimes(device=times, hardware=hardware, numbers=numbers, dtype=dtype)
    if work.devices > 1:
        from costmodel.timing.parallel import ParallelTimes

        times = ParallelTimes(device=times, hardware=hardware, tp=work.tp, ep=work.ep)
    bare = names_bare_kernels(work.stack)
    if work.stack is not None and not bare and (calibration is None or calibration.stack is None):
        host = host_of(work.host, hardware)
        if work.host is None and calibration is not None and calibration.module_launch_s is not None:
            host = measured_host(host, calibration.module_launch_s)
        times = StackTimes(
            device=times,
            stack=load_stack(work.stack),
            host=host,
            element_bytes=work.act_bytes,
            core_cycles_per_s=hardware.core_cycles_per_s if hardware.asynchronous else math.inf,
        )
    return PhasePricer(model, work, hardware, times, ratio_error(calibration, work.dtype))


def _phase(
    priced: PhasePricer, dense: PhaseCosts, decomposition: Decomposition, configuration: Configurations
) -> PhaseEstimate:
    decomposed = phase_costs(priced, decomposition, configuration)
    return PhaseEstimate(
        pricer=priced,
        configuration=decomposition,
        dense=dense,
        decomposed=decomposed,
        verdict=judge(priced, decomposition, dense, decomposed),
    )


@functools.lru_cache(maxsize=64)
def _dense_costs(priced: PhasePricer) -> PhaseCosts:
    return phase_costs(priced, DENSE, Configurations.of(priced.model, DENSE))
