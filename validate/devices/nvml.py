"""What NVIDIA's management library says of a device, through nvidia-ml-py where it is installed. No torch."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from typing import Any

_THROTTLE = ("SwPowerCap", "HwSlowdown", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown")


class Nvml:
    """Readings of one device; every one is None where the library, the driver or the device lacks it.

    Args:
        library: the `pynvml` module, or anything with its functions; None for no library.
        handle: its handle of the device.
    """

    def __init__(self, library: Any, handle: Any) -> None:
        self._library, self._handle = library, handle

    @classmethod
    def open(cls, uuid: str, index: int) -> Nvml:
        """The device of this UUID, or else of this index."""
        if importlib.util.find_spec("pynvml") is None:
            return cls(None, None)
        library = importlib.import_module("pynvml")
        try:
            library.nvmlInit()
            name = uuid if uuid.startswith("GPU-") else f"GPU-{uuid}"
            handle = library.nvmlDeviceGetHandleByUUID(name) if uuid else library.nvmlDeviceGetHandleByIndex(index)
        except library.NVMLError:
            return cls(None, None)
        return cls(library, handle)

    def conditions(self) -> dict[str, Any]:
        """SM and memory clock in MHz, temperature in degrees C, power in W, throttle reasons, driver version."""
        sm, memory = (getattr(self._library, name, None) for name in ("NVML_CLOCK_SM", "NVML_CLOCK_MEM"))
        power = self._read("nvmlDeviceGetPowerUsage")
        driver = None
        if self._library is not None:
            with contextlib.suppress(self._library.NVMLError):  # an old driver: the reading stays null
                driver = self._library.nvmlSystemGetDriverVersion()
        return {
            "sm_clock_mhz": self._read("nvmlDeviceGetClockInfo", sm),
            "memory_clock_mhz": self._read("nvmlDeviceGetClockInfo", memory),
            "temperature_c": self._read("nvmlDeviceGetTemperature", 0),
            "power_w": None if power is None else power / 1e3,
            "throttle": self._throttle(),
            "driver": driver,
        }

    def energy_j(self) -> float | None:
        """Joules since the driver was loaded."""
        millijoules = self._read("nvmlDeviceGetTotalEnergyConsumption")
        return None if millijoules is None else millijoules / 1e3

    def _throttle(self) -> list[str] | None:
        active = self._read("nvmlDeviceGetCurrentClocksThrottleReasons")
        if active is None:
            return None
        bits = {name: getattr(self._library, f"nvmlClocksThrottleReason{name}", 0) for name in _THROTTLE}
        return [name for name, bit in bits.items() if active & bit]

    def _read(self, function: str, *arguments: Any) -> Any:
        if self._library is None:
            return None
        try:
            return getattr(self._library, function)(self._handle, *arguments)
        except self._library.NVMLError:
            return None
