"""Pipes and devices in place of files: read and written as they are, and none is waited for that nobody is at."""

from __future__ import annotations

import errno
import io
import os
import stat
from pathlib import Path


def open_file(path: str | Path, limit: int = -1) -> io.BufferedReader | io.BytesIO:
    """A file's bytes; of a pipe, such as a shell's `<(command)`, what is written to it, up to `limit` bytes.

    Raises:
        OSError: when it cannot be opened, or is a pipe that nobody writes to.
        ValueError: when its name has a NUL byte.
    """
    if not stat.S_ISFIFO(os.stat(path).st_mode):
        return Path(path).open("rb")
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(handle, "rb") as stream:
        try:
            first = os.read(handle, 1 << 16)
        except BlockingIOError:  # its writer has not begun
            os.set_blocking(handle, True)
            return io.BytesIO(stream.read(limit))
        if not first:
            raise OSError(errno.ENXIO, "a pipe that nobody writes to", str(path))
        os.set_blocking(handle, True)
        return io.BytesIO(first + stream.read(-1 if limit < 0 else max(0, limit - len(first))))


def is_special(path: Path) -> bool:
    """Whether something is there that is written to as it is, such as a pipe or /dev/stdout: no file, no folder."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def write_special(path: Path, content: bytes) -> None:
    """Write to a pipe or a device.

    Raises:
        OSError: when it takes nothing, or is a pipe that nobody reads.
    """
    handle = os.open(path, os.O_WRONLY | os.O_NONBLOCK)
    os.set_blocking(handle, True)
    with os.fdopen(handle, "wb") as stream:
        stream.write(content)
