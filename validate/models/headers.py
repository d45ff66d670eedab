"""What the weight files of a dense checkpoint hold: names, shapes and types of tensors, and any one of them."""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open

from costmodel.errors import ModelError
from costmodel.files.read import read_json
from validate.errors import reason_of, weightless
from validate.models.pieces import Pieces, pieces_of

_PLAIN = re.compile(r"[^/\\\0]+\.safetensors")
_LEGACY = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
"""How BERT's first checkpoints call the weights of norms."""


class Entry(NamedTuple):
    """A stored tensor; `kind` is safetensors' name of its type, of one in pieces of all their types with commas."""

    path: Path
    shape: tuple[int, ...]
    kind: str


class StoredTensors:
    """The headers of the files that `from_pretrained` would read.

    Args:
        folder: with model.safetensors, or several files and their index.

    Attributes:
        files: the weight files.
        entries: what they hold, by name.

    Raises:
        ModelError: when files are missing or damaged, or a tensor is in two of them.
    """

    def __init__(self, folder: Path) -> None:
        self.files = _weight_files(folder)
        self.entries: dict[str, Entry] = {}
        self._pieces: dict[str, Pieces] = {}
        self._whole = self
        for path in self.files:
            for name, entry in _header(path).items():
                if name in self.entries:
                    hint = f"in {self.entries[name].path.name} and {path.name}"
                    raise ModelError("a tensor in two weight files", value=name, hint=hint)
                self.entries[name] = entry

    def assembled(self, model: Any) -> StoredTensors:
        """What the files hold of a model of transformers: tensors that are stored in pieces are one each, under the
        model's name; pieces that do not make a whole stay as they are."""
        prefix = str(model.base_model_prefix)
        known = {name for each in model.state_dict() for name in _candidates([each], prefix)}
        view = copy.copy(self)
        view.entries, view._pieces = dict(self.entries), dict(self._pieces)
        for name, pieces in pieces_of(model, self.entries, known & self.entries.keys()).items():
            held = [self.entries[each] for each in pieces.stored]
            try:
                shape = pieces.joined(lambda each: torch.empty(self.entries[each].shape, device="meta")).shape
            except (RuntimeError, ValueError, KeyError):  # of shapes that do not fit each other
                continue
            kinds = dict.fromkeys(entry.kind for entry in held)
            view.entries = {key: each for key, each in view.entries.items() if key not in pieces.stored}
            view.entries[name] = Entry(held[0].path, tuple(shape), ", ".join(kinds))
            view._pieces[name] = pieces
        return view

    def find(self, names: Collection[str], prefix: str) -> str | None:
        """The stored name of a tensor that has these names in a model; None where it is not there.

        Args:
            prefix: of the model without its head, which checkpoints may lack or have.
        """
        return next((each for each in _candidates(names, prefix) if each in self.entries), None)

    def read(self, name: str) -> torch.Tensor:
        """A tensor by its stored name, mapped from the file, or put together of its pieces.

        Raises:
            ModelError: when the file cannot be read.
        """
        if (pieces := self._pieces.get(name)) is not None:
            return pieces.joined(self._whole.read)
        path = self.entries[name].path
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                tensor: torch.Tensor = file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelError("cannot read weights", value=str(path), hint=reason_of(error)) from error
        return tensor

    def same(self, one: str, other: str) -> bool:
        """Whether two tensors, by their stored names, have the same values."""
        if one == other:
            return True
        if self.entries[one].shape != self.entries[other].shape:
            return False
        first, second = self.read(one), self.read(other)
        wide = torch.promote_types(first.dtype, second.dtype)
        return torch.equal(first.to(wide), second.to(wide))


def _weight_files(folder: Path) -> list[Path]:
    """What transformers reads: model.safetensors, else the files that its index names."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        raise weightless(folder)
    data = read_json(index, "index of weights", ModelError)
    names = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(each, str) for each in names.values()):
        raise ModelError(f"{index}: no weight_map", allowed="an object of tensor names and file names")
    files = sorted(set(names.values()))
    for name in files:
        if not _is_weight_file(folder, name):
            raise ModelError(f"{index}: no such weight file", value=name, allowed="*.safetensors in the same folder")
    return [folder / name for name in files]


def _is_weight_file(folder: Path, name: str) -> bool:
    try:
        return bool(_PLAIN.fullmatch(name)) and (folder / name).is_file()
    except OSError:  # a name too long for any file
        return False


def _header(path: Path) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            for name in file.keys():  # noqa: SIM118 - it is no mapping
                part = file.get_slice(name)
                found[name] = Entry(path, tuple(part.get_shape()), str(part.get_dtype()))
    except (SafetensorError, OSError) as error:
        raise ModelError("cannot read weights", value=str(path), hint=reason_of(error)) from error
    return found


def _candidates(names: Collection[str], prefix: str) -> Iterator[str]:
    """Names that checkpoints store a tensor under: without or with the prefix of the headless model, and old ones."""
    for name in names:
        bare = name.removeprefix(f"{prefix}.")
        for each in (name, bare if bare != name else f"{prefix}.{name}"):
            yield each
            for new, old in _LEGACY:
                if each.endswith(new):
                    yield each.removesuffix(new) + old
