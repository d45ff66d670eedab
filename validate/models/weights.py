"""The weights of a dense checkpoint on disk, read one at a time by their names in a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from costmodel.errors import ModelError
from validate.errors import MeasurementError
from validate.hf.names import DTYPES
from validate.models.classes import tensors_of
from validate.models.headers import Entry, StoredTensors
from validate.store.digests import sha256_of

_CHUNK = 1 << 24
_KINDS = ("F64", "F32", "BF16", "F16")
"""Safetensors' names of the types that weights are read from."""


class ShapeError(ModelError):
    """A stored tensor of another shape than config.json says."""

    def __init__(self, what: str, shape: Sequence[int], wanted: Sequence[int]) -> None:
        super().__init__(
            f"{what} is of another shape",
            value=list(shape),
            allowed=f"shape {list(wanted)}",
            hint="config.json and the weights are at odds",
        )


class KindError(ModelError):
    """A stored weight of a type that its values cannot be taken from as they are."""


def require_weight(entry: Entry, name: str) -> None:
    """Make sure that a stored weight is of floating point, wide enough to need no scales beside it.

    Raises:
        KindError: when it is complex, whole numbers, or quantised.
    """
    if odd := [kind for kind in entry.kind.split(", ") if kind not in _KINDS]:
        raise KindError(
            f"{entry.path.name}: {name} is of a type that weights are not read from",
            value=odd[0],
            allowed=", ".join(_KINDS),
            hint="a quantised checkpoint is dequantised first",
        )


class SourceWeights:
    """The tensors of a folder's safetensors files by their names in a model, as `from_pretrained` would take them.

    Args:
        stored: what the files hold.
        model: the structure, tied as they are; a tied tensor is one, known by the first of its names.

    Attributes:
        files: the weight files.

    Raises:
        ModelError: when a tensor is missing, of another shape than config.json says, or of a type that is no weight's.
    """

    def __init__(self, stored: StoredTensors, model: nn.Module) -> None:
        stored = stored.assembled(model)
        self._stored, self.files = stored, stored.files
        self._where: dict[str, str] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        """Name of each tensor in the model -> its shape, in the model's order."""
        self._kinds: dict[str, str] = {}
        for names, tensor in tensors_of(model):
            found = stored.find(names, str(model.base_model_prefix))
            if found is None:
                folder = stored.files[0].parent
                raise ModelError("folder lacks weights of the model", value=names[0], hint=f"looked in {folder}")
            entry = stored.entries[found]
            if entry.shape != tuple(tensor.shape):
                raise ShapeError(f"{entry.path.name}: {found}", entry.shape, tensor.shape)
            if tensor.is_floating_point():
                require_weight(entry, found)
            self._where[names[0]], self.shapes[names[0]] = found, entry.shape
            self._kinds[names[0]] = entry.kind
        self._types = list(dict.fromkeys(each for kinds in self._kinds.values() for each in kinds.split(", ")))

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
        wide = dtype
        for kind in self._kinds[name].split(", "):  # of each piece
            wide = torch.promote_types(known.get(kind, dtype), wide)
        return wide if wide.itemsize <= 4 else torch.float32

    def read(self, name: str, dtype: torch.dtype) -> torch.Tensor:
        """One tensor in memory of its own; the file is closed again, so that its pages do not pile up.

        Raises:
            ModelError: when the file cannot be read.
            MeasurementError: when a value is not finite, or not in this type.
        """
        stored = self._stored.read(self._where[name])
        require_finite(stored, name, stored.dtype)
        require_finite(stored, name, dtype)
        return stored.to(dtype=dtype, copy=True)

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


def require_finite(tensor: torch.Tensor, name: str, dtype: torch.dtype) -> None:
    """Make sure that a tensor is finite in a type.

    Raises:
        MeasurementError: saying whether it is not so itself, or only there.
    """
    if is_finite(tensor, dtype):
        return
    if not is_finite(tensor, tensor.dtype):
        raise MeasurementError("non-finite", f"{name} holds NaN or infinity")
    known = {kind: key for key, (kind, _) in DTYPES.items()}
    wide = [key for kind, key in known.items() if kind is not dtype and is_finite(tensor, kind)]
    raise MeasurementError(
        "non-finite", f"{name} does not fit {known.get(dtype, dtype)}", hint=f"choose --dtype {' or '.join(wide)}"
    )


def is_finite(tensor: torch.Tensor, dtype: torch.dtype) -> bool:
    """Part by part: the check takes memory of its own."""
    if not tensor.is_floating_point():
        return True
    return all(bool(torch.isfinite(part.to(dtype)).all()) for part in torch.split(tensor.flatten(), _CHUNK))


def dense_weight(module: nn.Module) -> torch.Tensor:
    """The weight of a linear as (out_features, in_features): a view for nn.Linear, transposed for GPT-2's Conv1D."""
    weight = cast(torch.Tensor, module.weight).detach()
    return weight if isinstance(module, nn.Linear) else weight.T
