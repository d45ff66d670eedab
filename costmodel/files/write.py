"""Files written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from costmodel.errors import InputError
from costmodel.files.open import is_special, write_special


def write_file(path: Path, content: bytes) -> None:
    """Write a whole file or nothing: a temporary file beside it, then a rename. A pipe or a device stays one.

    Raises:
        InputError: when the folder does not exist or cannot be written to.
    """
    import tempfile  # which imports much that an answer on the terminal does not need

    try:
        if is_special(path):
            write_special(path, content)
            return
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(content)
            os.chmod(temporary, 0o666 & ~_umask())  # as an ordinary new file; mkstemp's are for the owner alone
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError("cannot write", value=str(path), hint=reason) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
