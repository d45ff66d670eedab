"""How many threads a CPU is measured with, and where they run. No torch: it must be decided before torch loads."""

from __future__ import annotations

import os
import sys

import psutil

from validate.devices.cgroup import cpu_quota, whole_cores


def allowed_cores() -> int:
    """Logical cores that this process may run on; all where the system does not restrict processes."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usable_cores() -> int:
    """Physical cores that this process may run on and its container's CPU quota keeps busy.

    To be asked before OpenMP binds the main thread to one of them.
    """
    allowed = allowed_cores()
    return whole_cores(cpu_quota(), max(1, min(allowed, psutil.cpu_count(logical=False) or allowed)))


def pin_threads(threads: int | None) -> int:
    """Bind OpenMP's threads to cores when the run takes every core that it may.

    Binding is read when torch loads its OpenMP, so it has no effect afterwards.

    Returns:
        `threads`, by default one per usable core.
    """
    chosen = threads or usable_cores()
    if "torch" not in sys.modules and chosen == allowed_cores():
        os.environ.setdefault("OMP_PROC_BIND", "close")
        os.environ.setdefault("OMP_PLACES", "cores")
    return chosen


def quota_note(threads: int) -> str | None:
    """What to warn of where more threads are asked for than the container's CPU quota keeps busy."""
    quota = cpu_quota()
    if quota is None or threads <= quota:
        return None
    return (
        f"{threads} thread{'s' if threads > 1 else ''} under a CPU quota of {quota:g} cores: "
        "the quota will stop them, and times will be too long; raise it or give fewer --threads"
    )


def waiting_note(threads: int) -> str | None:
    """What to warn of where threads are told to sleep between operations, which few programs do: waking them takes
    dozens of microseconds, more than a small operation, so a factored layer would be timed as slower than it is."""
    policy = os.environ.get("OMP_WAIT_POLICY", "")
    if threads == 1 or policy.lower() != "passive":
        return None
    return f"OMP_WAIT_POLICY={policy}: threads sleep between operations, and small ones are timed as slower; unset it"
