"""`--hw auto`: the profile of the device at hand: as it was probed, by its name, or written on the spot."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from costmodel.errors import HardwareError
from costmodel.files.write import write_file
from costmodel.hardware.here import AUTO, profile_here
from costmodel.hardware.profile import HardwareProfile, load_hardware
from validate.devices.facts import KnownDevice
from validate.store.journal import PROFILE

_GPUS = (
    (r"A100.*SXM.*40GB", "a100-sxm-40gb"),
    (r"A100.*SXM.*80GB", "a100-sxm-80gb"),
    (r"A100.*PCIe.*40GB|A100-PCIE-40GB", "a100-pcie-40gb"),
    (r"A100.*80GB.*PCIe|A100.*PCIe.*80GB", "a100-pcie-80gb"),
    (r"H100 PCIe", "h100-pcie-80gb"),
    (r"H100.*80GB HBM3|H100 SXM", "h100-sxm-80gb"),
    (r"H200(?! NVL)", "h200-sxm"),
    (r"\bH20\b", "h20"),
    (r"\bB200\b", "b200-sxm"),
    (r"\bL40S\b", "l40s"),
    (r"\bL40\b", "l40"),
    (r"\bL4\b", "l4"),
    (r"\bA10\b", "a10"),
    (r"\bA40\b", "a40"),
    (r"\bT4\b", "t4"),
    (r"V100-SXM2-16GB", "v100-sxm2-16gb"),
    (r"V100-SXM2-32GB", "v100-sxm2-32gb"),
    (r"RTX 3090(?! Ti)", "rtx-3090"),
    (r"RTX 4090(?! D)", "rtx-4090"),
    (r"RTX 5090(?! D)", "rtx-5090"),
    (r"RTX PRO 6000 Blackwell Workstation", "rtx-pro-6000"),
    (r"MI300X", "mi300x"),
)
"""What a driver calls a device, and its profile; names of cut-down or other products match nothing."""


def match_profile(device_name: str) -> str | None:
    """Name of the built-in profile of a GPU, None where there is none."""
    if "MIG" in device_name.upper():
        return None  # a slice of a device is another device
    return next((name for pattern, name in _GPUS if re.search(pattern, device_name, re.IGNORECASE)), None)


def hardware_for(
    option: str,
    device: KnownDevice,
    folder: Path,
    measured: Callable[[], str] | None = None,
    probed: Callable[[str], None] | None = None,
) -> HardwareProfile:
    """The profile that `--hw` asks for.

    Args:
        option: a name, a path, or auto.
        device: what auto looks at; a CPU that was not probed gets a minimal profile of its own in `folder`, kept for a
            resumed run.
        measured: the text of that profile, where the device is another machine's; None measures this one.
        probed: told which profile of this machine auto takes, the one that `costmodel --hw auto` takes, or why it does
            not; None leaves such profiles aside.

    Raises:
        HardwareError: when there is no such profile, or auto knows nothing of the GPU.
        InputError: when the folder cannot be written to.
    """
    if option != AUTO:
        return load_hardware(option)
    path = folder / PROFILE
    if probed is not None and not path.exists() and (found := _probed(device, probed)) is not None:
        return found
    if device.kind == "cpu":
        if not path.exists():
            write_file(path, (measured() if measured else _profile_text(device)).encode())
        return load_hardware(path)
    name = match_profile(device.name)
    if name is None:
        hint = "give --hw NAME or --hw FILE.toml; hw_profiles/README.md has the schema"
        raise HardwareError("no built-in profile for this device", value=device.name, hint=hint)
    return load_hardware(name)


def _probed(device: KnownDevice, say: Callable[[str], None]) -> HardwareProfile | None:
    """The profile of this machine that was probed, where it is of a device like this one."""
    try:
        path = profile_here()
    except HardwareError:
        return None
    found, kind = load_hardware(path), "cpu" if device.kind == "cpu" else "gpu"
    threads = getattr(device, "threads", None)
    if found.kind != kind:
        say(f"--hw auto: {path} is left aside, of a {found.kind}, for a {kind} is measured")
        return None
    if threads is not None and found.cores != threads:
        say(f"--hw auto: {path} is left aside, of {found.cores} threads, for {threads} are measured")
        return None
    say(f"--hw auto: {found.name}, as {path} describes this machine")
    return found


def _profile_text(device: KnownDevice) -> str:
    from validate.devices.cpu_profile import profile_text  # loads torch

    return profile_text(device)


def mismatch(device: KnownDevice, hardware: HardwareProfile) -> str | None:
    """A sentence where the predictions are of another device than is measured, None where nothing says so."""
    kind = "cpu" if device.kind == "cpu" else "gpu"
    known = match_profile(device.name) if kind == "gpu" else None
    other_gpu = known is not None and known != hardware.name and hardware.name in {name for _, name in _GPUS}
    if kind == hardware.kind and not other_gpu:
        return None
    return f"measured on {device.name} ({device.kind}), predicted for {hardware.name}: errors are of two devices"
