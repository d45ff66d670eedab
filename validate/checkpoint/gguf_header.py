"""Whether the lists of a GGUF file fit into it: its reader makes as many objects as the file says, however many."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of a value by the number of its type; 8 is a text, 9 a list."""
_TEXT, _LIST = 8, 9


def require_lists_fit(path: Path) -> None:
    """Walk over the metadata of a file, which other readers then decode; the order of its bytes is the file's own.

    Raises:
        ValueError: when a text, a list or the number of tensors or keys is longer than the file, or lists nest.
    """
    with path.open("rb") as stream:
        start = stream.read(24)
        if len(start) < 24 or not start.startswith(b"GGUF"):
            raise ValueError("no header of GGUF")
        order = "<" if struct.unpack("<I", start[4:8])[0] < 1 << 16 else ">"
        tensors, keys = struct.unpack(f"{order}QQ", start[8:])
        walk = _Walk(stream, path.stat().st_size, order)
        walk.require(tensors + keys)
        for _ in range(keys):
            walk.skip(walk.number("Q"))
            walk.value(walk.number("I"))


class _Walk:
    def __init__(self, stream: BinaryIO, size: int, order: str) -> None:
        self._stream, self._size, self._order = stream, size, order

    def require(self, count: int) -> None:
        """Raise unless so many bytes are left."""
        if count > self._size - self._stream.tell():
            raise ValueError(f"{count} values or bytes in what is left of the file")

    def skip(self, count: int) -> None:
        self.require(count)
        self._stream.seek(count, 1)

    def number(self, kind: str) -> int:
        count = struct.calcsize(f"{self._order}{kind}")
        self.require(count)
        (value,) = struct.unpack(f"{self._order}{kind}", self._stream.read(count))
        return int(value)

    def value(self, kind: int) -> None:
        if kind == _TEXT:
            self.skip(self.number("Q"))
        elif kind == _LIST:
            inner, count = self.number("I"), self.number("Q")
            if inner == _TEXT:
                self.require(count)
                for _ in range(count):
                    self.skip(self.number("Q"))
            else:
                self.skip(count * self._size_of(inner))
        else:
            self.skip(self._size_of(kind))

    def _size_of(self, kind: int) -> int:
        if kind not in _SIZES:
            raise ValueError(f"a value of type {kind}")
        return _SIZES[kind]
