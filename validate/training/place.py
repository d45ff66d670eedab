"""Where a training runs: the processor or a GPU, the same bits again on either."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from costmodel.errors import InputError

CHOICES = ("auto", "cpu", "cuda")
_WORKSPACE = {"CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
"""Without it cuBLAS may add in another order from run to run, and torch's deterministic mode refuses to multiply."""


def open_place(choice: str) -> torch.device:
    """The device called auto, cpu or cuda; auto takes CUDA where there is one. Call it before anything else uses CUDA.

    Raises:
        InputError: when CUDA is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if choice == "cuda" and not available:
        hint = "use --device cpu, or install a torch built for CUDA"
        raise InputError("no CUDA device", value=choice, hint=hint)
    if choice == "cpu" or not available:
        return torch.device("cpu")
    for name, value in _WORKSPACE.items():
        os.environ.setdefault(name, value)
    return torch.device("cuda")


def place_name(device: torch.device) -> str:
    """The GPU's name, or the processor's; empty where the system does not say."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def place_of(model: torch.nn.Module) -> torch.device:
    """Where a model's weights are."""
    return next(model.parameters()).device
