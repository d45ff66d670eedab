"""Passes by torch.compile, each one graph without a break."""

from __future__ import annotations

import os
import shutil

import torch

from costmodel.errors import InputError
from validate.errors import MeasurementError, reason_of
from validate.models.passes import Pass

BACKEND = "inductor"
_CXX = ("g++", "clang++")


def require_compiler(device: torch.device, backend: str = BACKEND) -> None:
    """Compile and run one addition.

    Raises:
        InputError: when that fails, as it does on a CPU without a C++ compiler.
    """
    if device.type == "cpu" and backend == BACKEND:
        names = [os.environ["CXX"]] if os.environ.get("CXX") else _CXX
        if not any(map(shutil.which, names)):
            hint = "install one, or name it in the environment's CXX"
            raise InputError("torch.compile finds no C++ compiler", value=", ".join(names), hint=hint)
    try:
        torch.compile(lambda tensor: tensor + 1, backend=backend)(torch.ones(8, device=device))
    except Exception as error:  # torch raises many kinds
        raise InputError("torch.compile does not work here", value=reason_of(error, 200)) from error


def compiled_pass(run: Pass, backend: str = BACKEND) -> Pass:
    """A pass in one graph, compiled for its shapes when this returns.

    Raises:
        MeasurementError: when it does not compile whole.
    """
    compiled: Pass = torch.compile(run, fullgraph=True, dynamic=False, backend=backend)
    try:
        compiled()
    except Exception as error:  # torch raises many kinds
        raise MeasurementError("compile", reason_of(error)) from error
    return compiled


def forget_compiled() -> None:
    """Drop what was compiled: of one function torch keeps a few versions, and each sample needs its own."""
    torch.compiler.reset()
