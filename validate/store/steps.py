"""What a run has done so far, in a folder beside its result: a killed run continues from there."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError

from validate.errors import MeasurementError, RunError, reason_of
from validate.store.lock import lock_folder
from validate.store.settings import keep_settings
from validate.store.tensors import load_tensors, save_tensors

_SAVED = re.compile(r"(hidden|gradient|layer|state)-(\d+)\.safetensors")


class WorkFolder:
    """Tensors of finished steps, `NAME-NUMBER.safetensors`, each written whole or not at all; a context manager, which
    leaves no folder where nothing was finished, or where a value that is not finite would be met again.

    Args:
        out: the result's path; the folder is `out` with `.partial` appended.
        settings: what a continued run must have in common with the one before.

    Raises:
        RunError: when another process uses the folder, or it cannot be written to, or is of another run.
    """

    def __init__(self, out: Path, settings: Mapping[str, object]) -> None:
        self.path = out.with_name(f"{out.name}.partial")
        self._lock = lock_folder(self.path)
        try:
            keep_settings(self.path, settings)
        except BaseException:
            self._lock.release()
            raise

    def __enter__(self) -> WorkFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        again = isinstance(error, MeasurementError) and error.kind == "non-finite"
        if self.path.is_dir() and (again or not any(_SAVED.fullmatch(path.name) for path in self.path.iterdir())):
            self.remove()
        self._lock.release()

    def steps(self, name: str) -> list[int]:
        """Numbers that there are tensors of, ascending."""
        matches = [_SAVED.fullmatch(path.name) for path in self.path.iterdir()]
        return sorted(int(match[2]) for match in matches if match and match[1] == name)

    def save(self, name: str, number: int, tensors: Mapping[str, torch.Tensor]) -> None:
        """Write the tensors of one step.

        Raises:
            RunError: when the disk is full or fails.
        """
        save_tensors(self._file(name, number), tensors, hint="the same command continues")

    def load(self, name: str, number: int, shapes: Mapping[str, Sequence[int]]) -> dict[str, torch.Tensor]:
        """Read the tensors of one step.

        Args:
            shapes: of those that must be there.

        Raises:
            RunError: when they are damaged: of another shape, or not finite.
        """
        path = self._file(name, number)
        try:
            found = load_tensors(path)[0]
        except (OSError, SafetensorError) as error:
            raise self._damaged(path, reason_of(error)) from error
        for key, shape in shapes.items():
            if key not in found or list(found[key].shape) != list(shape):
                held = f"of shape {list(found[key].shape)}" if key in found else "missing"
                raise self._damaged(path, f"{key} is {held}, where {list(shape)} belongs")
            if not bool(torch.isfinite(found[key]).all()):
                raise self._damaged(path, f"{key} holds NaN or infinity")
        return found

    def _damaged(self, path: Path, why: str) -> RunError:
        return RunError(
            "partial results are damaged", value=str(path), hint=f"{why}; remove {self.path} to begin again"
        )

    def forget(self, name: str, number: int) -> None:
        """Remove the tensors of a step, if there are any."""
        self._file(name, number).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove the folder: the result is written."""
        shutil.rmtree(self.path, ignore_errors=True)

    def _file(self, name: str, number: int) -> Path:
        return self.path / f"{name}-{number:04d}.safetensors"
