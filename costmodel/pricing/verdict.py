"""Does it pay? One code and one sentence per phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import describe_layers
from costmodel.hardware.stack import names_bare_kernels
from costmodel.pricing.phase import PhaseCosts
from costmodel.pricing.pricer import PhasePricer
from costmodel.units import si

THRESHOLD_PCT = 1.0
"""A change of latency, for better or worse, counts from here on: a measurement that stops at its default precision of
2 % tells no smaller ones apart, and no pass is priced that well."""
LAUNCH_THRESHOLD_PCT = 5.0
"""The same where launches set the pace of both passes. Their latency is kernels x one mean host time, and what a launch
takes differs between kernels, hosts and runs (4 to 25 us in eager PyTorch): a few percent more or fewer launches decide
nothing, many do."""
_MOST = 0.5
"""Share of a device's time from which on what takes it is what limits the pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a configuration is faster than dense in one phase, and why not where it is not."""

    code: Literal["gain", "none", "slower", "does-not-fit"]
    text: str

    def to_json(self) -> dict[str, str]:
        return {"code": self.code, "text": self.text}


def judge(priced: PhasePricer, decomposition: Decomposition, dense: PhaseCosts, decomposed: PhaseCosts) -> Verdict:
    """Compare the decomposed pass with the dense one; a pass that does not fit the device is told first.

    A change within +-THRESHOLD_PCT, or +-LAUNCH_THRESHOLD_PCT where both passes wait for launches, is none.
    """
    capacity = si(priced.hardware.memory_bytes, "B")
    if not decomposed.fits:
        return Verdict(code="does-not-fit", text=f"does not fit: {si(decomposed.peak_memory_bytes, 'B')} on {capacity}")
    if not decomposition.factors and not decomposition.dropped:
        return Verdict(code="none", text="no gain: dense, nothing is decomposed")
    rescued = "" if dense.fits else f"; dense does not fit: {si(dense.peak_memory_bytes, 'B')} on {capacity}"
    gain = 100 * (1 - decomposed.latency_s / dense.latency_s)
    limit = LAUNCH_THRESHOLD_PCT if _launch_bound(dense) and _launch_bound(decomposed) else THRESHOLD_PCT
    if gain >= limit:
        return Verdict(code="gain", text=f"gain {gain:.1f} %{rescued}")
    reason = _reason(priced, decomposition, dense, decomposed)
    if gain <= -limit:
        return Verdict(code="slower", text=f"slower: {reason} ({-gain:.1f} % longer){rescued}")
    return Verdict(code="none", text=f"no gain: {reason}{rescued}")


def _launch_bound(costs: PhaseCosts) -> bool:
    """Whether the host launches kernels more slowly than the device runs them."""
    return costs.host_s >= costs.device_s


def _reason(priced: PhasePricer, decomposition: Decomposition, dense: PhaseCosts, decomposed: PhaseCosts) -> str:
    kernels = f"{decomposed.kernels} kernels instead of {dense.kernels}"
    heavier = decomposed.weight_bytes >= dense.weight_bytes
    if heavier and (above := decomposition.above_break_even(priced.model)):
        return f"ranks above break-even in {describe_layers({site.layer for site in above})}"
    if _launch_bound(decomposed):
        work = priced.work
        how = f"in {work.runtime.value} mode" if names_bare_kernels(work.stack) else f"under {work.stack}"
        return f"launch-bound at batch {priced.work.batch} {how}, {kernels}"
    if decomposed.communication_s > _MOST * decomposed.device_s:
        share = 100 * decomposed.communication_s / decomposed.device_s
        devices = priced.work.devices
        return f"communication-bound: {share:.0f} % of the device's time goes into collectives of {devices} devices"
    if decomposed.kernels > dense.kernels:
        return f"{kernels} cost more than the saved work"
    return "the saved work is too little to be seen"
