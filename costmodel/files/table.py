"""CSV and Parquet as users hand them in: columns by name, read with one strictness.

Refused in one line that names the file: what is not UTF-8 or not the format, a cell beyond 131,072 characters, a row
with more or fewer cells than there are columns, and a column's name that comes twice.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from costmodel.errors import CostModelError
from costmodel.files.node import LARGE, Node
from costmodel.files.open import open_file

if TYPE_CHECKING:
    from costmodel.arrays import Floats

_LONGEST = 16 * 10**6
"""Letters of a line of CSV."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Columns of one length, as they were read.

    Attributes:
        file: what messages call the file, usually its path.
        columns: name -> values: texts of a CSV file, whatever a Parquet file holds.
        error: the class to raise.
    """

    file: str
    columns: Mapping[str, Sequence[object]]
    error: type[CostModelError]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values()), ()))

    def require(self, names: Sequence[str], least: int = 1) -> None:
        """Raise unless there are all columns of `names`, and at least `least` rows."""
        if missing := [name for name in names if name not in self.columns]:
            raise self.error(f"{self.file}: no column {missing[0]}", allowed=", ".join(names))
        if len(self) < least:
            raise self.error(f"{self.file}: no rows")

    def cell(self, name: str, row: int) -> Node:
        """One value and its place; rows count from 0 here and from 1 in messages."""
        return Node(self.file, self.columns[name][row], self.error, f"{name} in row {row + 1}")

    def numbers(self, name: str, low: float = -LARGE, high: float = LARGE, *, whole: bool = False) -> Floats:
        """A column as float64, all of it within [low, high] and, with `whole`, without fractions."""
        import numpy as np  # on use, as in `Node.array`

        values = self.columns[name]
        try:
            numbers = np.fromiter(map(float, values), dtype=np.float64, count=len(values))  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError):
            numbers = np.array([_number(value) for value in values], dtype=np.float64)
        good = (numbers >= low) & (numbers <= high)
        if whole:
            good &= numbers == np.floor(numbers)
        kinds = set(map(type, values))
        if bool in kinds:
            good &= np.array([not isinstance(value, bool) for value in values])
        if str in kinds and not is_plain("".join(value for value in values if isinstance(value, str))):
            good &= np.array([not isinstance(value, str) or is_plain(value) for value in values])
        if not good.all():
            kind = "a whole number" if whole else "a number"
            raise self.cell(name, int((~good).argmax())).wrong(f"{kind} from {_shown(low)} to {_shown(high)}")
        return numbers


def read_table(path: Path, error: type[CostModelError]) -> Table:
    """A .parquet file, or any other as CSV with a header line; empty lines are passed over.

    Raises:
        CostModelError: of class `error`, when the file cannot be read or is refused for what this module's first lines
            say.
    """
    columns = _read_parquet(path, error) if path.suffix.lower() == ".parquet" else _read_csv(path, error)
    return Table(file=str(path), columns=columns, error=error)


def _read_csv(path: Path, error: type[CostModelError]) -> dict[str, Sequence[object]]:
    values: list[str] = []  # of all rows one after the other: a list per row would take three times as long to keep
    try:
        with io.TextIOWrapper(open_file(path), encoding="utf-8-sig", newline="") as stream:
            rows = (row for row in csv.reader(_lines(stream)) if row)
            names = [name.strip() for name in next(rows, [])]
            _require_distinct(names, path, error)
            for row in rows:
                if len(row) != len(names):
                    where = f"{path}: values in row {len(values) // len(names) + 1}"
                    raise error(where, value=len(row), allowed=str(len(names)))
                values += row
    except (OSError, ValueError, csv.Error) as cause:  # ValueError: not UTF-8, or a NUL byte in the name
        raise error(f"{path}: cannot read as CSV", hint=getattr(cause, "strerror", None) or str(cause)) from cause
    return {name: values[place :: len(names)] for place, name in enumerate(names)}


def _lines(stream: TextIO) -> Iterator[str]:
    """Lines of a text, none of which is so long that it is no table: a device may have no end."""
    while line := stream.readline(_LONGEST):
        if len(line) == _LONGEST:
            raise ValueError(f"a line of more than {_LONGEST:,} letters")
        yield line


def _read_parquet(path: Path, error: type[CostModelError]) -> dict[str, Sequence[object]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        hint = "pip install -c constraints.txt '.[parquet]' in the checkout, or convert it to CSV"
        raise error(f"{path}: reading Parquet needs pyarrow", hint=hint) from None
    try:
        with open_file(path) as stream:  # a path itself may be a folder, and its parts become columns
            table = pyarrow.parquet.ParquetFile(stream).read(use_threads=False)
        _require_distinct(table.column_names, path, error)
        return {name: table[name].to_pylist() for name in table.column_names}
    except (
        OSError,
        ValueError,
        ArithmeticError,
        LookupError,
        pyarrow.ArrowException,
    ) as cause:  # LookupError: a time zone
        raise error(f"{path}: cannot read as Parquet", hint=getattr(cause, "strerror", None) or str(cause)) from cause


def _require_distinct(names: Sequence[str], path: Path, error: type[CostModelError]) -> None:
    if len(set(names)) != len(names):
        raise error(f"{path}: a column's name comes twice", value=", ".join(names))


def is_plain(text: str) -> bool:
    """Whether a number is written as every program reads it: Python alone takes `1_000` and digits of other scripts."""
    return text.isascii() and "_" not in text


def _number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return float("nan")


def _shown(bound: float) -> str:
    return f"{bound:,.0f}" if bound == int(bound) and abs(bound) < 1e12 else f"{bound:g}"
