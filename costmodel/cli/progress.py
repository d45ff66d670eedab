"""What long work of one piece says on stderr: a line a minute, and nothing where it is short or under -q."""

from __future__ import annotations

import threading
import time

from costmodel.cli.common import is_quiet, say

EVERY_S = 60.0
"""Seconds between lines; what takes less says nothing."""


class Working:
    """Says what is being done and for how long, from a thread: the work itself need not come back. A context manager.

    Args:
        text: what is being done.
        every_s: seconds between lines.
        at_once: say what is being done at the start too.
    """

    def __init__(self, text: str, every_s: float | None = None, *, at_once: bool = False) -> None:
        if at_once and not is_quiet():
            say(f"progress: {text}", err=True)
        self._text, self._every_s = text, EVERY_S if every_s is None else every_s
        self._began = time.monotonic()
        self._ended = threading.Event()
        self._thread = None if is_quiet() else threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Working:
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._thread:
            self._thread.join()

    def status(self, text: str) -> None:
        """Say from now on that this is being done."""
        self._text = text

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            say(f"progress: {self._text}, {time.monotonic() - self._began:.0f} s so far", err=True)
