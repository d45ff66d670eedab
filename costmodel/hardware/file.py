"""The TOML form of a hardware profile: its loader and its checks.

Units live in the keys and are those that vendors print (TFLOP/s, GB/s, GB, MiB, us, W); `costmodel.hardware.profile`
converts them to SI. Every figure is a table `{ value, source, verified }`, so that no number can enter without its
origin. `hw_profiles/README.md` is the reference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from costmodel.errors import HardwareError
from costmodel.files.node import Node
from costmodel.files.read import decode_toml, read_text
from costmodel.units import DType

SCHEMA = 1
"""Version of the file format; raise it when a key is renamed, dropped or changes its meaning."""

MAX_FILE_BYTES = 1 << 20
"""Larger files are refused unread: a profile takes a few kilobytes, model weights named by mistake take gigabytes."""

PARTS: Mapping[str, tuple[str, ...]] = {
    "matrix_tflop_per_s": tuple(dtype.value for dtype in DType),
    "cache_mib": ("l2", "l3"),
}
"""Figures that are tables of figures: dense peaks of matrix products by element type (TOP/s for integers; never "with
sparsity"), and the shared cache levels, nearest to the cores first."""
_REQUIRED = (
    "matrix_tflop_per_s",
    "vector_tflop_per_s",
    "memory_gb_per_s",
    "memory_gb",
    "cores",
    "host_launch_us",
    "kernel_floor_us",
)
_FIGURES = (*_REQUIRED[:4], "cache_mib", *_REQUIRED[4:], "idle_power_w", "peak_power_w", "interconnect_gb_per_s")
"""All keys of [figures], in the order in which they are shown."""
ARCHITECTURES = (
    "volta",
    "turing",
    "ampere",
    "ampere-consumer",
    "ada",
    "hopper",
    "blackwell",
    "blackwell-consumer",
    "cdna3",
    "avx2",
    "avx512",
    "amx",
)
"""Generation of a GPU, or the widest vector or matrix extension of a CPU: kernels of one do alike on its devices."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_HELP = "hw_profiles/README.md says what it is"
_LARGEST = 1e6
"""TFLOP/s (an exaFLOP/s), GB/s (a PB/s), GB, MiB, W or microseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFigure:
    """One number as the file states it."""

    value: float
    source: str
    """A key of [sources]."""
    verified: bool
    """The source is the vendor's own document, and this is the number in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileFile:
    """A whole file.

    Attributes:
        architecture: one of ARCHITECTURES, if the file names any.
        sources: key -> citation or reasoning.
        figures: by dotted key, such as `matrix_tflop_per_s.bf16`, in the units of the file.
    """

    name: str
    description: str
    kind: Literal["gpu", "cpu"]
    architecture: str | None
    sources: Mapping[str, str]
    figures: Mapping[str, FileFigure]


def read_profile_text(path: Path) -> str:
    """The text of a file.

    Raises:
        HardwareError: when it cannot be read, is too large or not UTF-8.
    """
    return read_text(path, "hardware profile", HardwareError, limit=MAX_FILE_BYTES)


def parse_profile(text: str, path: str) -> ProfileFile:
    """Read and check the text of a file at `path`.

    Raises:
        HardwareError: one line that names the file, the dotted key, the value found and what is allowed.
    """
    content = Node(path, decode_toml(text, path, "hardware profile", HardwareError), HardwareError)
    schema = content.entries().get("schema")
    if schema is None:
        raise HardwareError(f"{path}: schema is missing", allowed=str(SCHEMA), hint=_HELP)
    if type(schema.value) is not int or schema.value != SCHEMA:
        hint = "written for another version of costmodel; hw_profiles/README.md says what this one reads"
        raise schema.wrong(str(SCHEMA), hint)
    keys = ["schema", "name", "description", "kind", "sources", "figures"]
    part = content.table(keys, ["architecture"], hint=_HELP)
    if not _NAME.fullmatch(part["name"].text()):
        raise part["name"].wrong("letters, digits and . _ - after a first letter or digit")
    sources = part["sources"].entries()
    return ProfileFile(
        name=part["name"].text(),
        description=part["description"].text(),
        kind=part["kind"].choice(("gpu", "cpu")),
        architecture=part["architecture"].choice(ARCHITECTURES) if "architecture" in part else None,
        sources={key: source.text() for key, source in sources.items()},
        figures=_figures(part["figures"], tuple(sources)),
    )


def _figures(node: Node, sources: tuple[str, ...]) -> dict[str, FileFigure]:
    """Every figure of the file under its dotted key; the required ones are there, and they agree with each other."""
    table = node.table(_REQUIRED, _FIGURES, hint=_HELP)
    figures: dict[str, FileFigure] = {}
    for key in _FIGURES:
        if key in PARTS and key in table:
            parts = table[key].table((), PARTS[key])
            figures |= {f"{key}.{name}": _figure(parts[name], sources) for name in PARTS[key] if name in parts}
        elif key in table:
            figures[key] = _figure(table[key], sources)
    if not any(key.startswith("matrix_tflop_per_s.") for key in figures):
        allowed = f"at least one of {', '.join(PARTS['matrix_tflop_per_s'])}"
        raise HardwareError(f"{node.file}: figures.matrix_tflop_per_s is empty", allowed=allowed)
    idle, peak = figures.get("idle_power_w"), figures.get("peak_power_w")
    if idle and peak and idle.value >= peak.value:
        value = table["idle_power_w"].entries()["value"]
        raise value.wrong(f"less than peak_power_w, which is {peak.value:g}")
    return figures


def _figure(node: Node, sources: tuple[str, ...]) -> FileFigure:
    if not isinstance(node.value, dict):
        raise node.wrong("{ value = ..., source = ..., verified = ... }")
    part = node.table(["value", "source", "verified"], hint=_HELP)
    if part["source"].value not in sources:
        raise part["source"].wrong(", ".join(sources) or "nothing, since [sources] is empty")
    if node.key.endswith(".cores"):
        value: float = part["value"].integer(1, 1_000_000)
    else:
        value = part["value"].number(0 if node.key.endswith("_us") else 1e-6, _LARGEST)
    return FileFigure(value=value, source=part["source"].text(), verified=part["verified"].flag())
