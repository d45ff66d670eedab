"""How records of one kind are kept: a file of JSON lines with a schema version, read strictly. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import msgspec

from costmodel.errors import CostModelError
from costmodel.files.node import Node
from costmodel.files.open import open_file
from costmodel.files.read import decode_json
from validate.errors import RecordError
from validate.store.decode import convert_to

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
        settings: name of the file beside it that keeps what its records share.
        noun: what messages call a record.
        manual: the page that has the history of the format.
        check: raises CostModelError where a record's values do not go together.
    """

    kind: type[R]
    schema: int
    file: str
    settings: str
    noun: str
    manual: str
    check: Callable[[R], None] = lambda record: None

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
            text = line.decode()
        except UnicodeDecodeError as error:
            raise RecordError(f"{where}: {self.noun} is not UTF-8 text, from byte {error.start} on") from error
        content = decode_json(text, where, self.noun, RecordError)
        if not isinstance(content, dict):
            raise RecordError(f"{where}: not a JSON object", value=content)
        version = content.get("schema")
        if type(version) is not int or version != self.schema:
            hint = f"written by another version; {self.manual} has the history of the format"
            raise RecordError(f"{where}: schema", value=version, allowed=str(self.schema), hint=hint)
        record = convert_to(content, self.kind, where, self.noun, RecordError)
        try:
            self.check(record)
        except CostModelError as error:
            raise RecordError(f"{where}: {error}") from error
        return record

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
            with open_file(file) as stream:
                content = stream.read()
        except OSError as error:
            raise RecordError("cannot read records", value=str(file), hint=error.strerror or str(error)) from error
        complete = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(complete.splitlines(), start=1):
            if line.strip():
                yield self.decode(line, f"{file}:{number}")


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """Base of the parts of a line; unknown keys are ignored, so that a newer minor writer can be read."""


def device_of(environment: Mapping[str, Any]) -> tuple[str, str, int]:
    """Name and kind of the device that a record was made on, and threads.

    Raises:
        RecordError: when the environment says it in another way.
    """
    part = Node("environment", dict(environment), RecordError).entries()
    device = part["device"].entries() if "device" in part else {}
    name, kind = (device[key].text() if key in device else "" for key in ("name", "kind"))
    return name or "unknown device", kind, part["threads"].integer(1, 1 << 20) if "threads" in part else 1


WORKER = "worker"
"""The stage of a failure that is not the sample's own: the processes on a cluster that were to measure it died."""


class Failure(Record, frozen=True, kw_only=True):
    """Why a sample has no measurement."""

    stage: str
    """build, identity, memory, timing, energy: where it happened."""
    kind: str
    """identity, non-finite, out-of-memory, or the exception's name."""
    reason: str
