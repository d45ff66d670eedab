"""Errors of measuring, and the sentence that an exception leaves in a record."""

from __future__ import annotations

from pathlib import Path

from costmodel.errors import CostModelError, ModelError

_NOT_READ = ("*.gguf", "*.bin", "*.pt", "*.pth", "*.h5", "*.msgpack")
"""Files of weights in other formats, some of which run code when they are opened."""


class RunError(CostModelError):
    """A run that could not go on: a locked folder, a full disk, records of another run."""

    exit_code = 1


class RecordError(CostModelError):
    """A file of records that is malformed or of another version."""


class FitError(CostModelError):
    """Measurements that cannot be fitted: too few, or of the wrong kind."""

    exit_code = 1


class MeasurementError(CostModelError):
    """A sample that cannot count: wrong identity, non-finite output, memory that does not suffice."""

    exit_code = 1

    def __init__(self, kind: str, what: str, **details: object) -> None:
        super().__init__(what, **details)  # type: ignore[arg-type]
        self.kind = kind
        """identity, non-finite or out-of-memory."""


def weightless(folder: Path) -> ModelError:
    """The error of a checkpoint's folder that has no weights that are read."""
    others = sorted(path.name for pattern in _NOT_READ for path in folder.glob(pattern))
    hint = "a configuration alone can be priced (costmodel), not measured; fetch the weights too"
    if others:
        hint = f"{others[0]} is not read, since such files can run code: save the model with save_pretrained"
        if others[0].endswith(".gguf"):
            hint = f"`validate import gguf {folder / others[0]}` makes a folder of it"
    allowed = "a folder with model.safetensors, or several *.safetensors and their model.safetensors.index.json"
    return ModelError("folder without weights", value=str(folder), allowed=allowed, hint=hint)


def reason_of(error: BaseException, limit: int = 400) -> str:
    """`Type: message` in one line of at most `limit` characters."""
    text = " ".join(str(error).split()) or "no message"
    line = text if isinstance(error, CostModelError) else f"{type(error).__name__}: {text}"
    return line if len(line) <= limit else f"{line[: limit - 3]}..."


def kind_of(error: BaseException) -> str:
    """The kind of failure that an exception is: its own, out-of-memory, input, or the exception's name. No torch."""
    if isinstance(error, MeasurementError):
        return error.kind
    names = {each.__name__ for each in type(error).__mro__}
    if names & {"OutOfMemoryError", "MemoryError"} or "out of memory" in str(error).lower():
        return "out-of-memory"
    return "input" if isinstance(error, CostModelError) else type(error).__name__
