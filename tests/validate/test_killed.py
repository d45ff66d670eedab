"""kill -9 at seeded moments of every command that can be resumed: the union equals an undisturbed run."""

from __future__ import annotations

import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

import killing
from resumable import COMMANDS, Command, make_inputs


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("given"))


def undisturbed(command: Command, given: Path, folder: Path) -> tuple[Any, float]:
    """What an undisturbed run gives, and the seconds that it takes."""
    killing.finish(["--help"], folder / "log")  # the server is loaded after it
    began = time.monotonic()
    killing.finish(command.make(given, folder / "calm"), folder / "log", prepare=command.prepare)
    span = time.monotonic() - began
    return command.read(folder / "calm"), span


def killed_and_resumed(
    command: Command, given: Path, folder: Path, *, kills: int, span: float, seed: int
) -> tuple[Any, int]:
    """What a run gives that was killed so often, at moments drawn over as long as it takes; kills that came in time.

    Args:
        span: seconds; several kills share them, so that each lets the run advance.
    """
    rng, log = random.Random(seed), folder / "log"
    words, came, code = command.make(given, folder / "out"), 0, None
    for _ in range(kills):
        again = command.again if (folder / "out").exists() else ()
        child = killing.start([*words, *again], log, prepare=command.prepare)
        came += killing.kill(child, rng.uniform(0.0, 1.0) * span * min(1.0, 3 / kills))
        code = child.exitcode
        if code == 0:
            break
        assert code == -signal.SIGKILL, log.read_text()[-2000:]
    if code != 0:
        again = command.again if (folder / "out").exists() else ()
        killing.finish([*words, *again], log, prepare=command.prepare)
    return command.read(folder / "out"), came


@pytest.mark.parametrize("name", ["probe", "sensitivity", "quality", "apply"])
def test_a_killed_run_ends_as_an_undisturbed_one(name: str, given: Path, tmp_path: Path) -> None:
    calm, span = undisturbed(COMMANDS[name], given, tmp_path)
    found, _ = killed_and_resumed(COMMANDS[name], given, tmp_path, kills=1, span=span, seed=1)
    assert found == calm


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_runs_killed_25_times_end_as_undisturbed_ones(name: str, given: Path, tmp_path: Path) -> None:
    calm, span = undisturbed(COMMANDS[name], given, tmp_path)
    came, seed = 0, 0
    while came < 25:
        folder = tmp_path / str(seed)
        folder.mkdir()
        found, more = killed_and_resumed(COMMANDS[name], given, folder, kills=9, span=span, seed=seed)
        assert found == calm
        came, seed = came + more, seed + 1
