"""A value of a file with its place: typed, bounded access whose errors name file, key, value and what is allowed."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from costmodel.errors import CostModelError

if TYPE_CHECKING:
    from costmodel.arrays import Floats

LARGE = 1e30
"""Bound of numbers that have no bound of their own."""
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal would obey; line feeds and tabs are text."""

S = TypeVar("S", bound=str)


@dataclass(frozen=True, slots=True)
class Node:
    """A decoded value of JSON or TOML, and where it stands.

    Every method raises an error of class `error` in one line.

    Attributes:
        file: what messages call the file, usually its path.
        value: as decoded.
        error: the class to raise.
        key: dotted, with indices of lists: `entries[3].rank`; empty for the whole content.
    """

    file: str
    value: object
    error: type[CostModelError]
    key: str = ""

    def wrong(self, allowed: str, hint: str = "") -> CostModelError:
        """The error about this value."""
        return self.error(f"{self.file}: {self.key or 'content'}", value=self.value, allowed=allowed, hint=hint)

    def entries(self, required: Iterable[str] = (), *, hint: str = "") -> dict[str, Node]:
        """The entries of an object, which has at least the keys `required`; the hint is for who forgot one."""
        if not isinstance(self.value, dict):
            raise self.wrong("an object")
        prefix = f"{self.key}." if self.key else ""
        for name in required:
            if name not in self.value:
                raise self.error(f"{self.file}: {prefix}{name} is missing", hint=hint)
        return {name: Node(self.file, child, self.error, f"{prefix}{name}") for name, child in self.value.items()}

    def table(self, required: Iterable[str], optional: Iterable[str] = (), *, hint: str = "") -> dict[str, Node]:
        """The entries of an object that has all keys of `required`, perhaps some of `optional`, and no others."""
        required, known = list(required), dict.fromkeys([*required, *optional])
        entries = self.entries()
        for name in entries:
            if name not in known:
                place = f"unknown key in {self.key or 'the file'}"
                raise self.error(f"{self.file}: {place}", value=name, allowed=", ".join(known))
        return self.entries(required, hint=hint)

    def items(self, least: int = 0) -> list[Node]:
        """The entries of a list of at least `least`."""
        if not isinstance(self.value, list):
            raise self.wrong("a list")
        if len(self.value) < least:
            raise self.wrong(f"at least {'one' if least == 1 else least}")
        return [Node(self.file, child, self.error, f"{self.key}[{index}]") for index, child in enumerate(self.value)]

    def text(self) -> str:
        """A text that is not blank and that a terminal can show."""
        if not isinstance(self.value, str) or not self.value.strip() or _CONTROL.search(self.value):
            raise self.wrong("a text, without control characters")
        return self.value

    def choice(self, choices: Collection[S]) -> S:
        """The one of `choices` that the text is."""
        for choice in choices:
            if self.value == choice:
                return choice
        raise self.wrong(", ".join(choices))

    def flag(self) -> bool:
        """True or false."""
        if not isinstance(self.value, bool):
            raise self.wrong("true or false")
        return self.value

    def number(self, low: float = -LARGE, high: float = LARGE) -> float:
        """A number within [low, high]."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not low <= self.value <= high:
            raise self.wrong(f"a number from {low:g} to {high:g}")
        return float(self.value)

    def integer(self, low: int, high: int) -> int:
        """A whole number within [low, high]."""
        if type(self.value) is not int or not low <= self.value <= high:
            raise self.wrong(f"a whole number from {low:,} to {high:,}")
        return self.value

    def array(self, shape: tuple[int | None, ...], low: float = -LARGE, high: float = LARGE) -> Floats:
        """Nested lists of numbers within [low, high] as float64; None in `shape` leaves a length open."""
        import numpy as np  # on use: profiles and configurations have no arrays and are read without it

        wanted = " x ".join("any" if size is None else str(size) for size in shape)
        allowed = f"numbers from {low:g} to {high:g}, {wanted}"
        parts, lengths = [self.value], []
        for size in shape:
            lists = [part for part in parts if isinstance(part, list)]
            here = {len(part) for part in lists}
            if len(lists) < len(parts) or len(here) > 1 or size not in (None, *here):
                raise self.wrong(allowed)
            parts = [child for part in lists for child in part]
            lengths.append(max(here, default=0))
        if not set(map(type, parts)) <= {int, float}:
            raise self.wrong(allowed)
        try:
            array = np.array(parts, dtype=np.float64).reshape(lengths)
        except OverflowError:
            raise self.wrong(allowed) from None
        if not ((array >= low) & (array <= high)).all():
            raise self.wrong(allowed)
        return array
