"""What a plan needs to know of a device, which may be another machine's. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self


class KnownDevice(Protocol):
    """A device here or elsewhere; every `Device` is one."""

    @property
    def kind(self) -> str:
        """`cpu` or `cuda`."""

    @property
    def name(self) -> str:
        """As the vendor or the operating system calls it."""

    @property
    def memory_bytes(self) -> int:
        """Of its main memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """A device as the environment of records has it.

    Attributes:
        threads: of a CPU, None of a GPU.
    """

    kind: str
    name: str
    memory_bytes: int
    threads: int | None

    @classmethod
    def of(cls, environment: Mapping[str, Any]) -> Self:
        """Read what `environment` says."""
        device = environment["device"]
        threads = environment["threads"] if device["kind"] == "cpu" else None
        return cls(kind=device["kind"], name=device["name"], memory_bytes=device["memory_bytes"], threads=threads)
