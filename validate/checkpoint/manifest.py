"""factored.json: what a factored checkpoint is, where it comes from, and what each of its files must be."""

from __future__ import annotations

import json
from importlib import metadata
from typing import Any, Literal

import msgspec

from costmodel._version import __version__
from validate.factors.kinds import Factors
from validate.hf.names import FORMAT, SCHEMA

_LIBRARIES = ("torch", "transformers", "safetensors", "tensorly")


class FileRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A file by the name that it has in its folder."""

    name: str
    bytes: int
    sha256: str


class SiteRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One factored weight."""

    layer: int
    """In the dense model."""
    tensor: str
    module: str
    """Path inside the layer."""
    form: Literal["svd", "tucker"]
    rank: tuple[int, int]
    """After the first factor, before the last."""
    relative_error: float
    """Frobenius norm of dense weight minus product of the factors as written, over that of the dense weight; the weight
    is the source's, before it is rounded to another type."""


class FactorsRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How factors were computed; the rest for those that are fitted to a text."""

    kind: Factors
    calibration: FileRecord | None = None
    """The text; its name without folders."""
    blocks: int | None = None
    length: int | None = None
    """Tokens of a block."""


class SourceRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The dense checkpoint."""

    name: str
    dtype: str
    files: list[FileRecord]


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The content of factored.json."""

    architecture: str
    """transformers' class."""
    layers: str
    """Path of the list of layers in it."""
    num_layers: int
    """Of the dense model."""
    dtype: str
    weight_dtype: Literal["int8"] | None = None
    """Of the linears named in `int8`; their scales and all else are of `dtype`."""
    int8: list[str] = msgspec.field(default_factory=list)
    """Paths inside a layer of the linears in int8."""
    sites: list[SiteRecord]
    drop: list[int]
    """Layers of the dense model that are left out; the tensors of the others are numbered anew."""
    factors: FactorsRecord
    params: int
    """Weights stored, tied ones once."""
    dense_params: int
    source: SourceRecord
    files: list[FileRecord]
    """Every file beside this one."""
    format: str = FORMAT
    schema: int = SCHEMA
    versions: dict[str, str] = msgspec.field(default_factory=lambda: versions())

    def to_bytes(self) -> bytes:
        """JSON, a site and a file in a line each."""
        data: dict[str, Any] = msgspec.to_builtins(self)
        first = ("format", "schema")
        lines = [f"{json.dumps(key)}: {_value(data[key])}" for key in (*first, *(k for k in data if k not in first))]
        return ("{\n  " + ",\n  ".join(lines) + "\n}\n").encode()


def _value(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n    " + ",\n    ".join(json.dumps(each, allow_nan=False) for each in value) + "\n  ]"
    return json.dumps(value, allow_nan=False)


def versions() -> dict[str, str]:
    """Of this project and the libraries that factors depend on."""
    return {"costmodel": __version__, **{name: metadata.version(name) for name in _LIBRARIES}}
