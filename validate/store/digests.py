"""Digests of what was measured: a checkpoint's files, a text. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from costmodel.errors import ModelError
from costmodel.files.open import open_file
from validate.errors import weightless
from validate.store.record_format import Record


def sha256_of(path: str | Path) -> str:
    """SHA-256 of a file's content.

    Raises:
        OSError: when it cannot be read.
    """
    with open_file(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def checkpoint_sha256(folder: Path) -> str:
    """SHA-256 over config.json and every *.safetensors, by name and content.

    Raises:
        ModelError: when one cannot be read or there are no weights.
    """
    return joined_sha256(file_sha256(folder))


def file_sha256(folder: Path) -> dict[str, str]:
    """SHA-256 of config.json and of every *.safetensors, by name.

    Raises:
        ModelError: when one cannot be read or there are no weights.
    """
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    if len(files) == 1:
        raise weightless(folder)
    found = {}
    for path in files:
        try:
            found[path.name] = sha256_of(path)
        except OSError as error:
            raise ModelError("cannot read checkpoint", value=str(path), hint=error.strerror or str(error)) from error
    return found


def joined_sha256(files: Mapping[str, str]) -> str:
    """One digest of the names and digests of files, in their order."""
    return hashlib.sha256("".join(f"{name} {digest}\n" for name, digest in files.items()).encode()).hexdigest()


def source_of(path: str | Path, content: str) -> Source:
    """Name and digest of a file that was read."""
    return Source(name=Path(path).name, sha256=hashlib.sha256(content.encode()).hexdigest())


class Source(Record, frozen=True, kw_only=True):
    """A file that was read: where numbers may be compared, digests are equal."""

    name: str
    sha256: str
