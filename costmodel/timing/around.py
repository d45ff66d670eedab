"""A device's time model with some of its operations timed otherwise."""

from __future__ import annotations

from dataclasses import dataclass

from costmodel.hardware.profile import HardwareProfile
from costmodel.timing.bare import BareKernels
from costmodel.timing.columns import TimeModel


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TimesAroundDevice(BareKernels):
    """What a time model says of itself is what the device's says; `times` is for those that build on it."""

    device: TimeModel
    hardware: HardwareProfile

    @property
    def level(self) -> str:
        """That of the device's other operations."""
        return self.device.level

    @property
    def has_interval(self) -> bool:
        """Whether `p05_s` and `p95_s` say anything."""
        return self.device.has_interval

    @property
    def together(self) -> float:
        """As of the device's other operations."""
        return self.device.together

    @property
    def host_launch_s(self) -> float:
        """Time the host needs to launch one kernel."""
        return self.device.host_launch_s
