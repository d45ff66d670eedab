"""The rows of all families by model_type, each imported when a model of its family is first asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping

from costmodel.families.row import FamilyRow

_PACKAGE = "costmodel.families"


class Rows(Mapping[str, FamilyRow]):
    """model_type -> the row that reads it, in the order of the lines.

    Args:
        lines: `module:NAME` of each row, a module of this folder beginning with a dot -> the model_types that it reads,
            parted by spaces.

    Raises:
        ValueError: when two lines have one type; on first use, when a row does not read the types of its line.
    """

    def __init__(self, lines: Mapping[str, str]) -> None:
        self.lines = dict(lines)
        self._line_of: dict[str, str] = {}
        for line, types in self.lines.items():
            for model_type in types.split():
                if model_type in self._line_of:
                    raise ValueError(f"{self._line_of[model_type]} and {line} both read model_type {model_type}")
                self._line_of[model_type] = line
        self._loaded: dict[str, FamilyRow] = {}

    def __getitem__(self, model_type: str) -> FamilyRow:
        return self._row(self._line_of[model_type])

    def __iter__(self) -> Iterator[str]:
        return iter(self._line_of)

    def __len__(self) -> int:
        return len(self._line_of)

    def __contains__(self, model_type: object) -> bool:
        return model_type in self._line_of

    def all(self) -> tuple[FamilyRow, ...]:
        """Every row, once.

        Raises:
            ValueError: when two rows have one name.
        """
        rows = tuple(map(self._row, self.lines))
        if len({row.name for row in rows}) < len(rows):
            raise ValueError(f"two families of one name: {', '.join(row.name for row in rows)}")
        return rows

    def _row(self, line: str) -> FamilyRow:
        if line not in self._loaded:
            module, _, name = line.partition(":")
            row = getattr(importlib.import_module(module, _PACKAGE), name)
            if not isinstance(row, FamilyRow) or list(row.classes) != self.lines[line].split():
                raise ValueError(f"{line} is no row of the model_types {self.lines[line]}")
            self._loaded[line] = row
        return self._loaded[line]
