"""The weights of a dense checkpoint on disk, read one at a time by their names in a model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from costmodel.errors import ModelError
from costmodel.files.read import read_json
from validate.errors import reason_of
from validate.hf.names import DTYPES
from validate.store.digests import sha256_of

_PLAIN = re.compile(r"[^/\\\0]+\.safetensors")


_LEGACY = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))
"""How BERT's first checkpoints call the weights of norms."""


class SourceWeights:
    """The tensors of a folder's safetensors files by their names in a model, as `from_pretrained` would take them.

    Args:
        folder: with model.safetensors, or several files and their index.
        model: the structure; tied tensors are one, known by the first of their names.

    Attributes:
        files: the weight files.
        left_out: names in the files that the model has no place for, as `from_pretrained` ignores them.

    Raises:
        ModelError: when files are missing or damaged, or a tensor is missing or of another shape.
    """

    def __init__(self, folder: Path, model: nn.Module) -> None:
        self._folder = folder
        self.files = _weight_files(folder)
        stored = _headers(self.files)
        self._where: dict[str, tuple[Path, str]] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Name of each tensor in the model -> its shape, in the model's order."""
        self._kinds: dict[str, str] = {}
        for names, tensor in _tensors(model):
            found = next((each for each in _candidates(names, str(model.base_model_prefix)) if each in stored), None)
            if found is None:
                raise ModelError("folder lacks weights of the model", value=names[0], hint=f"looked in {folder}")
            path, shape, kind = stored[found]
            if shape != tuple(tensor.shape):
                allowed = f"shape {list(tensor.shape)}"
                raise ModelError(f"{path.name}: {found} is of another shape", value=list(shape), allowed=allowed)
            self._where[names[0]], self.shapes[names[0]] = (path, found), shape
            self._kinds[names[0]] = kind
        self.left_out = sorted(set(stored) - {name for _, name in self._where.values()})
        self._types = list(dict.fromkeys(self._kinds.values()))

    @property
    def dtype(self) -> str:
        """The type that all weights are stored in: fp32, bf16 or fp16.

        Raises:
            ModelError: when they are of several types, or of another.
        """
        if self.stored_types not in DTYPES:
            allowed = f"one of {', '.join(DTYPES)} for all"
            raise ModelError(
                "type of the stored weights", value=self.stored_types, allowed=allowed, hint="choose one with --dtype"
            )
        return self.stored_types

    @property
    def stored_types(self) -> str:
        """The type or types of the stored weights, with commas between them."""
        known = {name: key for key, (_, name) in DTYPES.items()}
        return ", ".join(known.get(kind, kind) for kind in self._types)

    @property
    def element_bytes(self) -> int:
        """Bytes of a stored weight, of the widest type."""
        narrow = {name: dtype.itemsize for dtype, name in DTYPES.values()}
        return max(narrow.get(kind, 8) for kind in self._types)

    def wide_type(self, name: str, dtype: torch.dtype) -> torch.dtype:
        """The type to factor a tensor in, so that its factors are rounded to `dtype` once: the one that holds what is
        stored as well; fp32 at most."""
        known = {kind: each for each, kind in DTYPES.values()} | {"F64": torch.float64}
        wide = torch.promote_types(known.get(self._kinds[name], dtype), dtype)
        return wide if wide.itemsize <= 4 else torch.float32

    def read(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """One tensor in memory of its own; the file is closed again, so that its pages do not pile up.

        Raises:
            ModelError: when the file cannot be read.
        """
        path, stored = self._where[name]
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                tensor: torch.Tensor = file.get_tensor(stored).to(dtype=dtype, copy=True)
        except (SafetensorError, OSError) as error:
            raise ModelError("cannot read weights", value=str(path), hint=reason_of(error)) from error
        return tensor

    def digests(self, progress: Callable[[int], None]) -> list[dict[str, Any]]:
        """`name`, `bytes` and `sha256` of each file; `progress` gets the bytes of each one when it is done."""
        found = []
        for path in self.files:
            found.append(file_record(path))
            progress(found[-1]["bytes"])
        return found


def file_record(path: Path) -> dict[str, Any]:
    """`name`, `bytes` and `sha256` of a file."""
    return {"name": path.name, "bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _weight_files(folder: Path) -> list[Path]:
    """What transformers reads: model.safetensors, else the files that its index names."""
    if (folder / "model.safetensors").is_file():
        return [folder / "model.safetensors"]
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        allowed = f"a folder with model.safetensors or {index.name}"
        raise ModelError("folder without weights", value=str(folder), allowed=allowed)
    data = read_json(index, "index of weights", ModelError)
    names = data.get("weight_map") if isinstance(data, dict) else None
    if not isinstance(names, dict) or not names or not all(isinstance(each, str) for each in names.values()):
        raise ModelError(f"{index}: no weight_map", allowed="an object of tensor names and file names")
    files = sorted(set(names.values()))
    for name in files:
        if not _PLAIN.fullmatch(name) or not (folder / name).is_file():
            raise ModelError(f"{index}: no such weight file", value=name, allowed="*.safetensors in the same folder")
    return [folder / name for name in files]


def _headers(files: list[Path]) -> dict[str, tuple[Path, tuple[int, ...], str]]:
    stored: dict[str, tuple[Path, tuple[int, ...], str]] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt", device="cpu") as file:
                for name in file.keys():  # noqa: SIM118 - it is no mapping
                    part = file.get_slice(name)
                    if name in stored:
                        hint = f"in {stored[name][0].name} and {path.name}"
                        raise ModelError("a tensor in two weight files", value=name, hint=hint)
                    stored[name] = path, tuple(part.get_shape()), str(part.get_dtype())
        except (SafetensorError, OSError) as error:
            raise ModelError("cannot read weights", value=str(path), hint=reason_of(error)) from error
    return stored


def _tensors(model: nn.Module) -> Iterator[tuple[list[str], torch.Tensor]]:
    """Every tensor of the state dict once, with all its names."""
    names: dict[int, list[str]] = {}
    tensors: dict[int, torch.Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
        tensors[id(tensor)] = tensor
    for key, tensor in tensors.items():
        yield names[key], tensor


def _candidates(names: list[str], prefix: str) -> Iterator[str]:
    """Names that checkpoints store a tensor under: without or with the prefix of the headless model, and old ones."""
    for name in names:
        bare = name.removeprefix(f"{prefix}.")
        for each in (name, bare if bare != name else f"{prefix}.{name}"):
            yield each
            for new, old in _LEGACY:
                if each.endswith(new):
                    yield each.removesuffix(new) + old


def dense_weight(module: nn.Module) -> torch.Tensor:
    """The weight of a linear as (out_features, in_features): a view for nn.Linear, transposed for GPT-2's Conv1D."""
    weight = cast(torch.Tensor, module.weight).detach()
    return weight if isinstance(module, nn.Linear) else weight.T
