"""Text that every machine has: the sources of Python's standard library, split by file into training and held-out."""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from costmodel.errors import InputError

HELD_OUT = 12
"""One file in so many is held out, by the hash of its content."""
LEFT_OUT = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "__pycache__"})
"""Folders without text of the library's own: tests are missing from many installations, the tables of `encodings` are
near copies of each other (one in training would give away another that is held out)."""
GENERATED = "_sysconfigdata"
"""Begins the names of files that differ from build to build of one version."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """Source files, each in one part only; both parts in the order of their content's hash.

    Attributes:
        train: contents of the training part.
        heldout: contents of the held-out part.
        digest: SHA-256 of both parts: equal digests, equal text.
        source: where the text comes from, in words.
    """

    train: tuple[str, ...]
    heldout: tuple[str, ...]
    digest: str
    source: str

    def describe(self) -> dict[str, object]:
        """What a record keeps of it: digest, source, files and bytes of each part."""
        return {
            "digest": self.digest,
            "source": self.source,
            "split": f"1 file in {HELD_OUT} held out, by content hash",
            "train_files": len(self.train),
            "train_bytes": size(self.train),
            "heldout_files": len(self.heldout),
            "heldout_bytes": size(self.heldout),
        }


def read_corpus(root: Path | None = None, *, max_bytes: int | None = None) -> Corpus:
    """The Python files below `root`, without tests and generated tables, each content once.

    Args:
        root: a folder of Python files; the running interpreter's standard library without one.
        max_bytes: of each part, take files in the order of their hashes while they fill no more than its share of
            this, and one at least; None for all.

    Raises:
        InputError: when there are too few files to split.
    """
    source = f"standard library of Python {platform.python_version()}" if root is None else "a folder of Python files"
    root = Path(sysconfig.get_paths()["stdlib"]) if root is None else root
    found: dict[str, tuple[str, str]] = {}  # by hash: a copy of a file falls on the file, so in the same part
    for path in sorted(root.rglob("*.py")):
        name = path.relative_to(root)
        if LEFT_OUT.isdisjoint(name.parts[:-1]) and not name.name.startswith(GENERATED):
            text = _read(path)
            if text.strip():
                found.setdefault(hashlib.sha256(text.encode()).hexdigest(), (name.as_posix(), text))
    files = [(key, *found[key]) for key in sorted(found)]
    held = [file for file in files if int(file[0], 16) % HELD_OUT == 0]
    train = [file for file in files if int(file[0], 16) % HELD_OUT]
    if max_bytes is not None:
        held, train = _first(held, max_bytes / HELD_OUT), _first(train, max_bytes * (1 - 1 / HELD_OUT))
    if not held or not train:
        allowed = f"a folder of Python files of which 1 in {HELD_OUT} is held out"
        raise InputError(f"too few files to train on: {len(files)}", value=str(root), allowed=allowed)
    digest = hashlib.sha256("\n".join([key for key, _, _ in [*train, *held]]).encode()).hexdigest()
    return Corpus(
        train=tuple(text for _, _, text in train),
        heldout=tuple(text for _, _, text in held),
        digest=digest,
        source=source,
    )


def calibration_text(texts: Sequence[str], *, pieces: int = 128, characters: int = 4096) -> str:
    """Pieces of as many files, each from its middle and of whole lines: text of the training part to calibrate on."""
    parts: list[str] = []
    for text in texts[:pieces]:
        start = max(0, (len(text) - characters) // 2)
        piece = text[start : start + characters]
        parts.append(piece[piece.find("\n") + 1 : piece.rfind("\n") + 1] if start else piece)
    return "\n".join(part for part in parts if part.strip())


def size(texts: Iterable[str]) -> int:
    """Bytes in UTF-8."""
    return sum(len(text.encode()) for text in texts)


def _read(path: Path) -> str:
    """The text with one kind of line end; empty where it is not UTF-8, as a few old sources are not."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""
    except OSError as error:
        raise InputError("cannot read file", value=str(path), hint=error.strerror or str(error)) from error
    return text.replace("\x00", "")


def _first(files: Sequence[tuple[str, str, str]], max_bytes: float) -> list[tuple[str, str, str]]:
    """The first of the files (hash, name, text) up to so many bytes, and one at least."""
    taken, total = list(files[:1]), size([file[2] for file in files[:1]])
    for file in files[1:]:
        total += size([file[2]])
        if total > max_bytes:
            break
        taken.append(file)
    return taken
