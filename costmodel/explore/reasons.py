"""Why a goal is reached or not, in a word and in a sentence."""

from __future__ import annotations

import math

import numpy as np

from costmodel.arrays import Floats
from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.prior import METRIC
from costmodel.explore.goal import Goal
from costmodel.explore.quality import QualityTable
from costmodel.explore.recommendation import Reason, Verdict
from costmodel.forward.workload import MAX_DEVICES, Workload
from costmodel.hardware.profile import HardwareProfile
from costmodel.hardware.stack import names_bare_kernels
from costmodel.pricing.phase import PhaseCosts
from costmodel.pricing.phase_estimate import PhaseEstimate
from costmodel.units import si


def unfit_text(least: int, work: Workload, hardware: HardwareProfile) -> str:
    """Why nothing fits of what may be recommended: `least` bytes are what it needs on a device at least."""
    more = "; share it out: --tp, --pp" if work.devices < MAX_DEVICES else ""
    each = " on each device" if work.devices > 1 else ""
    return (
        f"does not fit: {si(least, 'B')}{each} at least, and {hardware.name} has {si(hardware.memory_bytes, 'B')}{more}"
    )


def reached_verdict(
    goal: Goal,
    needed: float,
    chosen: int,
    saved: Floats,
    sure: Floats,
    dense: PhaseCosts,
    hardware: HardwareProfile,
) -> Verdict:
    """The verdict on the configuration at place `chosen` of what was tried, of which place 0 is dense."""
    if chosen == 0:
        return Verdict(code="yes", reason="fits", text="dense as it is")
    needs = f"{needed:.1f} % are needed" if goal.kind != "faster" else f"{sure[chosen]:.1f} % at the pessimistic end"
    unfit = f"; dense does not fit: {si(dense.peak_memory_bytes, 'B')} on {si(hardware.memory_bytes, 'B')}"
    return Verdict(
        code="yes", reason="reached", text=f"saves {saved[chosen]:.1f} %, {needs}{'' if dense.fits else unfit}"
    )


def missed(
    dense: PhaseEstimate,
    goal: Goal,
    needed: float,
    ceiling: float,
    saved: Floats,
    low: Floats | None,
    nats: Floats,
    damage: QualityTable,
    at_most: str,
) -> tuple[Reason, str]:
    """Why no configuration reaches the goal, as if none did."""
    if float(saved.max()) < needed:
        return _limit(dense, goal, at_most)
    if low is None:
        return "uncertain", "no calibration says how sure a saving is"
    if float(low.max()) < needed:
        best, less = int(saved.argmax()), _less(goal, ceiling, low, nats)
        text = f"{at_most}, and {low[best]:.1f} % at the pessimistic end of that"
        if float(low[nats <= ceiling].max()) == float(low.max()):
            return "uncertain", f"{text}; ask for {less}" if less else text
        within = f"within a damage of {ceiling:g}"
        return "uncertain", f"{text}; {within} ask for {less}" if less else f"{text}; {within} none is sure"
    least = float(nats[low >= needed].min())
    of = f"a damage of {least:.2g} nats by a prior" if damage.metric == METRIC else f"{least:.2g} {damage.metric}"
    return (
        "damage",
        f"reached at {of} only, and {ceiling:g} is the most allowed; {_way_on(goal, ceiling, low, nats, damage)}",
    )


def _way_on(goal: Goal, ceiling: float, low: Floats, nats: Floats, damage: QualityTable) -> str:
    """What to ask for where what reaches the goal does too much damage."""
    sure = _less(goal, ceiling, low, nats)
    less = f"ask for {sure}, or " if sure else ""
    own = ", or give what was measured (--quality FILE)" if damage.stand_in else ""
    return f"{less}allow more with --max-damage{own}"


def _less(goal: Goal, ceiling: float, low: Floats, nats: Floats) -> str:
    """The goal that is reached for sure within the damage allowed; empty where there is none."""
    sure = math.floor(10 * float(low[nats <= ceiling].max())) / 10
    return f"--{goal.kind} {sure:.1f}% at most" if goal.kind != "fits" and sure > 0 else ""


def most_text(most: float, only: Decomposition | None) -> str:
    """The most that is saved, in words: by any configuration, or by the one that was judged."""
    if only is not None:
        return f"this configuration saves {f'{most:.1f} %' if most > 0 else 'none'}"
    return f"at most {most:.1f} %" if most > 0 else "no configuration saves any"


def _limit(dense: PhaseEstimate, goal: Goal, at_most: str) -> tuple[Reason, str]:
    """What keeps every configuration from the goal."""
    if goal.kind != "faster":
        return "floor", f"{at_most}: the rest is not in weights that can be factored"
    costs = dense.dense
    if costs.host_s >= costs.device_s:
        bare = names_bare_kernels(dense.workload.stack)
        how = "; name a --stack, or try --runtime graph" if bare else ""
        return "launch-bound", f"launch-bound: the host's launches set the pace; {at_most}{how}"
    ops, timings = dense.ops("dense")
    sites = np.array([op.site is not None for op in ops])
    whole, own = float(timings.latency_s.sum()), float(timings.latency_s[sites].sum())
    share = 100 * own * costs.device_s / whole / costs.latency_s
    bounds = np.array(timings.bound())
    work = float(timings.latency_s[sites & (bounds == "compute")].sum())
    if 2 * work > own:
        return "compute-bound", f"compute-bound: smaller products run less efficiently; {at_most}"
    return "floor", f"at the floor: {share:.0f} % of the time is in weights, and more kernels eat the rest; {at_most}"
