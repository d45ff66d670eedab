"""Two halves of a text: what is chosen on one is judged on the other. No torch."""

from __future__ import annotations

import itertools
from pathlib import Path

from costmodel.cli.common import write_file
from costmodel.errors import InputError
from validate.quality.job import TextFile

PIECES = 32
"""Consecutive pieces that are dealt out in turn, so that both halves are of the same kind of text."""
SEARCH, VERIFY = "search.txt", "verify.txt"


def halves(text: str) -> tuple[str, str]:
    """Every other piece of a text, cut at ends of lines where there are any.

    Raises:
        InputError: when it is too short to be cut.
    """
    step = len(text) / PIECES
    cuts = [0]
    for piece in range(1, PIECES):
        target = round(piece * step)
        line = text.find("\n", target, round(target + step / 2)) + 1
        cuts.append(max(line or target, cuts[-1]))
    cuts.append(len(text))
    pieces = [text[start:stop] for start, stop in itertools.pairwise(cuts)]
    first, second = "".join(pieces[::2]), "".join(pieces[1::2])
    if not first.strip() or not second.strip():
        raise InputError("text too short to be cut in two halves", value=f"{len(text)} characters")
    return first, second


def write_halves(path: str, folder: Path) -> None:
    """Cut a file into search.txt and verify.txt of a folder."""
    text = TextFile.read(path)
    assert text is not None
    for name, half in zip((SEARCH, VERIFY), halves(text.content), strict=True):
        write_file(folder / name, half.encode())
