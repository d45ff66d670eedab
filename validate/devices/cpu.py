"""A CPU as a device to measure on."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch

from costmodel.forward.workload import Runtime
from validate.devices.conditions import quota_conditions
from validate.devices.device import PassMemory, Work
from validate.devices.threads import usable_cores

PLACEMENT = 0.01
"""Of a CPU: twin copies of a model differ by 0.3 to 1.6 % for as long as they live (benchmarks/README.md)."""


class CpuDevice:
    """The processor that Python runs on; a graph is the plain callable, since nothing is launched.

    Args:
        threads: of torch; by default as many as `usable_cores`.
    """

    kind = "cpu"
    placements = 4
    placement = PLACEMENT

    def __init__(self, threads: int | None = None) -> None:
        self.torch_device = torch.device("cpu")
        self.name = cpu_name()
        self.threads = threads or usable_cores()
        torch.set_num_threads(self.threads)
        self.cache_bytes = last_level_cache_bytes()
        self.memory_bytes = int(psutil.virtual_memory().total)
        self._process = psutil.Process()

    def synchronize(self) -> None:
        """Nothing to wait for: calls return when their work is done."""

    def prepare(self, work: Work, runtime: Runtime) -> Work:
        """The callable itself."""
        return work

    def time(self, works: Sequence[Work], runtime: Runtime) -> list[float]:
        """Seconds of each call by the monotonic clock."""
        clock, seconds = time.perf_counter, []
        for work in works:
            start = clock()
            work()
            seconds.append(clock() - start)
        return seconds

    def peak_memory(self, work: Work) -> PassMemory:
        """Peak of live tensors, followed storage by storage, and the growth of the process."""
        from validate.devices.storage import StorageTracker

        with _peak_rss() as peak_process, StorageTracker() as tracker:
            work()
        return PassMemory(
            peak_allocated_bytes=tracker.peak_bytes,
            peak_reserved_bytes=None,
            peak_process_bytes=peak_process(),
            method="storages made by torch operations, followed through one pass; resident weights and cache added",
        )

    def conditions(self) -> Mapping[str, Any]:
        """Load, clock, and cumulative processor times and stops of this process and of the whole machine."""
        times, own = psutil.cpu_times(), self._process.cpu_times()
        frequency = psutil.cpu_freq()
        return {
            "load_1min": psutil.getloadavg()[0],
            "clock_mhz": round(frequency.current, 1) if frequency else None,
            "busy_s": sum(times) - times.idle - getattr(times, "iowait", 0.0),
            "steal_s": getattr(times, "steal", 0.0),
            "own_s": own.user + own.system,
            "cores": psutil.cpu_count() or 1,
            "wall_s": time.monotonic(),
            **quota_conditions(),
        }

    def energy_j(self) -> float | None:
        """None: no counter that an ordinary process may read."""
        return None

    def release(self) -> None:
        """Nothing is cached."""


def cpu_name() -> str:
    """The processor's name as /proc/cpuinfo has it, or the architecture."""
    for line in _lines(Path("/proc/cpuinfo")):
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    import platform

    return platform.processor() or platform.machine()


def last_level_cache_bytes() -> int:
    """Size of the largest cache of core 0, 32 MiB where the system does not say."""
    sizes = [
        int(text[:-1]) * {"K": 2**10, "M": 2**20, "G": 2**30}[text[-1]]
        for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
        for text in _lines(path)
        if text[:-1].isdigit() and text[-1] in "KMG"
    ]
    return max(sizes, default=32 * 2**20)


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@contextlib.contextmanager
def _peak_rss() -> Iterator[Callable[[], int | None]]:
    """Peak resident memory of the process from here on, where the kernel lets it be reset."""
    reset, status = Path("/proc/self/clear_refs"), Path("/proc/self/status")
    possible = True
    try:
        reset.write_text("5")
    except OSError:
        possible = False

    def peak() -> int | None:
        found = [line.split()[1] for line in _lines(status) if line.startswith("VmHWM")]
        return int(found[0]) * 1024 if possible and found else None

    yield peak
