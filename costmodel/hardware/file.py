"""The TOML form of a hardware profile: its typed schema, its loader and its checks.

Units live in the keys and are those that vendors print (TFLOP/s, GB/s, GB, MiB, us, W); `costmodel.hardware.profile`
converts them to SI. Every figure is a table `{ value, source, verified }`, so that no number can enter without its
origin. `hw_profiles/README.md` is the reference.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar, get_args

import msgspec

from costmodel.errors import HardwareError

SCHEMA = 1
"""Version of the file format; raise it when a key is renamed, dropped or changes its meaning."""

MAX_FILE_BYTES = 1 << 20
"""Larger files are refused unread: a profile takes a few kilobytes, model weights named by mistake take gigabytes."""

T = TypeVar("T", bound=float)
Positive = Annotated[float, msgspec.Meta(ge=1e-6, le=1e6)]
"""Finite and above zero: at most 1e6 TFLOP/s (an exaFLOP/s), GB/s (a PB/s), GB, MiB or W."""
Duration = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
"""Microseconds; zero is meaningful."""
Count = Annotated[int, msgspec.Meta(ge=1, le=1_000_000)]
Name = Annotated[str, msgspec.Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")]
Text = Annotated[str, msgspec.Meta(min_length=1)]


Architecture = Literal[
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
]
"""Generation of a GPU, or the widest vector or matrix extension of a CPU: kernels of one do alike on its devices."""


class FileFigure(msgspec.Struct, Generic[T], frozen=True, forbid_unknown_fields=True):
    """One number as the file states it."""

    value: T
    source: str  # a key of [sources]
    verified: bool  # the source is the vendor's own document, and this is the number in it


class MatrixRates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dense peak of matrix products per element type, in TFLOP/s (TOP/s for integers); never "with sparsity"."""

    fp32: FileFigure[Positive] | None = None
    tf32: FileFigure[Positive] | None = None
    fp16: FileFigure[Positive] | None = None
    bf16: FileFigure[Positive] | None = None
    fp8: FileFigure[Positive] | None = None
    int8: FileFigure[Positive] | None = None
    int4: FileFigure[Positive] | None = None


class CacheSizes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Capacity of the shared cache levels in MiB (binary, as caches are built), nearest to the cores first."""

    l2: FileFigure[Positive] | None = None
    l3: FileFigure[Positive] | None = None


class FigureTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The `[figures]` table; the README gives each figure's definition."""

    matrix_tflop_per_s: MatrixRates
    vector_tflop_per_s: FileFigure[Positive]
    memory_gb_per_s: FileFigure[Positive]
    memory_gb: FileFigure[Positive]
    cache_mib: CacheSizes = CacheSizes()
    cores: FileFigure[Count]
    host_launch_us: FileFigure[Duration]
    kernel_floor_us: FileFigure[Duration]
    idle_power_w: FileFigure[Positive] | None = None
    peak_power_w: FileFigure[Positive] | None = None
    interconnect_gb_per_s: FileFigure[Positive] | None = None

    def items(self) -> Iterator[tuple[str, FileFigure[Any]]]:
        """Every figure the file has under its dotted key, such as `matrix_tflop_per_s.bf16`."""
        for key in self.__struct_fields__:
            entry = getattr(self, key)
            if isinstance(entry, MatrixRates | CacheSizes):
                for part in entry.__struct_fields__:
                    if (figure := getattr(entry, part)) is not None:
                        yield f"{key}.{part}", figure
            elif entry is not None:
                yield key, entry


class ProfileFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A whole file."""

    schema: int
    name: Name
    description: Text
    kind: Literal["gpu", "cpu"]
    architecture: Architecture | None = None
    sources: dict[str, Any]  # key -> citation or reasoning; `_check` wants text, and names the entry that is not
    figures: FigureTable


_TABLES: dict[str, type[msgspec.Struct]] = {
    "": ProfileFile,
    "figures": FigureTable,
    "figures.matrix_tflop_per_s": MatrixRates,
    "figures.cache_mib": CacheSizes,
}
"""Which schema governs which table; every deeper one is a figure."""


def read_profile_file(path: Path) -> ProfileFile:
    """Read and check one file.

    Raises:
        HardwareError: one line that names the file, the dotted key, the value found and what is allowed.
    """
    raw = _read_toml(path)
    if "schema" not in raw:
        raise HardwareError(
            f"{path}: schema is missing", allowed=str(SCHEMA), hint="hw_profiles/README.md says what it is"
        )
    version = raw["schema"]
    if type(version) is not int or version != SCHEMA:
        hint = "written for another version of costmodel; hw_profiles/README.md says what this one reads"
        raise HardwareError(f"{path}: schema", value=version, allowed=str(SCHEMA), hint=hint)
    try:
        profile = msgspec.convert(raw, ProfileFile)
    except msgspec.ValidationError as error:
        raise _explain(path, raw, str(error)) from None
    _check(path, profile)
    return profile


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise HardwareError(f"{path}: cannot read", hint=error.strerror or str(error)) from error
    if len(content) > MAX_FILE_BYTES:
        raise HardwareError(f"{path}: too large for a hardware profile", allowed=f"up to {MAX_FILE_BYTES} bytes")
    try:
        return tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:  # not UTF-8, not TOML, or nested without end
        raise HardwareError(f"{path}: not a TOML file in UTF-8", hint=str(error)) from error


def _explain(path: Path, raw: dict[str, Any], message: str) -> HardwareError:
    """Turn msgspec's "Expected `float`, got `str` - at `$.figures.memory_gb.value`" into our line with the value."""
    problem, _, location = message.partition(" - at `$.")
    where = location.rstrip("`")
    table = _TABLES.get(where, FileFigure)
    if missing := re.fullmatch("Object missing required field `(.*)`", problem):
        key = f"{where}.{missing[1]}".lstrip(".")
        return HardwareError(f"{path}: {key} is missing", hint="hw_profiles/README.md says what it is")
    if re.match("Object contains unknown field", problem):
        found: Any = _at(raw, where)
        unknown = next(key for key in found if key not in table.__struct_fields__)
        allowed = ", ".join(table.__struct_fields__)
        return HardwareError(f"{path}: unknown key in {where or 'the file'}", value=unknown, allowed=allowed)
    expected = problem.removeprefix("Expected ").partition(", got ")[0].replace("`", "").removesuffix(" | null")
    if problem.startswith("Invalid enum value"):
        expected = ", ".join(get_args(Architecture)) if where == "architecture" else "gpu, cpu"
    elif problem.startswith("Number out of range"):
        expected = "float"
    return HardwareError(f"{path}: {where}", value=_at(raw, where), allowed=_in_words(expected, where))


def _in_words(expected: str, where: str) -> str:
    """msgspec's type and bound, "float >= 1e-06", as a range for people; other values as they are."""
    kind = expected.partition(" ")[0]
    if kind == "float":
        return f"a number from {'0' if '_us.' in where else '1e-06'} to 1e6"
    if kind == "str":
        return "letters, digits and . _ - after a first letter or digit" if "regex" in expected else "text"
    if kind == "object" and where.startswith("figures.") and where not in _TABLES:
        return "{ value = ..., source = ..., verified = ... }"
    words = {"int": "a whole number from 1 to 1,000,000", "bool": "true or false", "object": "a table"}
    return words.get(kind, expected)


def _at(raw: Any, where: str) -> Any:
    """The value under a dotted key."""
    for key in filter(None, where.split(".")):
        raw = raw[key]
    return raw


def _check(path: Path, profile: ProfileFile) -> None:
    """What types cannot say: citations exist, there is a matrix rate, idling takes less power than working."""
    for key, text in profile.sources.items():
        if not isinstance(text, str) or not text.strip():
            raise HardwareError(f"{path}: sources.{key}", value=text, allowed="a citation or the reasoning, as text")
    for key, figure in profile.figures.items():
        if figure.source not in profile.sources:
            known = ", ".join(profile.sources) or "nothing, since [sources] is empty"
            raise HardwareError(f"{path}: figures.{key}.source", value=figure.source, allowed=known)
    figures = profile.figures
    if figures.matrix_tflop_per_s == MatrixRates():
        allowed = f"at least one of {', '.join(MatrixRates.__struct_fields__)}"
        raise HardwareError(f"{path}: figures.matrix_tflop_per_s is empty", allowed=allowed)
    idle, peak = figures.idle_power_w, figures.peak_power_w
    if idle and peak and idle.value >= peak.value:
        allowed = f"less than peak_power_w, which is {peak.value:g}"
        raise HardwareError(f"{path}: figures.idle_power_w.value", value=idle.value, allowed=allowed)
