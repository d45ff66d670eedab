"""The lock of a folder is given back by whoever took it, on every path, and never by a finalizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("filelock")
pytest.importorskip("torch")

import filelock

from validate.errors import RunError
from validate.speed.records import SAMPLES
from validate.store.journal import Journal
from validate.store.lock import lock_folder
from validate.store.new_folder import new_folder
from validate.store.steps import WorkFolder


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every lock that is made, kept alive so that no finalizer releases it."""
    locks: list[Any] = []

    class Kept(filelock.FileLock):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            locks.append(self)

    monkeypatch.setattr("filelock.FileLock", Kept)
    return locks


HOLDERS: dict[str, Callable[[Path], Any]] = {
    "new folder": lambda path: new_folder(path / "out", {}),
    "work folder": lambda path: WorkFolder(path / "out", {}),
    "journal": lambda path: Journal(path / "out", SAMPLES, resume=False),
    "lock": lambda path: lock_folder(path / "out"),
}


@pytest.mark.parametrize("end", [None, KeyboardInterrupt, OSError, RunError("full")])
@pytest.mark.parametrize("name", HOLDERS)
def test_nothing_is_held_after_the_end(name: str, end: Any, tmp_path: Path, taken: list[Any]) -> None:
    def work() -> None:
        with HOLDERS[name](tmp_path):
            assert [lock.is_locked for lock in taken] == [True]
            if end is not None:
                raise end

    if end is None:
        work()
    else:
        with pytest.raises((KeyboardInterrupt, OSError, RunError)):
            work()
    assert [lock.is_locked for lock in taken] == [False]


def test_an_interrupt_while_the_lock_is_taken_leaves_it_free(
    tmp_path: Path, taken: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    acquire = filelock.FileLock.acquire

    def interrupted(self: Any, *args: Any, **options: Any) -> Any:
        acquire(self, *args, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(filelock.FileLock, "acquire", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lock_folder(tmp_path / "out")
    assert [lock.is_locked for lock in taken] == [False]
