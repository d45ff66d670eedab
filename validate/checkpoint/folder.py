"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from costmodel.errors import InputError
from costmodel.units import si
from validate.errors import RunError


def require_new(path: Path, needed_bytes: int = 0) -> None:
    """Make sure that a folder can be written: nothing is there yet, and the disk has room.

    Raises:
        InputError: when something exists at `path`, or nothing can be made there.
        RunError: when the disk has fewer than `needed_bytes` free.
    """
    if path.is_symlink() or path.exists():
        raise InputError("--out exists", value=str(path), allowed="a folder that does not exist yet")
    above = next(each for each in path.absolute().parents if each.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError("cannot write to folder", value=str(above), hint="choose another --out")
    free = shutil.disk_usage(above).free
    if free < needed_bytes:
        allowed = f"at least {si(needed_bytes, 'B')}"
        raise RunError(f"not enough room on the disk of {above}", value=f"{si(free, 'B')} free", allowed=allowed)


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder beside `path` to write into, renamed to `path` on leaving; removed when the writing fails.

    Raises:
        InputError: when something exists at `path`.
        RunError: when the disk is full or fails.
    """
    require_new(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.partial-"))
        try:
            yield temporary
            for each in temporary.iterdir():
                each.chmod(0o666 & ~_umask())  # as ordinary new files; mkdtemp and safetensors serve the owner alone
                _sync(each)
            temporary.chmod(0o777 & ~_umask())
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
