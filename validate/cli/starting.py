"""What every command that measures says before it begins."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

from costmodel.cli.common import say
from validate.devices.threads import pin_threads, quota_note, waiting_note
from validate.store.journal import Journal
from validate.store.settings import NAME, earlier_settings


def pin_and_warn(threads: int | None, device: str) -> int:
    """See `pin_threads`; warns where the environment or a quota spoils times on a CPU."""
    used = pin_threads(threads)
    for note in (waiting_note(used), quota_note(used)) if device != "cuda" else ():
        if note:
            say(f"warning: {note}", err=True)
    return used


def settings_to_resume(folder: Path, given: Collection[str], name: str = NAME) -> dict[str, Any] | None:
    """The settings of the run that `--resume` continues; without one a run is started, and a line says so, where other
    options say what to run: a script repeats one command until all is measured.

    Raises:
        InputError: when there is none, and nothing says what to run instead.
    """
    earlier = earlier_settings(folder, given, name)
    if earlier is None:
        say(f"note: {folder} holds no run to resume; one is started", err=True)
    return earlier


def note_repaired(journal: Journal[Any]) -> None:
    """Say so where the last line of an earlier run was only half written."""
    if journal.repaired_bytes:
        say(f"note: cut off a half-written record of {journal.repaired_bytes} bytes", err=True)
