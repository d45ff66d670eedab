"""Files written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from costmodel.errors import InputError


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: a temporary file beside it, then a rename.

    Raises:
        InputError: when the folder does not exist or cannot be written to.
    """
    import tempfile  # which imports much that an answer on the terminal does not need

    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.chmod(temporary, 0o666 & ~_umask())  # as an ordinary new file; mkstemp's are for the owner alone
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise InputError("cannot write", value=str(path), hint=error.strerror or str(error)) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
