"""How records of one kind are kept: a file of JSON lines with a schema version, read strictly. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import msgspec

from validate.errors import RecordError

_ENCODER = msgspec.json.Encoder()


class Identified(Protocol):
    """A record: equal ids mean the same thing measured."""

    @property
    def id(self) -> str:
        """Unique in a file, but for failed records that a later one replaces."""
        ...

    @property
    def status(self) -> str:
        """ok or failed."""
        ...


R = TypeVar("R", bound=Identified)


class Kept(Generic[R]):
    """Records of one file as they count: a later record of the same id takes the place of a failed one.

    Attributes:
        records: in the order in which their ids came first.
    """

    def __init__(self) -> None:
        self.records: list[R] = []
        self._places: dict[str, int] = {}

    def keep(self, record: R) -> bool:
        """Keep one more record; False where there is one of its id already that did not fail."""
        place = self._places.get(record.id)
        replaces = place is not None and self.records[place].status == "failed"
        if place is not None and replaces:
            self.records[place] = record
        else:
            self._places[record.id] = len(self.records)
            self.records.append(record)
        return place is None or replaces


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFormat(Generic[R]):
    """One kind of record.

    Attributes:
        kind: the msgspec type of a line; it has a field `schema`.
        schema: the version that is written and read.
        file: name of the file in a run's folder.
        noun: what messages call a record.
        manual: the page that has the history of the format.
    """

    kind: type[R]
    schema: int
    file: str
    noun: str
    manual: str
    _decoder: msgspec.json.Decoder[R] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_decoder", msgspec.json.Decoder(self.kind))

    def encode(self, record: R) -> bytes:
        """The line of a record, newline included.

        Raises:
            RecordError: when the record could not be read back: a number that is not finite is null in JSON.
        """
        line = _ENCODER.encode(record)
        self.decode(line, f"{self.noun} {record.id}")
        return line + b"\n"

    def decode(self, line: bytes, where: str) -> R:
        """Read one line.

        Raises:
            RecordError: when it is not a record of this kind and version; `where` names it.
        """
        try:
            version = msgspec.json.decode(line, type=dict).get("schema")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RecordError(f"{where}: not a JSON object", hint=str(error)) from error
        if version != self.schema:
            hint = f"written by another version; {self.manual} has the history of the format"
            raise RecordError(f"{where}: schema", value=version, allowed=str(self.schema), hint=hint)
        try:
            return self._decoder.decode(line)
        except msgspec.DecodeError as error:
            raise RecordError(f"{where}: not a {self.noun}", hint=str(error)) from error

    def read(self, paths: Path | Iterable[Path]) -> list[R]:
        """Records of files, or of folders that hold one, in order; a line cut off at the end is left out.

        A failed record that a later one of its file replaces is left out, and that one is in its place.

        Raises:
            RecordError: when a file cannot be read or a line is not a record.
        """
        found: list[R] = []
        for path in [paths] if isinstance(paths, Path) else paths:
            kept = Kept[R]()
            for record in self._read(path):
                kept.keep(record)
            found += kept.records
        return found

    def _read(self, path: Path) -> Iterator[R]:
        file = path / self.file if path.is_dir() else path
        try:
            content = file.read_bytes()
        except OSError as error:
            raise RecordError("cannot read records", value=str(file), hint=error.strerror or str(error)) from error
        complete = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(complete.splitlines(), start=1):
            if line.strip():
                yield self.decode(line, f"{file}:{number}")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the parts of a line; unknown keys are ignored, so that a newer minor writer can be read."""


class Failure(Record, frozen=True, kw_only=True):
    """Why a sample has no measurement."""

    stage: str
    """build, identity, memory, timing, energy: where it happened."""
    kind: str
    """identity, non-finite, out-of-memory, or the exception's name."""
    reason: str
