"""The device that a command asks for."""

from __future__ import annotations

import torch

from costmodel.errors import InputError
from validate.devices.cpu import CpuDevice
from validate.devices.device import Device


def torch_device(choice: str) -> torch.device:
    """torch's device of auto, cpu or cuda, where nothing is timed; auto takes CUDA where there is one.

    Raises:
        InputError: when CUDA is asked for and there is none.
    """
    has = torch.cuda.is_available()
    if choice == "cuda" and not has:
        raise InputError("no CUDA device", value=choice, hint="use --device cpu, or install a torch built for CUDA")
    return torch.device("cuda" if has and choice != "cpu" else "cpu")


def open_device(choice: str, threads: int | None = None) -> Device:
    """The device called auto, cpu or cuda; auto takes CUDA where there is one.

    Raises:
        InputError: when CUDA is asked for and there is none.
    """
    if torch_device(choice).type == "cuda":
        from validate.devices.cuda import CudaDevice

        return CudaDevice()
    return CpuDevice(threads)
