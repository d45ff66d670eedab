"""A CUDA device behind the seam of `validate.devices.device`: events, captured graphs, allocator statistics, NVML."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from costmodel.forward.workload import Runtime
from validate.devices.conditions import quota_conditions
from validate.devices.device import PassMemory, Work
from validate.devices.nvml import Nvml

_QUEUE = 32
"""Replays between two waits for the device: enough for the host to stay ahead, few enough to keep memory low."""
_CAPTURE_WARMUP = 3
PLACEMENT = 0.01
"""Not measured on a GPU: what copies differ by on a CPU (`validate.devices.cpu.PLACEMENT`) stands in, so that intervals
are too wide rather than too narrow. `benchmarks/timing_honesty.py --device cuda` measures it."""


class CudaDevice:
    """The current CUDA device.

    Eager passes are timed one by one, from the first launch to the last kernel's end, so that the host's launch time
    shows. Graph replays are queued back to back, so that only the device's time shows.
    """

    kind = "cuda"
    placements = 4
    placement = PLACEMENT

    def __init__(self) -> None:
        index = torch.cuda.current_device()
        properties = torch.cuda.get_device_properties(index)
        self.torch_device = torch.device("cuda", index)
        self.name = properties.name
        self.cache_bytes = int(getattr(properties, "L2_cache_size", 50 * 2**20))
        self.memory_bytes = int(properties.total_memory)
        self._nvml = Nvml.open(str(getattr(properties, "uuid", "")), index)

    def synchronize(self) -> None:
        """Wait for all streams."""
        torch.cuda.synchronize()

    def prepare(self, work: Work, runtime: Runtime) -> Work:
        """A replay of the captured graph, or the plain launches."""
        return self._capture(work) if runtime is Runtime.GRAPH else work

    def time(self, works: Sequence[Work], runtime: Runtime) -> list[float]:
        """Seconds of each by CUDA events."""
        return self._time_queued(works) if runtime is Runtime.GRAPH else self._time_launches(works)

    def peak_memory(self, work: Work) -> PassMemory:
        """The allocator's own peaks, as torch.cuda.max_memory_allocated says."""
        self.release()
        torch.cuda.reset_peak_memory_stats()
        work()
        self.synchronize()
        return PassMemory(
            peak_allocated_bytes=torch.cuda.max_memory_allocated(),
            peak_process_bytes=None,
            peak_reserved_bytes=torch.cuda.max_memory_reserved(),
            method="torch.cuda.max_memory_allocated",
        )

    def conditions(self) -> Mapping[str, Any]:
        """Clocks, temperature, power and throttle reasons, nulls where NVML is missing; stops of the host's process."""
        return {**self._nvml.conditions(), **quota_conditions()}

    def energy_j(self) -> float | None:
        """NVML's counter of total energy, None where there is none."""
        return self._nvml.energy_j()

    def release(self) -> None:
        """Return cached blocks to the device."""
        torch.cuda.synchronize()
        torch.cuda.empty_cache()

    def _capture(self, work: Work) -> Work:
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_CAPTURE_WARMUP):
                work()
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            result = work()

        def replay() -> object:
            graph.replay()
            return result

        return replay

    def _time_launches(self, works: Sequence[Work]) -> list[float]:
        seconds = []
        for work in works:
            first, last = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            self.synchronize()
            first.record()
            work()
            last.record()
            last.synchronize()
            seconds.append(first.elapsed_time(last) / 1e3)
        return seconds

    def _time_queued(self, works: Sequence[Work]) -> list[float]:
        """The last callable runs first, untimed, so that no timed one waits for its launch."""
        seconds: list[float] = []
        for start in range(0, len(works), _QUEUE):
            chunk = works[start : start + _QUEUE]
            marks = [torch.cuda.Event(enable_timing=True) for _ in range(len(chunk) + 1)]
            works[start - 1]()
            marks[0].record()
            for work, mark in zip(chunk, marks[1:], strict=True):
                work()
                mark.record()
            self.synchronize()
            seconds += [a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(marks)]
        return seconds
