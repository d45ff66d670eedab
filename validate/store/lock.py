"""One process at a time in a folder: a lock of the operating system, which goes with the process, so none is stale."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import filelock

from costmodel.errors import CostModelError
from validate.errors import RunError

NAME = "lock"


class FolderLock:
    """A lock that is held; a context manager, and `release()`, give it back. Nothing is left to a finalizer, which an
    interpreter that shuts down may run too late.

    Args:
        lock: taken once.
    """

    def __init__(self, lock: filelock.BaseFileLock) -> None:
        self._lock = lock

    def __enter__(self) -> FolderLock:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        """Give the lock back; once it is, nothing happens."""
        self._lock.release(force=True)


def lock_folder(folder: Path, *, busy: type[CostModelError] = RunError) -> FolderLock:
    """Take the lock of a folder, which is made where it does not exist.

    Args:
        busy: the kind of error where another process has it.

    Raises:
        CostModelError: of that kind, with the other process's number.
        RunError: when the folder cannot be written to.
    """
    path = folder / NAME
    lock = filelock.FileLock(path, blocking=False, thread_local=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except filelock.Timeout as error:
        owner = _owner(path)
        hint = f"process {owner} holds it; choose another --out" if owner else "choose another --out"
        raise busy("folder is in use by another run", value=str(folder), hint=hint) from error
    except OSError as error:
        raise RunError("cannot write to folder", value=str(folder), hint=error.strerror or str(error)) from error
    except BaseException:
        lock.release(force=True)
        raise
    with contextlib.suppress(OSError):  # a full disk, or a system that locks content: the number is a help only
        path.write_text(f"{os.getpid()}\n", encoding="utf-8")
    return FolderLock(lock)


def _owner(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()[:32]
    except OSError:
        return ""
