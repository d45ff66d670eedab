"""Commands on a bad day: a full disk, a folder that goes, a second writer, SIGTERM, no reader, no HOME, 20 columns."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import killing
from resumable import COMMANDS, make_inputs

from validate.store.lock import NAME

RESUMABLE = ["quality", *(pytest.param(name, marks=pytest.mark.slow) for name in ("samples", "sensitivity", "apply"))]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("given"))


def begun(folder: Path) -> bool:
    """Whether anything of a run is on the disk."""
    return any(path.is_file() and path.name != "log" for path in folder.rglob("*"))


def locked(folder: Path) -> bool:
    """Whether a run has written its number into its lock, which it does while it holds it."""
    return any(path.stat().st_size for path in folder.rglob(NAME))


def until_begun(child: Any, folder: Path, begun: Callable[[Path], bool] = begun) -> None:
    while child.exitcode is None and not begun(folder):
        time.sleep(0.005)
    assert child.exitcode is None


def refusal(log: Path) -> str:
    """The last line that a command printed, an error in one line."""
    text = log.read_text()
    assert "Traceback" not in text
    line = text.strip().splitlines()[-1]
    assert line.startswith("error: "), text[-1000:]
    return line


@pytest.mark.parametrize("name", RESUMABLE)
def test_a_full_disk_is_one_line_and_nothing_is_lost(name: str, given: Path, tmp_path: Path) -> None:
    command, log = COMMANDS[name], tmp_path / "log"
    words = command.make(given, tmp_path / "out")
    child = killing.start(words, log, prepare=killing.full_disk)
    child.join()
    assert child.exitcode in (1, 2)
    refusal(log)
    again = command.again if (tmp_path / "out").exists() else ()
    killing.finish([*words, *again], log)
    command.read(tmp_path / "out")


@pytest.mark.parametrize("name", RESUMABLE)
def test_a_folder_that_goes_is_one_line(name: str, given: Path, tmp_path: Path) -> None:
    (tmp_path / "work").mkdir()
    child = killing.start(COMMANDS[name].make(given, tmp_path / "work" / "out"), tmp_path / "log")
    until_begun(child, tmp_path / "work")
    shutil.rmtree(tmp_path / "work", ignore_errors=True)
    child.join()
    assert child.exitcode in (0, 1, 2)
    if child.exitcode:
        refusal(tmp_path / "log")


@pytest.mark.parametrize("name", RESUMABLE)
def test_a_second_writer_is_refused_and_the_first_is_not_disturbed(name: str, given: Path, tmp_path: Path) -> None:
    command, work = COMMANDS[name], tmp_path / "work"
    work.mkdir()
    words = command.make(given, work / "out")
    first = killing.start(words, tmp_path / "log", prepare=killing.stop_when_locked)
    until_begun(first, work, locked)
    second = killing.start([*words, *(command.again if (work / "out").exists() else ())], tmp_path / "second")
    second.join()
    os.kill(first.pid, signal.SIGCONT)
    assert second.exitcode in (1, 2)
    line = refusal(tmp_path / "second")
    assert "in use" in line or "another process" in line
    first.join()
    assert first.exitcode == 0, (tmp_path / "log").read_text()
    command.read(work / "out")


@pytest.mark.parametrize("name", RESUMABLE)
def test_sigterm_ends_a_run_that_can_be_resumed(name: str, given: Path, tmp_path: Path) -> None:
    command, work = COMMANDS[name], tmp_path / "work"
    work.mkdir()
    words = command.make(given, work / "out")
    child = killing.start(words, tmp_path / "log")
    until_begun(child, work)
    os.kill(child.pid, signal.SIGTERM)
    child.join()
    assert child.exitcode in (0, 130)
    if child.exitcode == 130:
        assert refusal(tmp_path / "log") == "error: interrupted"
        again = command.again if (work / "out").exists() else ()
        killing.finish([*words, *again], tmp_path / "log")
    command.read(work / "out")


@pytest.mark.parametrize("prepare", [killing.no_reader, killing.bare_environment])
@pytest.mark.parametrize("name", RESUMABLE)
def test_a_strange_surrounding_changes_nothing(name: str, prepare: Any, given: Path, tmp_path: Path) -> None:
    killing.finish(COMMANDS[name].make(given, tmp_path / "out"), tmp_path / "log", prepare=prepare)
    assert "Traceback" not in (tmp_path / "log").read_text()
    COMMANDS[name].read(tmp_path / "out")
