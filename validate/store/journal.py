"""An append-only file of records that survives kill -9: locked while open, synced line by line, repaired on opening."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from types import TracebackType
from typing import Generic, Self

from costmodel.errors import InputError
from validate.errors import RecordError, RunError
from validate.store.lock import NAME as LOCK
from validate.store.lock import lock_folder
from validate.store.record_format import Kept, R, RecordFormat

PROFILE = "hardware.toml"
"""The profile that a run on a CPU of no built-in one makes beside its records."""


class Journal(Generic[R]):
    """The records of one run's folder, open for appending by one process at a time.

    Args:
        folder: made if it does not exist.
        kind: what the records are, and the file that they are in.
        resume: keep and continue the records found; without it a folder that has some is refused.

    Raises:
        InputError: when the folder is a model's.
        RunError: when the folder cannot be made or written to, is in use by another run, or holds records although
            `resume` is false.
        RecordError: when a line in it is damaged elsewhere than at the end.
    """

    def __init__(self, folder: Path, kind: RecordFormat[R], *, resume: bool) -> None:
        self.folder, self.path, self._kind = folder, folder / kind.file, kind
        if (folder / "config.json").is_file():
            hint = "records want a folder of their own"
            raise InputError("--out is the folder of a model", value=str(folder), hint=hint)
        self._kept, self._file = Kept[R](), -1
        self._made, self._before = not folder.exists(), _names(folder)
        self._lock = lock_folder(folder)
        try:
            self._file = self._open()
            self.repaired_bytes = self._load()
            """Bytes of a half-written last line that were cut off."""
            if self.records and not resume:
                hint = "add --resume to continue it, or choose another --out"
                raise RunError(f"{folder} holds {len(self.records)} {kind.noun}s of an earlier run", hint=hint)
        except BaseException:
            self.close()
            raise

    @property
    def records(self) -> list[R]:
        """The records that the file holds; one that failed and was made again only as it was made last."""
        return self._kept.records

    def append(self, record: R) -> None:
        """Write one line and return once it is on the disk; it takes the place of a failed record of its id.

        Raises:
            RunError: when the disk is full or fails; what was written of the line is cut off again.
        """
        line, start = self._kind.encode(record), os.lseek(self._file, 0, os.SEEK_END)
        try:
            written = 0
            while written < len(line):
                written += self._write(line[written:])
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, start)
            hint = f"{error.strerror}; {len(self.records)} {self._kind.noun}s are safe, --resume continues"
            raise RunError("cannot write record", value=str(self.path), hint=hint) from error
        self._kept.keep(record)

    def close(self) -> None:
        """Release the lock."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
        self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, InputError) and not self.records:
            self._unmake()
        self.close()

    def _unmake(self) -> None:
        """Leave nothing of this run behind where the input was refused before anything was recorded."""
        own = {self._kind.file, self._kind.settings, LOCK, PROFILE}
        with contextlib.suppress(OSError):
            for name in own & _names(self.folder) - self._before:
                (self.folder / name).unlink()
            if self._made:
                self.folder.rmdir()

    def _open(self) -> int:
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise RunError("cannot open records", value=str(self.path), hint=error.strerror or str(error)) from error

    def _load(self) -> int:
        content = self.path.read_bytes()
        end = content.rfind(b"\n") + 1
        lines = content[:end].splitlines()
        for number, line in enumerate(lines, 1):
            if line.strip() and not self._kept.keep(record := self._kind.decode(line, f"{self.path}:{number}")):
                raise RecordError(f"{self.path}: {self._kind.noun} twice", value=record.id)
        if end < len(content):
            os.ftruncate(self._file, end)
            os.fsync(self._file)
        return len(content) - end

    def _write(self, data: bytes) -> int:
        return os.write(self._file, data)


def _names(folder: Path) -> frozenset[str]:
    """Of what is in a folder; none where there is no folder."""
    try:
        return frozenset(os.listdir(folder))
    except OSError:
        return frozenset()
