"""Which stages of a loop are done and what they took; a stage that is done is not done again. No torch."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from costmodel.files.write import write_file
from validate.errors import RecordError
from validate.store.decode import Amount, read_as
from validate.store.record_format import Record

NAME = "stages.json"


class StageRecord(Record, frozen=True, kw_only=True):
    """One stage: wall time over all calls that worked on it, and whether it is done."""

    seconds: Amount = 0.0
    done: bool = False
    note: str = ""


class Stages:
    """The stages of the loop in a folder.

    Args:
        folder: where stages.json is.
        tell: told one line about each stage.

    Raises:
        RecordError: when stages.json is damaged.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self._path, self._tell = folder / NAME, tell
        self._stages: dict[str, StageRecord] = dict(read_stages(folder))

    def run(self, name: str, work: Callable[[], str]) -> None:
        """Do a stage unless it is done; `work` returns a note on what it did. Time counts even if it is cut off."""
        earlier = self._stages.get(name, StageRecord())
        if earlier.done:
            self._tell(f"{name}: kept, {earlier.note}, {_time(earlier.seconds)}")
            return
        start = time.monotonic()
        done, note = False, ""
        try:
            note = work()
            done = True
        finally:
            seconds = earlier.seconds + time.monotonic() - start
            self._stages[name] = StageRecord(seconds=round(seconds, 2), done=done, note=note)
            self._write()
        self._tell(f"{name}: {note}, {_time(seconds)}")

    def done(self, name: str) -> bool:
        """Whether nothing of a stage is left to do."""
        return self._stages.get(name, StageRecord()).done

    def reopen(self, name: str) -> None:
        """Have a stage done again, since more is asked of it; its time counts on."""
        if self.done(name):
            self._stages[name] = msgspec.structs.replace(self._stages[name], done=False)
            self._write()

    def _write(self) -> None:
        content = {key: msgspec.to_builtins(value) for key, value in self._stages.items()}
        write_file(self._path, json.dumps(content, indent=1, allow_nan=False).encode() + b"\n")


def read_stages(folder: Path) -> Mapping[str, StageRecord]:
    """The stages of a folder, none where it has no stages.json.

    Raises:
        RecordError: when the file is damaged.
    """
    path = folder / NAME
    if not path.exists():
        return {}
    return read_as(path, dict[str, StageRecord], "list of a loop's stages", RecordError)


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
