"""Progress of a run on stderr: what is being done, how many are done and failed, and the time left."""

from __future__ import annotations

import sys
from typing import Any


class RunProgress:
    """A transient bar on stderr with the records made, those failed, and the time left; nothing where no terminal is.

    Args:
        noun: what a record is called.
    """

    def __init__(self, noun: str = "sample") -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = [SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
                   TimeRemainingColumn()]  # fmt: skip
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty())
        self._task = self._bar.add_task("starting", total=None)
        self._noun, self._failed = noun, 0

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def status(self, text: str) -> None:
        """Say what is being done."""
        self._bar.update(self._task, description=text)

    def start(self, total: int, done: int) -> None:
        """Count to `total` from the records that are there."""
        self._bar.reset(self._task, total=total, completed=done, description="measuring")

    def advance(self, record: Any) -> None:
        """Count a record, and print the reason of a failed one."""
        self._failed += record.status != "ok"
        text = f"measuring, {self._failed} failed" if self._failed else "measuring"
        self._bar.update(self._task, advance=1, description=text)
        if record.failure is not None:
            self._bar.console.print(
                f"{self._noun} {record.index} failed: {record.failure.reason}", highlight=False, soft_wrap=True
            )
