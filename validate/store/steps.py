"""What a run has done so far, in a folder beside its result: a killed run continues from there."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from validate.errors import RunError, reason_of
from validate.store.settings import load_settings, require_same, save_settings

_SAVED = re.compile(r"(hidden|gradient|layer)-(\d+)\.safetensors")


class WorkFolder:
    """Tensors of finished steps, `NAME-NUMBER.safetensors`, each written whole or not at all; a context manager.

    Args:
        out: the result's path; the folder is `out` with `.partial` appended.
        settings: what a continued run must have in common with the one before.

    Raises:
        RunError: when another process uses the folder, or it cannot be written to, or is of another run.
    """

    def __init__(self, out: Path, settings: Mapping[str, object]) -> None:
        self.path = out.with_name(f"{out.name}.partial")
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunError("cannot write to folder", value=str(self.path), hint=str(error.strerror)) from error
        try:
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RunError("another run is writing there", value=str(out), hint="choose another --out") from error
            earlier = load_settings(self.path)
            if earlier is None:
                save_settings(self.path, dict(settings))
            else:
                require_same(earlier, dict(settings), list(settings))
        except BaseException:
            os.close(self._lock)
            raise

    def __enter__(self) -> WorkFolder:
        return self

    def __exit__(self, *error: object) -> None:
        os.close(self._lock)

    def steps(self, name: str) -> list[int]:
        """Numbers that there are tensors of, ascending."""
        matches = [_SAVED.fullmatch(path.name) for path in self.path.iterdir()]
        return sorted(int(match[2]) for match in matches if match and match[1] == name)

    def save(self, name: str, number: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write the tensors of one step.

        Raises:
            RunError: when the disk is full or fails.
        """
        path = self._file(name, number)
        temporary = path.with_suffix(".writing")
        try:
            save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, temporary)
            os.replace(temporary, path)
        except (OSError, SafetensorError) as error:
            with contextlib.suppress(OSError):
                temporary.unlink()
            hint = f"{reason_of(error)}; the same command continues"
            raise RunError("cannot write", value=str(path), hint=hint) from error

    def load(self, name: str, number: int) -> dict[str, torch.Tensor]:
        """Read the tensors of one step.

        Raises:
            RunError: when they are damaged.
        """
        path = self._file(name, number)
        try:
            with safe_open(path, framework="pt") as file:
                return {key: file.get_tensor(key).clone() for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError) as error:
            hint = f"{reason_of(error)}; remove {self.path} to begin again"
            raise RunError("partial results are damaged", value=str(path), hint=hint) from error

    def forget(self, name: str, number: int) -> None:
        """Remove the tensors of a step, if there are any."""
        self._file(name, number).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder: the result is written."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _file(self, name: str, number: int) -> Path:
        return self.path / f"{name}-{number:04d}.safetensors"
