"""Tensors in safetensors files, each written whole or not at all."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from validate.errors import RunError, reason_of


def save_tensors(
    path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None = None, *, hint: str = ""
) -> None:
    """Write a file beside `path`, and rename it when it is whole; nothing is left of one that failed.

    Args:
        metadata: texts kept in its header.
        hint: what to do where it fails.

    Raises:
        RunError: when the disk is full or fails, for which safetensors has errors of its own.
    """
    temporary = path.with_name(f".{path.name}.writing")
    content = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    try:
        save_file(content, temporary, metadata=None if metadata is None else dict(metadata))
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        hint = f"{reason_of(error)}; {hint}" if hint else reason_of(error)
        raise RunError("cannot write", value=str(path), hint=hint) from error


def load_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors of a file in memory of their own, by name, and its metadata.

    Raises:
        OSError: when it cannot be read.
        SafetensorError: when it is damaged.
    """
    with safe_open(path, framework="pt", device="cpu") as file:
        tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 - it is no mapping
        return tensors, dict(file.metadata() or {})
