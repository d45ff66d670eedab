"""Folders that are made once for all tests of all workers, since making them takes longer than copying them."""

from __future__ import annotations

import functools
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock


def made_once(name: str, what: str, make: Callable[[Path], object]) -> Path:
    """The folder called `name` that `make` fills with `what`, the same each time. No test may change it."""
    place = _scratch() / hashlib.sha256(what.encode()).hexdigest()[:20]
    with FileLock(f"{place}.lock"):
        if not place.exists():
            part = place.with_suffix(".part")
            make(part / name)
            part.rename(place)
    return place / name


def copied(made: Path, folder: Path) -> Path:
    """`folder` with what is in `made`, in files as new as the test that may change them."""
    return Path(shutil.copytree(made, folder, copy_function=shutil.copyfile, dirs_exist_ok=True))


def _scratch() -> Path:
    """The folder that conftest.py makes for all workers; of this process where there is none."""
    return Path(os.environ.get("COSTMODEL_TESTS_SHARED") or _own_scratch().name)


@functools.cache
def _own_scratch() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="made-once-")  # removed when the process ends
