"""A folder that appears whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from costmodel.errors import CostModelError, InputError
from costmodel.units import si
from validate.errors import MeasurementError, RunError
from validate.store.lock import lock_folder


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Workplace:
    """`.NAME.partial` beside a folder NAME that is being written.

    Attributes:
        folder: what will be NAME.
        finished: what an interrupted run left for the next one.
    """

    folder: Path
    finished: Path


def workplace_path(path: Path) -> Path:
    """Where the folder `path` is written until it is whole."""
    return path.parent / f".{path.name}.partial"


@contextlib.contextmanager
def new_folder(path: Path, job: Mapping[str, Any]) -> Iterator[Workplace]:
    """A place to write the folder `path` in, which appears on leaving.

    Whatever ends the work leaves what is in `finished` for the next run of the same job, if anything; but an error that
    this would meet again, such as a damaged source or a weight that is not finite, leaves nothing.

    Args:
        job: JSON that says what is written; only what the same job left is taken up.

    Raises:
        InputError: when something exists at `path`, another process writes there, or another job's work is in the way.
        RunError: when the disk is full or fails.
    """
    require_new(path)
    place = workplace_path(path)
    try:
        with lock_folder(place, busy=InputError):
            _take_up(place, job)
            work = Workplace(folder=place / "folder", finished=place / "finished")
            try:
                shutil.rmtree(work.folder, ignore_errors=True)
                work.folder.mkdir()
                work.finished.mkdir(exist_ok=True)
                yield work
                _publish(work.folder, path)
            except BaseException as error:
                shutil.rmtree(work.folder, ignore_errors=True)
                if _is_verdict(error) or not any(work.finished.iterdir()):
                    shutil.rmtree(place, ignore_errors=True)
                raise
            shutil.rmtree(place, ignore_errors=True)
    except OSError as error:
        raise RunError("cannot write", value=str(path), hint=error.strerror or str(error)) from error


def _is_verdict(error: BaseException) -> bool:
    """Whether the same command would fail again: not for a disk or an interrupt, nor where memory may have been short,
    which a factorisation reports as its own failure."""
    if not isinstance(error, CostModelError) or isinstance(error, RunError):
        return False
    return not (isinstance(error, MeasurementError) and error.kind == "factorisation")


def _take_up(place: Path, job: Mapping[str, Any]) -> None:
    """Make sure that finished work is of this job."""
    note, text = place / "job.json", json.dumps(job, sort_keys=True)
    if note.exists() and note.read_bytes() != text.encode():
        hint = "give the same command to continue it, delete that folder, or choose another --out"
        raise InputError(
            "unfinished work of another configuration, checkpoint or option is in the way", value=str(place), hint=hint
        )
    if not note.exists():
        shutil.rmtree(place / "finished", ignore_errors=True)
        note.write_text(text, encoding="utf-8")


def _publish(folder: Path, path: Path) -> None:
    for each in folder.rglob("*"):
        if each.is_file():
            each.chmod(0o666 & ~_umask())  # as ordinary new files; safetensors' are for the owner alone
        _sync(each)
    require_new(path)
    folder.rename(path)
    _sync(path)
    _sync(path.parent)


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
