"""What the weight files beside a config.json say that it does not: whether the LM head is the token embedding,
and whether both biases of a masked LM are one.

After full fine-tuning a file may hold a head of its own while config.json still says that it is tied. The file decides,
as in transformers. Only headers are read, and both tensors' bytes where both are there.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any, BinaryIO

from costmodel.files.open import open_file

_HEAD = "lm_head.weight"
_EMBEDDINGS = (
    "embed_tokens.weight",
    "wte.weight",
    "embed_in.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
)
"""How the names of token embeddings end."""
_MAX_HEADER = 100 * 10**6
"""Bytes that a header of safetensors may have."""
_CHUNK = 1 << 22

Place = tuple[Path, int, int, str]
"""Where a tensor's bytes are: file, first byte, number of bytes, and type and shape as text."""


def has_own_head(folder: Path, head: str = _HEAD) -> bool:
    """Whether the safetensors files of a folder hold an LM head whose values are not those of the token embedding.

    Args:
        head: the name of its weight.

    False where there are no such files, or none that can be read: whoever reads weights says so.
    """
    return _hold_apart(folder, head, _ENDINGS)


def has_own_bias(folder: Path, decoder: str) -> bool:
    """Whether they hold the two biases of a masked LM's last linear with different values; False as `has_own_head`.

    Args:
        decoder: module path of the linear, beside which the other bias stands.
    """
    return _hold_apart(folder, f"{decoder}.bias", (f".{decoder.rpartition('.')[0]}.bias",))


def _hold_apart(folder: Path, name: str, others: tuple[str, ...]) -> bool:
    """Whether a tensor is there with other values than the one whose name ends as one of `others`."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    try:
        files = [whole] if whole.is_file() else _listed(index, name, others) if index.is_file() else []
        stamps = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files)
        return _differs(stamps, name, others)
    except (OSError, ValueError, RecursionError, OverflowError):  # of damaged files, in many ways
        return False


@functools.lru_cache(maxsize=64)
def _differs(files: tuple[tuple[str, int, int], ...], name: str, others: tuple[str, ...]) -> bool:
    """For files by path, time of change and size, which keep the answer fresh."""
    places: dict[str, Place] = {}
    for path, _, _ in files:
        places |= _places(Path(path), name, others)
    head = places.get(name)
    embedding = next((place for other, place in places.items() if f".{other}".endswith(others)), None)
    if head is None or embedding is None:
        return False
    return head[2:] != embedding[2:] or not _same_bytes(head, embedding)


_ENDINGS = tuple(f".{name}" for name in _EMBEDDINGS)


def _listed(index: Path, head: str, others: tuple[str, ...]) -> list[Path]:
    """The files of an index that hold the tensors in question."""
    with open_file(index) as stream:
        names = json.loads(stream.read())
    names = names.get("weight_map") if isinstance(names, dict) else None
    if not isinstance(names, dict):
        raise ValueError("no weight_map")
    wanted = {str(file) for name, file in names.items() if name == head or f".{name}".endswith(others)}
    return sorted(index.parent / Path(file).name for file in wanted)


def _places(path: Path, head: str, others: tuple[str, ...]) -> dict[str, Place]:
    with open_file(path, _MAX_HEADER) as stream:
        length = int.from_bytes(stream.read(8), "little")
        if length > _MAX_HEADER:
            raise ValueError("no header of safetensors")
        header: Any = json.loads(stream.read(length))
    found: dict[str, Place] = {}
    for name, entry in header.items() if isinstance(header, dict) else ():
        if name == head or f".{name}".endswith(others):
            try:
                start, stop = map(int, entry["data_offsets"])
                kind = f"{entry['dtype']} {list(entry['shape'])}"
            except (KeyError, TypeError) as error:
                raise ValueError("damaged header of safetensors") from error
            found[name] = path, 8 + length + start, stop - start, kind
    return found


def _same_bytes(one: Place, other: Place) -> bool:
    with one[0].open("rb") as first, other[0].open("rb") as second:
        first.seek(one[1])
        second.seek(other[1])
        left = one[2]
        while left > 0:
            size = min(left, _CHUNK)
            if _read(first, size) != _read(second, size):
                return False
            left -= size
    return True


def _read(stream: BinaryIO, size: int) -> bytes:
    content = stream.read(size)
    if len(content) < size:
        raise ValueError("file is shorter than its header says")
    return content
