"""What disturbed a block of times, judged from the device's conditions before and after it. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from validate.devices.cgroup import cpu_quota, throttling

OTHERS_LIMIT = 0.10
"""Share of the machine's processor time that other processes may take."""
STEAL_LIMIT = 0.02
CLOCK_LIMIT = 0.10
"""Relative change of the clock."""
HOT_C = 85


def quota_conditions() -> dict[str, Any]:
    """The container's CPU quota in cores and its counters of having stopped this process; empty where there is none."""
    quota, counters = cpu_quota(), throttling()
    found: dict[str, Any] = {} if quota is None else {"quota_cores": quota}
    if counters is not None:
        found |= {"quota_stops": counters.periods, "quota_stopped_s": counters.seconds}
    return found


def disturbances(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """One line per disturbance; a flagged block is kept, and shown apart."""
    found = []
    wall = after.get("wall_s", 0.0) - before.get("wall_s", 0.0)
    if wall > 0 and "busy_s" in after:
        capacity = wall * after["cores"]
        steal = (after["steal_s"] - before["steal_s"]) / capacity
        others = (after["busy_s"] - before["busy_s"] - (after["own_s"] - before["own_s"])) / capacity - steal
        if others > OTHERS_LIMIT:
            found.append(f"other processes took {others:.0%} of the processors")
        if steal > STEAL_LIMIT:
            found.append(f"the hypervisor withheld {steal:.0%} of the processors")
    if (stops := after.get("quota_stops", 0) - before.get("quota_stops", 0)) > 0:
        stopped_s = after.get("quota_stopped_s", 0.0) - before.get("quota_stopped_s", 0.0)
        found.append(f"the container's CPU quota stopped it in {stops} periods, for {stopped_s:.2f} s")
    first, last = before.get("sm_clock_mhz"), after.get("sm_clock_mhz")
    if first and last and abs(last - first) > CLOCK_LIMIT * max(first, last):
        found.append(f"the clock went from {first} to {last} MHz")
    reasons = sorted({*(before.get("throttle") or ()), *(after.get("throttle") or ())})
    if reasons:
        found.append(f"throttled: {', '.join(reasons)}")
    hottest = max(before.get("temperature_c") or 0, after.get("temperature_c") or 0)
    if hottest >= HOT_C:
        found.append(f"{hottest} degrees C")
    return found
