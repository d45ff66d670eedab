"""A `validate` command in a process of its own, which does not outlive the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from validate.errors import RunError

_PARENT = "VALIDATE_PARENT"
"""Names the process that a command ends with, in its environment."""
_ON_PARENTS_DEATH = 1
"""PR_SET_PDEATHSIG of Linux's prctl."""


def run_validate(words: Sequence[str], log: Path, heard: Callable[[str], None]) -> None:
    """Run a command; what it prints goes to `log`, its progress to the terminal.

    Args:
        words: after `validate`.
        log: file for its standard output.
        heard: told each line of progress, as it is written, where stderr is no terminal.

    Raises:
        RunError: when it fails, with the last line that it wrote to stderr.
        KeyboardInterrupt: when it was interrupted.
    """
    terminal = os.isatty(2)
    with (
        log.open("w", encoding="utf-8") as stream,
        subprocess.Popen(
            [sys.executable, "-m", "validate", *words],
            stdout=stream,
            stderr=None if terminal else subprocess.PIPE,
            text=True,
            env={**os.environ, _PARENT: str(os.getpid())},
        ) as process,
    ):
        try:
            errors = [line for line in process.stderr or () if not _is_progress(line, heard)]
            process.wait()
        except BaseException:
            process.terminate()  # it closes its records and leaves
            process.wait()
            raise
    if process.returncode == 130:
        raise KeyboardInterrupt
    if process.returncode:
        last = ("".join(errors).strip() or "see above").splitlines()[-1].removeprefix("error: ")
        raise RunError(f"`validate {words[0]}` failed" if words[0][0] != "-" else "measuring latency failed", hint=last)


def _is_progress(line: str, heard: Callable[[str], None]) -> bool:
    """Whether a line of stderr is one of progress, which is passed on."""
    if found := line.startswith("progress: "):
        heard(line.rstrip("\n"))
    return found


def end_with_parent() -> None:
    """In a process of `run_validate`: be killed when the one that started it is, or it would hold the folder's lock
    against the next run, and a core against what that measures. Records survive it. On Linux alone."""
    parent = os.environ.pop(_PARENT, None)
    if parent is None or sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_ON_PARENTS_DEATH, signal.SIGKILL)
    if str(os.getppid()) != parent:  # it was gone before
        os.kill(os.getpid(), signal.SIGKILL)
