"""Tensors to a file; what goes wrong with the disk is one line."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from validate.errors import RunError, reason_of


def save_tensors(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file.

    Raises:
        RunError: when the disk is full or fails, for which safetensors has errors of its own; no file is left then.
    """
    try:
        save_file(dict(tensors), path, metadata=dict(metadata))
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            path.unlink()
        raise RunError("cannot write", value=str(path), hint=reason_of(error)) from error
