"""What every command that measures says before it begins."""

from __future__ import annotations

from typing import Any

from costmodel.cli.common import say
from validate.devices.threads import pin_threads, quota_note, waiting_note
from validate.store.journal import Journal


def pin_and_warn(threads: int | None, device: str) -> int:
    """See `pin_threads`; warns where the environment or a quota spoils times on a CPU."""
    used = pin_threads(threads)
    for note in (waiting_note(used), quota_note(used)) if device != "cuda" else ():
        if note:
            say(f"warning: {note}", err=True)
    return used


def note_repaired(journal: Journal[Any]) -> None:
    """Say so where the last line of an earlier run was only half written."""
    if journal.repaired_bytes:
        say(f"note: cut off a half-written record of {journal.repaired_bytes} bytes", err=True)
