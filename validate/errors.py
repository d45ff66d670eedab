"""Errors of measuring, and the sentence that an exception leaves in a record."""

from __future__ import annotations

from costmodel.errors import CostModelError


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
