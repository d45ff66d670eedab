"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from costmodel.errors import InputError
from validate.errors import RunError


def require_new(path: Path, needed_bytes: int = 0) -> None:
    """Make sure that a folder can be written: nothing is there yet, and the disk has room.

    Raises:
        InputError: when something exists at `path`, or it is no name for a folder.
        RunError: when its parent cannot be made, or the disk has fewer than `needed_bytes` free.
    """
    if path.is_symlink() or path.exists():
        raise InputError("--out exists", value=str(path), allowed="a folder that does not exist yet")
    if path.name in ("", ".."):
        raise InputError("--out is no name for a folder", value=str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(path.parent).free
    except OSError as error:
        raise RunError("cannot write to folder", value=str(path.parent), hint=error.strerror or str(error)) from error
    if free < needed_bytes:
        value = f"{free / 1e9:.1f} GB free"
        raise RunError(f"not enough room on the disk of {path.parent}", value=value,
                       allowed=f"at least {needed_bytes / 1e9:.1f} GB")  # fmt: skip


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to write into, renamed to `path` on leaving; removed when the writing fails.

    Raises:
        InputError: when something exists at `path`.
        RunError: when the disk is full or fails.
    """
    require_new(path)
    try:
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.partial-"))
        try:
            yield temporary
            for each in temporary.iterdir():
                _sync(each)
            temporary.chmod(0o777 & ~_umask())  # as an ordinary new folder; mkdtemp's are for the owner alone
            require_new(path)
            temporary.rename(path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync(path)
        _sync(path.parent)
    except OSError as error:
        raise RunError("cannot write", value=str(path), hint=error.strerror or str(error)) from error


def _sync(path: Path) -> None:
    """Return once a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
