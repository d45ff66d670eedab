"""Two halves of a text: what is chosen on one is judged on the other. No torch."""

from __future__ import annotations

import itertools
from pathlib import Path

from costmodel.errors import InputError
from costmodel.files.write import write_file
from costmodel.model import ModelSpec
from validate.choose.settings import Settings
from validate.quality.job import LENGTH, TextFile

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


def check_texts(settings: Settings, spec: ModelSpec) -> None:
    """Refuse texts that hold too few tokens for what is asked of them, before anything is measured.

    Raises:
        InputError: when half of the text, or the calibration text, does, or blocks are longer than the model takes.
    """
    from validate.models.text import require_known  # loads torch
    from validate.models.tokenizers import read_tokenizer, require_tokenizer

    length = settings.length or min(LENGTH, spec.max_positions)
    if length > spec.max_positions:
        raise InputError("--length is beyond the model", value=length, allowed=f"up to {spec.max_positions}")
    tokenizer = require_tokenizer(read_tokenizer(Path(settings.model)), settings.model)
    inner = length - (tokenizer.num_special_tokens_to_add() if spec.is_encoder else 0)
    if inner < 1:
        raise InputError("--length is too small", value=length, allowed="more than the special tokens of a block")
    for option, parts, count in (
        ("--text", halves(_read(settings.text)), settings.blocks),
        ("--calibration-text", [_read(settings.calibration_text)], settings.calibration_blocks),
    ):
        tokens = [tokenizer(part, add_special_tokens=False, verbose=False)["input_ids"] for part in parts]
        for each in tokens:
            require_known(each, spec, option)
        found = min(map(len, tokens))
        if found < count * inner:
            value = f"{found:,} tokens" + (" in the shorter half" if len(parts) > 1 else "")
            allowed = f"at least {count * inner:,} ({count} blocks of {inner})"
            raise InputError(f"{option} is too short", value=value, allowed=allowed)


def write_halves(path: str, folder: Path) -> None:
    """Cut a file into search.txt and verify.txt of a folder."""
    for name, half in zip((SEARCH, VERIFY), halves(_read(path)), strict=True):
        write_file(folder / name, half.encode())


def _read(path: str) -> str:
    text = TextFile.read(path)
    assert text is not None
    return text.content
