"""Tables of plain text: columns lined up, text that is too wide folded between words, numbers never."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

_GAP = 3
"""Columns of the terminal between two cells."""
_EDGE = 1
"""Columns before the first cell, and after the last."""
_MIN_TEXT = 24
"""Columns that a column of text keeps, if it has as many, however narrow the terminal is."""
_TAB = 8
RULE = "─"
"""What the line under the names is made of."""
_WORD = re.compile(r"\s*\S+\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells under a line of names.

    Attributes:
        columns: names.
        rows: texts, as many in each as there are columns.
        left: so many columns stand flush left, the others flush right.
        caption: below the table, folded to its width; empty for none.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    left: int = 1
    caption: str = ""

    def lines(self, width: int | None) -> Iterator[str]:
        """An empty line, the names, a rule, the rows, another empty line and the caption.

        Args:
            width: of what the table is printed to. Text in columns flush left, but for the first one, folds where the
                table is wider; everything else stays whole and makes lines longer. None: nothing folds.
        """
        cells, widths = self._cells(), self._widths()
        if width is not None:
            widths = self._narrowed(widths, width)
        whole = sum(widths) + _GAP * (len(widths) - 1)
        yield ""
        for number, row in enumerate(cells):
            yield from self._row(row, widths, at_foot=number == 0)
            if number == 0:
                yield " " * _EDGE + RULE * whole
        yield ""
        for line in self.caption.splitlines():
            yield from (part.rstrip() for part in folded(line, whole + 2 * _EDGE))

    def parts(self, width: int) -> list[Table]:
        """The table itself, or where it is wider than `width` several below each other: each has the columns flush left
        and as many of the others as there is room for, at least one; the last has the caption."""
        widths = self._widths()
        places = list(range(self.left))
        least = sum(widths[: self.left]) + _GAP * (self.left - 1) + 2 * _EDGE
        groups: list[list[int]] = [[]]
        used = least
        for place in range(self.left, len(widths)):
            if groups[-1] and used + _GAP + widths[place] > width:
                groups.append([])
                used = least
            groups[-1].append(place)
            used += _GAP + widths[place]
        parts = [self._of([*places, *group]) for group in groups]
        return [*parts[:-1], replace(parts[-1], caption=self.caption)]

    def _of(self, places: Sequence[int]) -> Table:
        """Some of the columns, without the caption."""
        return Table(
            columns=[self.columns[place] for place in places],
            rows=[[row[place] for place in places] for row in self.rows],
            left=self.left,
        )

    def _cells(self) -> list[list[list[str]]]:
        """The lines of each cell, the names' row first."""
        return [[text.expandtabs(_TAB).split("\n") for text in row] for row in (self.columns, *self.rows)]

    def _widths(self) -> list[int]:
        """Columns of the terminal that each column takes unfolded."""
        cells = self._cells()
        return [max(display_width(line) for row in cells for line in row[place]) for place in range(len(self.columns))]

    def _narrowed(self, widths: list[int], width: int) -> list[int]:
        """The widths with the widest columns of text made narrower until the table fits, or none can be."""
        widths = list(widths)
        text = range(1, self.left)
        least = [min(each, _MIN_TEXT) if place in text else each for place, each in enumerate(widths)]
        room = max(width, sum(least) + _GAP * len(least))
        for _ in range(sum(widths) + _GAP * (len(widths) - 1) + 2 * _EDGE - room):
            widths[max(text, key=widths.__getitem__)] -= 1
        return widths

    def _row(self, row: Sequence[Sequence[str]], widths: Sequence[int], at_foot: bool) -> Iterator[str]:
        """The lines of a row; cells of fewer lines stand at its foot or at its head."""
        parts = [
            [piece for line in cell for piece in folded(line, width)] for cell, width in zip(row, widths, strict=True)
        ]
        height = max(map(len, parts))
        for number in range(height):
            placed = []
            for place, (lines, width) in enumerate(zip(parts, widths, strict=True)):
                index = number - (height - len(lines) if at_foot else 0)
                text = lines[index] if 0 <= index < len(lines) else ""
                placed.append(_padded(text, width, place < self.left))
            yield (" " * _EDGE + (" " * _GAP).join(placed)).rstrip()


def folded(text: str, width: int) -> list[str]:
    """The text in lines of at most `width`, parted between words; one that is longer than a line after its commas, and
    what is longer still anywhere."""
    if display_width(text) <= width:
        return [text]
    lines = [""]
    used = 0
    for word in _WORD.findall(text):
        length = display_width(word.rstrip())
        if length <= width - used:
            lines[-1] += word
        elif length <= width:
            lines.append(word)
            used = 0
        else:
            pieces = _parted(word, width)
            lines = [*lines, *pieces] if lines[-1] else [*lines[:-1], *pieces]
            word, used = pieces[-1], 0
        used += display_width(word)
    return [line.rstrip() for line in lines]


def _parted(word: str, width: int) -> list[str]:
    """A word in pieces no wider than a line that end after commas, but for names that are wider themselves."""
    pieces = [""]
    for part in re.findall(r"[^,]*,|[^,]+", word):
        if display_width(pieces[-1]) + display_width(part.rstrip()) <= width:
            pieces[-1] += part
        else:
            more = [part] if display_width(part.rstrip()) <= width else _chopped(part, width)
            pieces = [*pieces, *more] if pieces[-1] else more
    return pieces


def _chopped(word: str, width: int) -> list[str]:
    """A word in pieces as wide as a line."""
    pieces, used = [""], 0
    for letter in word:
        size = display_width(letter)
        if used + size > width:
            pieces.append("")
            used = 0
        pieces[-1] += letter
        used += size
    return pieces


def display_width(text: str) -> int:
    """Columns of a terminal that a text takes: two for each wide letter, none for a mark on the one before it."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(letter) else 1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text
    )


def _padded(text: str, width: int, left: bool) -> str:
    space = " " * (width - display_width(text))
    return text + space if left else space + text
