"""Does it pay? One code and one sentence per phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from costmodel.decomposition import Decomposition
from costmodel.spec_text import compact
from costmodel.units import si

if TYPE_CHECKING:
    from costmodel.estimate import PhaseCosts
    from costmodel.pricing import PhasePricer

THRESHOLD_PCT = 0.1
"""Changes of latency below this are called none."""
LAUNCH_THRESHOLD_PCT = 5.0
"""A loss below this that comes from launches alone is called none: host time per kernel is known no better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether a configuration is faster than dense in one phase, and why not where it is not."""

    code: Literal["gain", "none", "slower", "does-not-fit"]
    text: str

    def to_json(self) -> dict[str, str]:
        return {"code": self.code, "text": self.text}


def judge(priced: PhasePricer, decomposition: Decomposition, dense: PhaseCosts, decomposed: PhaseCosts) -> Verdict:
    """Compare the decomposed pass with the dense one; a pass that does not fit the device is told first."""
    capacity = priced.hardware.memory_bytes
    if not decomposed.fits:
        need = si(decomposed.peak_memory_bytes, "B")
        return Verdict(code="does-not-fit", text=f"does not fit: {need} on {si(capacity, 'B')}")
    if not decomposition.factors and not decomposition.dropped:
        return Verdict(code="none", text="dense: nothing is decomposed")
    gain = 100 * (1 - decomposed.latency_s / dense.latency_s)
    extra = "" if dense.fits else f"; dense does not fit ({si(dense.peak_memory_bytes, 'B')} on {si(capacity, 'B')})"
    if gain >= THRESHOLD_PCT:
        return Verdict(code="gain", text=f"gain {gain:.1f} %{extra}")
    launch_bound = decomposed.host_s >= decomposed.device_s
    limit = LAUNCH_THRESHOLD_PCT if launch_bound else THRESHOLD_PCT
    code: Literal["none", "slower"] = "slower" if gain <= -limit else "none"
    reason = _launches(priced, dense, decomposed) if launch_bound else _reason(priced, decomposition, dense, decomposed)
    text = f"slower by {-gain:.1f} %: {reason}" if code == "slower" else f"no gain: {reason}"
    return Verdict(code=code, text=text + extra)


def _launches(priced: PhasePricer, dense: PhaseCosts, decomposed: PhaseCosts) -> str:
    work = priced.work
    return (
        f"launch-bound at batch {work.batch} in {work.runtime.value} mode, "
        f"{decomposed.kernels} kernels instead of {dense.kernels}"
    )


def _reason(priced: PhasePricer, decomposition: Decomposition, dense: PhaseCosts, decomposed: PhaseCosts) -> str:
    above = decomposition.above_break_even(priced.model)
    if above and decomposed.weight_bytes >= dense.weight_bytes:
        layers = compact(sorted({site.layer for site in above}))
        return f"ranks above break-even in layers {layers}"
    if decomposed.kernels > dense.kernels:
        return f"{decomposed.kernels} kernels instead of {dense.kernels} cost more than the saved work"
    return "the saved work is too little to be seen"
