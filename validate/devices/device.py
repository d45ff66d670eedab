"""The seam between measuring and the machine: what a device must offer, and the CPU's way of offering it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from costmodel.forward.workload import Runtime

Work = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class PassMemory:
    """Peak of one pass in bytes, None where the device cannot say."""

    peak_allocated_bytes: int | None
    """Of tensors, resident ones included."""
    peak_reserved_bytes: int | None
    """Of what the allocator took from the device."""
    peak_process_bytes: int | None
    """Of the whole process in main memory."""
    method: str


class Device(Protocol):
    """What measuring needs of a machine. Times are seconds, sizes bytes."""

    kind: str
    """`cpu` or `cuda`."""
    name: str
    """As the vendor or the operating system calls it."""
    torch_device: torch.device
    cache_bytes: int
    """Of the last level of cache; weights that fit in it are not read from memory again."""
    memory_bytes: int
    placements: int
    """Copies of a model that a comparison takes where memory allows, so that no one place in memory decides."""
    placement: float
    """Standard deviation of the ratio of the same work at two places in memory, as a fraction."""

    def synchronize(self) -> None:
        """Wait until all work is done."""

    def prepare(self, work: Work, runtime: Runtime) -> Work:
        """The callable that a runtime replays: the same, or a captured graph of it."""

    def time(self, works: Sequence[Work], runtime: Runtime) -> list[float]:
        """Run callables in order and return the seconds that each took on the device's own clock."""

    def peak_memory(self, work: Work) -> PassMemory:
        """Run a callable once and return the peak."""

    def conditions(self) -> Mapping[str, Any]:
        """Clocks, temperature, throttling, load: what a block of times is to be believed by."""

    def energy_j(self) -> float | None:
        """Reading of an energy counter in joules, None where there is none."""

    def release(self) -> None:
        """Give cached memory back."""
