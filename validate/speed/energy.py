"""Energy of a pass by the device's own counter, over windows of seconds; None where there is no counter."""

from __future__ import annotations

import time

from validate.devices.device import Device, Work
from validate.speed.records import Energy

WINDOW_S = 2.0
"""Counters are updated every 20 to 100 ms: shorter windows measure the counter."""
_QUEUE = 8
"""Passes between two waits, so that waiting is no part of them."""


def measure_energy(device: Device, candidate: Work, dense: Work, window_s: float = WINDOW_S) -> Energy | None:
    """Joules per pass of both, each run back to back for a window of its own, idle power included."""
    if device.energy_j() is None:
        return None
    return Energy(
        candidate_j=_per_pass(device, candidate, window_s),
        dense_j=_per_pass(device, dense, window_s),
        window_s=window_s,
        method="NVML total energy counter",
    )


def _per_pass(device: Device, work: Work, window_s: float) -> float:
    for _ in range(2):
        work()
    device.synchronize()
    before, start, passes = device.energy_j(), time.monotonic(), 0
    while time.monotonic() - start < window_s:
        for _ in range(_QUEUE):
            work()
        device.synchronize()
        passes += _QUEUE
    after = device.energy_j()
    if before is None or after is None:
        raise RuntimeError("the energy counter stopped answering")
    return (after - before) / passes
