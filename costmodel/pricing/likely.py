"""The same question on the stacks, or the hosts, that are most likely meant where none was named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from costmodel.decomposition.factors import Decomposition
from costmodel.forward.workload import Attention, Cache, Runtime, Workload
from costmodel.hardware.host import host_of, hosts
from costmodel.hardware.profile import HardwareProfile
from costmodel.hardware.stack import load_stack
from costmodel.model import ModelSpec
from costmodel.pricing.estimate import estimate
from costmodel.pricing.phase import PhaseCosts
from costmodel.timing.calibration.load import find_calibration
from costmodel.units import seconds

DECODERS, ENCODERS = ("transformers", "torch-compile", "vllm"), ("transformers", "torch-compile", "tensorrt")
"""Stacks that run a model on a GPU more often than not."""
MOST = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Likely:
    """The latency of each phase under one stack on one class of host.

    Attributes:
        phases: (name, dense costs, decomposed costs) in the order asked for.
    """

    stack: str
    host: str
    phases: tuple[tuple[str, PhaseCosts, PhaseCosts], ...]

    def to_json(self) -> dict[str, Any]:
        phases = [
            {
                "phase": name,
                "dense_latency_s": dense.latency_s,
                "latency_s": decomposed.latency_s,
                "latency_p05_s": decomposed.latency_p05_s,
                "latency_p95_s": decomposed.latency_p95_s,
                "saved_pct": 100 * (1 - decomposed.latency_s / dense.latency_s),
            }
            for name, dense, decomposed in self.phases
        ]
        return {"stack": self.stack, "host": self.host, "phases": phases}

    def text(self, *, plain: bool) -> str:
        """One line; `plain` where nothing is decomposed."""
        parts = []
        for name, dense, decomposed in self.phases:
            ends = (decomposed.latency_p05_s, decomposed.latency_p95_s)
            width = "" if None in ends else f" ({' to '.join(seconds(end or 0.0, 3) for end in ends)})"
            saved = "" if plain else f", saves {100 * (1 - decomposed.latency_s / dense.latency_s):.1f} %"
            parts.append(f"{name} {seconds(decomposed.latency_s, 3)}{width}{saved}")
        return f"{self.stack} on {self.host}: {'; '.join(parts)}"


def likely(
    model: ModelSpec,
    hardware: HardwareProfile,
    decomposition: Decomposition,
    workloads: Sequence[Workload],
    calibration: str = "auto",
) -> tuple[Likely, ...]:
    """The answers on likely stacks where the workloads name none; on likely hosts where they name a stack that launches
    its kernels but no host; else, and on CPUs, none.

    Args:
        calibration: as `find_calibration` takes it; a file serves one runtime, so that none but auto is asked again.
    """
    if not hardware.asynchronous or not workloads or calibration != "auto":
        return ()
    stack, host = workloads[0].stack, workloads[0].host
    if stack is None:
        pairs = [(name, host) for name in (ENCODERS if model.is_encoder else DECODERS)]
    elif host is None and load_stack(stack).launch_s:
        usual = host_of(None, hardware).name
        pairs = [(stack, name) for name in [usual, *(each for each in hosts() if each != usual)][:MOST]]
    else:
        return ()
    return tuple(_under(name, where, model, hardware, decomposition, workloads) for name, where in pairs)


def _under(
    stack: str,
    host: str | None,
    model: ModelSpec,
    hardware: HardwareProfile,
    decomposition: Decomposition,
    workloads: Sequence[Workload],
) -> Likely:
    described = load_stack(stack)
    runtime = Runtime(described.runtime)
    asked = [
        replace(
            work,
            stack=stack,
            host=host,
            runtime=runtime,
            attention=Attention(described.attention),
            cache=Cache(described.cache),
        )
        for work in workloads
    ]
    calibration = find_calibration("auto", hardware, asked[0].dtype, runtime)
    answer = estimate(model, hardware, decomposition, asked, calibration=calibration)
    return Likely(
        stack=described.name,
        host=host_of(host, hardware).name,
        phases=tuple((phase.workload.phase.value, phase.dense, phase.decomposed) for phase in answer.phases),
    )
