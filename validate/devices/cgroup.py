"""The CPU quota of a container, by Linux control groups of version 1 or 2, and how often it stopped the process.

A quota is processor time per period, which all threads share: two threads on two cores under a quota of one core run
for half of each period and are stopped for the other half. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_CONTROLLERS = ("cpu,cpuacct", "cpuacct,cpu", "cpu")
"""Folders that version 1 has the CPU's controller under."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Throttling:
    """How often, and for how many seconds of all threads, the quota has stopped this group since it was made."""

    periods: int
    seconds: float


def cpu_quota(root: Path = _ROOT, own: Path = _OWN) -> float | None:
    """Cores' worth of processor time that this process may use: the least quota of its group and of those above it.

    Args:
        root: where control groups are mounted.
        own: the file that names the process's groups.

    Returns:
        None where nothing limits it, or the system does not say.
    """
    quotas = [quota for folder in _folders(root, own) if (quota := _quota(folder)) is not None]
    return min(quotas, default=None)


def whole_cores(quota: float | None, allowed: int) -> int:
    """Threads that a quota keeps busy without ever stopping them, at least one, of `allowed` cores."""
    return allowed if quota is None else max(1, min(allowed, math.floor(quota)))


def throttling(root: Path = _ROOT, own: Path = _OWN) -> Throttling | None:
    """The counters of the group that was stopped most often; None where there are none."""
    found = [each for folder in _folders(root, own) if (each := _throttling(folder)) is not None]
    return max(found, key=lambda each: (each.periods, each.seconds), default=None)


def _folders(root: Path, own: Path) -> Iterator[Path]:
    """The process's group and those above it, in both versions; inside a container its own is the root."""
    for line in _text(own).splitlines():
        _, controllers, name = [*line.split(":", 2), "", ""][:3]
        if controllers and "cpu" not in controllers.split(","):
            continue
        for mount in [root / each for each in _CONTROLLERS] if controllers else [root, root / "unified"]:
            group = Path(name.lstrip("/"))
            for part in (group, *group.parents):
                if ".." not in part.parts:
                    yield mount / part


def _quota(folder: Path) -> float | None:
    words = _text(folder / "cpu.max").split()  # version 2: microseconds per period, or max
    if len(words) != 2:
        words = [_text(folder / name).strip() for name in ("cpu.cfs_quota_us", "cpu.cfs_period_us")]
    if not all(map(_is_count, words)):  # max; -1 in version 1
        return None
    quota, period = (int(word) for word in words)
    return quota / period if quota and period else None


def _throttling(folder: Path) -> Throttling | None:
    pairs = (line.split() for line in _text(folder / "cpu.stat").splitlines())
    counters = {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and _is_count(pair[1])}
    if "nr_throttled" not in counters:
        return None
    seconds = counters.get("throttled_usec", 0) * 1e-6 + counters.get("throttled_time", 0) * 1e-9
    return Throttling(periods=counters["nr_throttled"], seconds=seconds)


def _is_count(word: str) -> bool:
    """Whether a word is a number that a kernel may have counted to."""
    return word.isascii() and word.isdigit() and len(word) <= 20


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except (OSError, ValueError):  # ValueError: a name that no file has
        return ""
