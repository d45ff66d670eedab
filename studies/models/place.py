"""Where a training runs: the processor or a GPU, the same bits again on either."""

from __future__ import annotations

import os

import torch

from validate.devices.cpu import cpu_name
from validate.devices.opening import torch_device

_WORKSPACE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""Without it cuBLAS may add in another order from run to run, and torch's deterministic mode refuses to multiply."""


def open_place(choice: str) -> torch.device:
    """The device called auto, cpu or cuda, made repeatable. Call it before anything else uses CUDA.

    Raises:
        InputError: when CUDA is asked for and there is none.
    """
    device = torch_device(choice)
    if device.type == "cuda":
        for name, value in _WORKSPACE.items():
            os.environ.setdefault(name, value)
    return device


def place_name(device: torch.device) -> str:
    """The GPU's name, or the processor's."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return cpu_name()


def place_of(model: torch.nn.Module) -> torch.device:
    """Where a model's weights are."""
    return next(model.parameters()).device
