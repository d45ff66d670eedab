"""A command in a process of its own ends with the one that started it, however that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from validate.choose.child import run_validate
from validate.errors import RunError

CHILD = "import time; from validate.choose.child import end_with_parent; end_with_parent(); print(1); time.sleep(60)"
PARENT = f"""
import os, subprocess, sys
child = subprocess.Popen(
    [sys.executable, "-uc", {CHILD!r}],
    env={{**os.environ, "VALIDATE_PARENT": str(os.getpid())}},
    stdout=subprocess.PIPE,
)
child.stdout.readline()
print(child.pid, flush=True)
child.wait()
"""


def is_running(process: int) -> bool:
    try:
        with open(f"/proc/{process}/stat") as stream:
            return stream.read().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process of its parent's end")
def test_a_command_is_killed_with_the_process_that_started_it() -> None:
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert is_running(child)
    os.kill(parent.pid, signal.SIGKILL)
    parent.wait()
    parent.stdout.close()
    began = time.monotonic()
    while is_running(child):
        assert time.monotonic() - began < 30
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform != "linux", reason="Linux tells a process of its parent's end")
def test_a_command_whose_starter_is_gone_does_not_begin() -> None:
    environment = {**os.environ, "VALIDATE_PARENT": "1"}
    done = subprocess.run([sys.executable, "-c", CHILD], env=environment, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"")


def test_progress_of_a_command_is_passed_on_and_the_error_is_its_last_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "fake"
    fake.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "print('table')\n"
        "print('note: a', 'progress: measuring, 1 of 2', 'error: b', 'progress: late', sep='\\n', file=sys.stderr)\n"
        "sys.exit(2)\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(fake))
    heard: list[str] = []
    with pytest.raises(RunError, match=r"`validate fit` failed; b$"):
        run_validate(["fit"], tmp_path / "log.txt", heard.append)
    assert heard == ["progress: measuring, 1 of 2", "progress: late"]
    assert (tmp_path / "log.txt").read_text() == "table\n"
