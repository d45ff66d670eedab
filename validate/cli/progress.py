"""Progress on stderr: of a run that leaves records, and of one long piece of work: a bar, and where no terminal is a
line now and then, the first one before torch is loaded, but not under -q."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from costmodel.cli.common import is_quiet, say
from costmodel.cli.progress import EVERY_S
from costmodel.files.cells import shown

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

LOADING = "loading torch and transformers"
"""What takes seconds before the first piece of work."""


def is_loading(text: str) -> bool:
    """Whether this is what takes seconds, and is not behind this process already."""
    return text == LOADING and "torch" not in sys.modules


def make_bar(*columns: str | ProgressColumn, **options: Any) -> Progress:
    """A transient bar on stderr, which draws nothing where no terminal is; its console prints lines above it.

    Args:
        columns: as rich has them.
        options: further ones of rich's `Progress`.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    return Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty(), **options)


class Lines:
    """What a bar would show, as a line every EVERY_S where stderr is no terminal, and before torch is loaded.

    Args:
        clock: seconds, of any origin.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = clock() + EVERY_S

    def tell(self, text: str, done: float, total: float | None) -> None:
        """Say what is being done, if it is time to."""
        now = self._clock()
        if sys.stderr.isatty() or is_quiet() or (now < self._next and not is_loading(text)):
            return
        self._next = now + EVERY_S
        counts = all(float(value).is_integer() for value in (done, total or 0))
        share = "" if not total else f", {done:,.0f} of {total:,.0f}" if counts else f", {100 * done / total:.0f} %"
        say(f"progress: {text}{share}", err=True)


class RunProgress:
    """The records made, those failed, and the time left. A context manager.

    Args:
        noun: what a record is called.
    """

    def __init__(self, noun: str = "sample") -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TimeRemainingColumn

        self._bar = make_bar(SpinnerColumn(), _description(), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._task = self._bar.add_task("starting", total=None)
        self._noun, self._failed = noun, 0
        self._lines = Lines()

    def __enter__(self) -> RunProgress:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def status(self, text: str) -> None:
        """Say what is being done."""
        self._update(description=shown(text))

    def start(self, total: int, done: int) -> None:
        """Count to `total` from the records that are there."""
        self._bar.reset(self._task, total=total, completed=done, description="measuring")

    def advance(self, record: Any) -> None:
        """Count a record, and print the reason of a failed one."""
        self._failed += record.status != "ok"
        text = f"measuring, {self._failed} failed" if self._failed else "measuring"
        self._update(advance=1, description=shown(text))
        if record.failure is not None:
            self.note(f"{self._noun} {record.index} failed: {record.failure.reason}")

    def note(self, text: str) -> None:
        """Print a line above the bar; a note not under -q."""
        if is_quiet() and text.startswith("note: "):
            return
        self._bar.console.print(shown(text), markup=False, highlight=False, soft_wrap=True)

    def _update(self, **values: Any) -> None:
        _update(self._bar, self._task, self._lines, values)


class WorkBar:
    """What is being done, the share done, and the time left. A context manager."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, SpinnerColumn, TaskProgressColumn, TimeRemainingColumn

        self._bar = make_bar(
            SpinnerColumn(),
            _description(),
            BarColumn(),
            TaskProgressColumn(),
            TimeRemainingColumn(),
            speed_estimate_period=3600,
        )  # one step may take minutes
        self._task = self._bar.add_task("starting", total=None)
        self._lines = Lines()

    def __enter__(self) -> WorkBar:
        self._bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.stop()

    def show(self, text: str, done: float, total: float) -> None:
        """Say what is being done, and how much of the work is done; a total of 0 is one not known yet."""
        self._update(description=shown(text), completed=done, total=total or None)

    def status(self, text: str) -> None:
        """Say what is being done; as much of the work is done as before."""
        self._update(description=shown(text))

    def count(self, done: int, total: int) -> None:
        """How much is done; with another total the time left is estimated anew."""
        if self._bar.tasks[self._task].total != total:
            self._bar.reset(self._task, total=total, completed=done)
        self._update(completed=done)

    def _update(self, **values: Any) -> None:
        _update(self._bar, self._task, self._lines, values)


def _update(bar: Progress, task: TaskID, lines: Lines, values: dict[str, Any]) -> None:
    """Change what a bar shows, and say it in a line where it is time to."""
    bar.update(task, **values)
    now = bar.tasks[task]
    lines.tell(now.description, now.completed, now.total)


def _description() -> ProgressColumn:
    """What is being done, as it is: names may look like rich's markup."""
    from rich.progress import TextColumn

    return TextColumn("{task.description}", markup=False)
