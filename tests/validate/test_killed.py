"""kill -9 at seeded moments of every command that can be resumed: the union equals an undisturbed run."""

from __future__ import annotations

import random
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


def killed_and_resumed(command: Command, given: Path, folder: Path, kills: int, seed: int) -> tuple[Any, Any, int]:
    """What an undisturbed run gives, what one gives that was killed so often, and how many kills came in time.

    Moments are drawn over the time that is left: each kill lets the run advance.
    """
    rng, log = random.Random(seed), folder / "log"
    killing.finish(["--help"], log)  # the server is loaded after it
    began = time.monotonic()
    killing.finish(command.make(given, folder / "calm"), log, prepare=command.prepare)
    span = time.monotonic() - began
    words, came = command.make(given, folder / "out"), 0
    for _ in range(kills):
        again = command.again if (folder / "out").exists() else ()
        child = killing.start([*words, *again], log, prepare=command.prepare)
        came += killing.kill(child, rng.uniform(0.0, 1.0) * span)
        if child.exitcode == 0:
            break
        assert child.exitcode < 0, log.read_text()[-2000:]
    if not (came < kills and child.exitcode == 0):
        again = command.again if (folder / "out").exists() else ()
        killing.finish([*words, *again], log, prepare=command.prepare)
    return command.read(folder / "calm"), command.read(folder / "out"), came


@pytest.mark.parametrize("name", ["probe", "sensitivity", "quality", "apply"])
def test_a_killed_run_ends_as_an_undisturbed_one(name: str, given: Path, tmp_path: Path) -> None:
    calm, found, _ = killed_and_resumed(COMMANDS[name], given, tmp_path, kills=1, seed=1)
    assert found == calm


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_runs_killed_25_times_end_as_undisturbed_ones(name: str, given: Path, tmp_path: Path) -> None:
    came, seed = 0, 0
    while came < 25:
        folder = tmp_path / str(seed)
        folder.mkdir()
        calm, found, more = killed_and_resumed(COMMANDS[name], given, folder, kills=5, seed=seed)
        assert found == calm
        came, seed = came + more, seed + 1
