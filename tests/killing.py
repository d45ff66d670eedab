"""Commands in processes that can be killed at any moment, started in a fraction of a second: torch is loaded once."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PRELOADED = (
    "torch",
    "safetensors.torch",
    "tensorly",
    "scipy.stats",
    "transformers.models.llama.modeling_llama",
    "validate.cli.apply",
    "validate.cli.choose",
    "validate.cli.measure",
    "validate.cli.probe",
    "validate.cli.quality",
    "validate.cli.sensitivity",
    "validate.checkpoint.write",
    "validate.quality.opening",
    "validate.speed.runner",
)
"""What the commands import. One list for all tests, whose processes a worker of pytest forks from one server."""


def forking() -> Any:
    """Makes processes by forking one that has only imported: one in which torch has threads may wait for ever."""
    context: Any = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context


def start(arguments: Sequence[str], log: Path, *, prepare: Callable[[], None] | None = None) -> Any:
    """`validate ARGUMENTS` in a process of its own.

    Args:
        log: what it prints goes here.
        prepare: called before the command, in that process.
    """
    child = forking().Process(target=_run, args=(list(arguments), str(log), prepare))
    child.start()
    return child


def finish(arguments: Sequence[str], log: Path, *, prepare: Callable[[], None] | None = None) -> None:
    """Run a command to its end, which must be a good one."""
    child = start(arguments, log, prepare=prepare)
    child.join()
    assert child.exitcode == 0, log.read_text()[-2000:]


def kill(child: Any, after: float) -> bool:
    """SIGKILL after some seconds; whether it came before the end."""
    child.join(after)
    if child.exitcode is None:
        os.kill(child.pid, signal.SIGKILL)
        child.join()
    return bool(child.exitcode == -signal.SIGKILL)


def _run(arguments: list[str], log: str, prepare: Callable[[], None] | None) -> None:
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    sys.stdout, sys.stderr = (os.fdopen(os.dup(fd), "w", buffering=1) for fd in (1, 2))
    from costmodel.cli import run
    from validate.cli import cli

    if prepare is not None:
        prepare()
    os._exit(int(run(cli, arguments)))


def known_times() -> None:
    """Make a probe's times a function of the work alone."""
    from validate.probes.microbench import Microbench

    def times(self: Any, op: tuple[str, tuple[int, ...]]) -> list[float]:
        return [1e-6 + math.prod(op[1]) / 1e11] * 3

    Microbench.times = times  # type: ignore[method-assign,assignment]


def other_weights() -> None:
    """The command takes its checkpoint to be another than the one that is there, as on a node with an older copy."""
    from validate.cli import measure
    from validate.quality import job

    for module in (measure, job):
        module.checkpoint_sha256 = lambda folder: 64 * "0"  # type: ignore[attr-defined]


def stop_when_locked() -> None:
    """The process stops itself (SIGCONT continues it) as soon as it has locked its folder."""
    from validate.store.lock import FolderLock

    made = FolderLock.__init__

    def stopping(self: FolderLock, lock: Any) -> None:
        made(self, lock)
        FolderLock.__init__ = made  # type: ignore[method-assign]
        os.kill(os.getpid(), signal.SIGSTOP)

    FolderLock.__init__ = stopping  # type: ignore[method-assign]


def full_disk() -> None:
    """Let no file grow beyond 15 kB, as if the disk were full then."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000))


def no_reader() -> None:
    """Nobody reads what the command prints."""
    reader, writer = os.pipe()
    os.close(reader)
    os.dup2(writer, 1)


def bare_environment() -> None:
    """No HOME, an ASCII terminal of 20 columns."""
    for name in ("HOME", "USER", "LANG", "TERM", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"):
        os.environ.pop(name, None)
    os.environ |= {"LC_ALL": "C", "COLUMNS": "20"}
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="ascii", errors="strict")  # type: ignore[union-attr]
