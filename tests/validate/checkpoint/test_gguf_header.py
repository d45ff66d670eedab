"""Headers of GGUF files that say more than the file holds are refused before anything is made of them."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

pytest.importorskip("torch")

from validate.checkpoint.gguf_header import require_lists_fit


def header(tensors: int = 0, keys: int = 0, order: str = "<") -> bytes:
    return b"GGUF" + struct.pack(f"{order}IQQ", 3, tensors, keys)


def key(kind: int, value: bytes, order: str = "<") -> bytes:
    return struct.pack(f"{order}Q", 1) + b"a" + struct.pack(f"{order}I", kind) + value


TEXTS = key(9, struct.pack("<IQQ", 8, 1, 3) + b"abc")
NUMBERS = key(9, struct.pack("<IQ4I", 4, 4, 1, 2, 3, 4))


@pytest.mark.parametrize(
    "content",
    [
        header(),
        header(keys=3) + key(4, b"\0" * 4) + TEXTS + NUMBERS,
        header(keys=1) + key(8, struct.pack("<Q", 2) + b"xy"),
        header(keys=1, order=">") + key(12, b"\0" * 8, ">"),
    ],
)
def test_what_fits_is_let_pass(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    require_lists_fit(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"GGUF",
        b"PNG!" + b"\0" * 40,
        header(tensors=2**63, keys=2**63),
        header(keys=10**9) + b"\0" * 64,
        header(keys=1) + struct.pack("<Q", 2**62) + b"a",
        header(keys=1) + key(9, struct.pack("<IQ", 4, 2**60)),
        header(keys=1) + key(9, struct.pack("<IQ", 8, 2**60)),
        header(keys=1) + key(9, struct.pack("<IQ", 9, 1) * 2000),
        header(keys=1) + key(77, b"\0" * 16),
        header(keys=1) + key(8, struct.pack("<Q", 99) + b"xy"),
    ],
)
def test_what_says_more_than_it_holds_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"header|left of the file|of type"):
        require_lists_fit(path)
