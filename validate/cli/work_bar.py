"""Progress of one long piece of work on stderr: what is being done, the share done, and the time left."""

from __future__ import annotations

import sys


class WorkBar:
    """A transient bar on stderr; nothing where no terminal is. A context manager."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            Progress,
            SpinnerColumn,
            TaskProgressColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(),
                   TimeRemainingColumn()]  # fmt: skip
        self._bar = Progress(
            *columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty(),
            speed_estimate_period=3600,  # one step may take minutes
        )  # fmt: skip
        self._task = self._bar.add_task("starting", total=None)

    def __enter__(self) -> WorkBar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def show(self, text: str, done: float, total: float) -> None:
        """Say what is being done, and how much of the work is done; a total of 0 is one not known yet."""
        self._bar.update(self._task, description=text, completed=done, total=total or None)
