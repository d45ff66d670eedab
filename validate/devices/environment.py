"""What a measurement was made with: versions, device, threads. Conditions that change are recorded with each block."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any

from costmodel._version import __version__
from validate.devices.cgroup import cpu_quota
from validate.devices.device import Device

_LIBRARIES = ("torch", "transformers", "numpy", "scipy", "tensorly", "psutil", "nvidia-ml-py")


def environment(device: Device) -> dict[str, Any]:
    """JSON values; no host or user name."""
    import torch

    versions: dict[str, str | None] = {}
    for name in _LIBRARIES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    names = ("OMP_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY")
    threads = {name: os.environ.get(name) for name in names}
    return {
        "costmodel": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "device": {
            "kind": device.kind,
            "name": device.name,
            "memory_bytes": device.memory_bytes,
            "cache_bytes": device.cache_bytes,
        },
        "threads": torch.get_num_threads(),
        "cpu_quota_cores": cpu_quota(),
        "environment": {name: value for name, value in threads.items() if value is not None},
        "cuda": torch.version.cuda,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "versions": versions,
    }
