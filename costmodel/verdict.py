"""Does it pay? One code and one sentence per phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from costmodel.decomposition import Decomposition
from costmodel.spec_text import describe_layers
from costmodel.units import si

if TYPE_CHECKING:
    from costmodel.estimate import PhaseCosts
    from costmodel.pricing import PhasePricer

THRESHOLD_PCT = 0.1
"""Changes of latency below this are called none."""
LAUNCH_THRESHOLD_PCT = 5.0
"""A loss below this of a launch-bound pass is called none: host time per kernel is known no better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a configuration is faster than dense in one phase, and why not where it is not."""

    code: Literal["gain", "none", "slower", "does-not-fit"]
    text: str

    def to_json(self) -> dict[str, str]:
        return {"code": self.code, "text": self.text}


def judge(priced: PhasePricer, decomposition: Decomposition, dense: PhaseCosts, decomposed: PhaseCosts) -> Verdict:
    """Compare the decomposed pass with the dense one; a pass that does not fit the device is told first."""
    capacity = si(priced.hardware.memory_bytes, "B")
    if not decomposed.fits:
        return Verdict(code="does-not-fit", text=f"does not fit: {si(decomposed.peak_memory_bytes, 'B')} on {capacity}")
    if not decomposition.factors and not decomposition.dropped:
        return Verdict(code="none", text="no gain: dense, nothing is decomposed")
    rescued = "" if dense.fits else f"; dense does not fit: {si(dense.peak_memory_bytes, 'B')} on {capacity}"
    gain = 100 * (1 - decomposed.latency_s / dense.latency_s)
    if gain >= THRESHOLD_PCT:
        return Verdict(code="gain", text=f"gain {gain:.1f} %{rescued}")
    limit = LAUNCH_THRESHOLD_PCT if _launch_bound(decomposed) else THRESHOLD_PCT
    reason = _reason(priced, decomposition, dense, decomposed)
    if gain <= -limit:
        return Verdict(code="slower", text=f"slower: {reason} ({-gain:.1f} % longer){rescued}")
    return Verdict(code="none", text=f"no gain: {reason}{rescued}")


def _launch_bound(costs: PhaseCosts) -> bool:
    """Whether the host launches kernels more slowly than the device runs them."""
    return costs.host_s >= costs.device_s


def _reason(priced: PhasePricer, decomposition: Decomposition, dense: PhaseCosts, decomposed: PhaseCosts) -> str:
    kernels = f"{decomposed.kernels} kernels instead of {dense.kernels}"
    above = decomposition.above_break_even(priced.model)
    if above and decomposed.weight_bytes >= dense.weight_bytes:
        return f"ranks above break-even in {describe_layers({site.layer for site in above})}"
    if _launch_bound(decomposed):
        return f"launch-bound at batch {priced.work.batch} in {priced.work.runtime.value} mode, {kernels}"
    if decomposed.kernels > dense.kernels:
        return f"{kernels} cost more than the saved work"
    return "the saved work is too little to be seen"
