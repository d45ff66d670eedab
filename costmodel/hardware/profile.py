"""Hardware profiles: what a device can do at most, in SI units, with the origin of every figure."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from costmodel.errors import HardwareError, nearest
from costmodel.units import DType

if TYPE_CHECKING:
    from costmodel.hardware.file import ProfileFile


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """Where a number of a profile comes from."""

    source: str
    """The document, or the reasoning where there is none."""
    verified: bool
    """`source` is the vendor's own document and this is the number in it, not an estimate or hearsay."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheLevel:
    """A cache shared by many cores. The ideal roofline reads everything from memory whatever fits in it; calibrations
    know its size."""

    name: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class HardwareProfile:
    """The peaks and overheads of one device, in SI units. Compared and hashed by identity: cheap as a cache key.

    All rates are peaks that no kernel reaches, so times computed from them are optimistic until calibrated.
    """

    name: str
    description: str
    kind: Literal["gpu", "cpu"]
    architecture: str | None = None
    """Generation of a GPU (`hopper`), widest extension of a CPU (`avx512`); None where the file names none."""
    matrix_flops_per_s: Mapping[DType, float]
    """Dense peak of matrix products by element type (an FMA is 2); never the rate "with sparsity".
    fp32 on an NVIDIA GPU is that of its CUDA cores, since PyTorch leaves tf32 off by default."""
    vector_flops_per_s: float
    """FP32 peak of the vector units, which run norms, activations and other element-wise work."""
    memory_bytes_per_s: float
    memory_bytes: int
    """Capacity as the vendor prints it, decimal: 80 GB is 80e9."""
    caches: tuple[CacheLevel, ...] = ()
    """Shared levels, the last one nearest to memory."""
    cores: int
    """Streaming multiprocessors, compute units or CPU cores."""

    host_launch_s: float
    """Host time to issue one kernel in eager mode (on a CPU: to dispatch one op)."""
    kernel_floor_s: float
    """Device time that every kernel takes beyond its roofline time, under graph replay too: fill, drain, gap."""

    idle_power_w: float | None = None
    peak_power_w: float | None = None
    interconnect_bytes_per_s: float | None = None
    """To other devices, both directions together, as vendors print it."""

    verified: bool = False
    """Every figure that a roofline time rests on (matrix and vector rates, bandwidth) is verified."""
    figures: Mapping[str, Figure] = field(default_factory=lambda: MappingProxyType({}))
    """Origin by field name and, where a field has several, suffix: `memory_bytes`, `matrix_flops_per_s.bf16`."""

    @property
    def asynchronous(self) -> bool:
        """GPU: the host runs ahead, an eager phase takes max(device, host). CPU: each op is a call, the times add."""
        return self.kind == "gpu"

    @property
    def core_cycles_per_s(self) -> float:
        """Clock cycles of all cores together, at the clock of the vector peak: 108 x 1.41e9 of an A100. GPUs only."""
        return self.vector_flops_per_s / _FLOPS_PER_CYCLE.get(self.architecture or "", 256)

    def matrix_rate(self, dtype: DType) -> float:
        """Dense peak for products of `dtype`, in FLOP/s: 312e12 for bf16 on an A100.

        Raises:
            HardwareError: when the device has no such rate; a slower type is never put in its place.
        """
        try:
            return self.matrix_flops_per_s[dtype]
        except KeyError:
            known = ", ".join(each.value for each in self.matrix_flops_per_s)
            raise HardwareError(f"{self.name} has no {dtype.value} rate", allowed=known) from None

    def ridge_flops_per_byte(self, dtype: DType) -> float:
        """Arithmetic intensity above which a product is compute-bound: 153 FLOP/B for bf16 on an A100 SXM 80 GB.

        Raises:
            HardwareError: as `matrix_rate` does.
        """
        return self.matrix_rate(dtype) / self.memory_bytes_per_s


_FLOPS_PER_CYCLE = {"volta": 128, "turing": 128, "ampere": 128}
"""FP32 operations of a core in a cycle, by architecture: 64 FMA units a core there, 128 in every later one and in those
of the GA102 and of CDNA 3 (the vendors' white papers)."""


def load_hardware(name_or_path: str | Path) -> HardwareProfile:
    """The profile of a built-in name, of a TOML file, or of this machine (`auto`).

    A file is a `Path`, or text that holds a separator, ends in `.toml` or names something that exists. A built-in
    name, whatever its case, wins over a file of the same name; write `./t4` for the file. The same
    file with the same content is the same object, which other caches go by.

    Raises:
        HardwareError: unknown name (the nearest ones are offered), or a file that cannot be read or is malformed.
    """
    if isinstance(name_or_path, Path):
        return _load(name_or_path)
    if name_or_path == "auto":
        from costmodel.hardware.here import profile_here

        return _load(profile_here())
    known = builtin_hardware()
    if name_or_path.lower() in known:
        return _builtin(name_or_path.lower())
    if os.path.isdir(name_or_path):
        hint = "name the .toml file in it, or say auto for this machine's as it was probed"
        raise HardwareError("a device is a name or a file, and this is a folder", value=name_or_path, hint=hint)
    if os.path.dirname(name_or_path) or name_or_path.endswith(".toml") or os.path.exists(name_or_path):
        return _load(Path(name_or_path))
    if name_or_path.lower() in _THIS_MACHINE:
        hint = f"auto is this machine, once `validate probe --out my-device` measured it; known: {', '.join(known)}"
        raise HardwareError("no name of a device", value=name_or_path, hint=hint)
    hint = f"{nearest(name_or_path, known)} (`costmodel hw list` lists all; a path to a .toml file works too)"
    raise HardwareError("unknown hardware", value=name_or_path, hint=hint)


_THIS_MACHINE = frozenset({"cpu", "gpu", "cuda", "here", "local", "this", "host", "localhost", "cuda:0"})
"""Names under which other tools know the machine that they run on."""


@cache
def builtin_hardware() -> tuple[str, ...]:
    """Names of the profiles that ship with the package, sorted."""
    return tuple(sorted(path.stem for path in profile_folder().glob("*.toml")))


@cache
def _builtin(name: str) -> HardwareProfile:
    return _load(profile_folder() / f"{name}.toml")


def profile_folder() -> Path:
    """Where the profiles are: inside the installed package, else at the top of the checkout around it."""
    package = Path(__file__).resolve().parents[1]
    shipped = package / "hw_profiles"
    return shipped if shipped.is_dir() else package.parent / "hw_profiles"


def _load(path: Path) -> HardwareProfile:
    from costmodel.hardware.file import read_profile_text  # the readers are imported on first use

    return _of_text(read_profile_text(path), str(path))


@lru_cache(maxsize=64)
def _of_text(text: str, path: str) -> HardwareProfile:
    from costmodel.hardware.file import parse_profile

    return _to_si(parse_profile(text, path))


_TO_SI: dict[str, tuple[str, float]] = {
    "matrix_tflop_per_s": ("matrix_flops_per_s", 1e12),
    "vector_tflop_per_s": ("vector_flops_per_s", 1e12),
    "memory_gb_per_s": ("memory_bytes_per_s", 1e9),
    "memory_gb": ("memory_bytes", 1e9),
    "cache_mib": ("caches", 2**20),
    "cores": ("cores", 1),
    "host_launch_us": ("host_launch_s", 1e-6),
    "kernel_floor_us": ("kernel_floor_s", 1e-6),
    "idle_power_w": ("idle_power_w", 1),
    "peak_power_w": ("peak_power_w", 1),
    "interconnect_gb_per_s": ("interconnect_bytes_per_s", 1e9),
}
"""Key in the file -> (field of the profile, what one unit of the file is in SI). The only place that converts."""

_TO_FILE = {field: key for key, (field, _) in _TO_SI.items()}


def file_key(figure: str) -> str:
    """The key under [figures] of a profile's file that a figure comes from: of `caches.l2`, `cache_mib.l2`."""
    field, dot, part = figure.partition(".")
    return _TO_FILE[field] + dot + part


_ROOFLINE = ("matrix_flops_per_s", "vector_flops_per_s", "memory_bytes_per_s")


def _to_si(file: ProfileFile) -> HardwareProfile:
    values: dict[str, float] = {}
    figures: dict[str, Figure] = {}
    for key, entry in file.figures.items():
        head, dot, tail = key.partition(".")
        name, unit = _TO_SI[head]
        # Rounding to 15 digits drops the binary noise of the product: 989.4 * 1e12 is 989.4e12 again.
        values[name + dot + tail] = float(f"{entry.value * unit:.15g}")
        figures[name + dot + tail] = Figure(source=file.sources[entry.source], verified=entry.verified)
    rates = {d: values[key] for d in DType if (key := f"matrix_flops_per_s.{d.value}") in values}
    caches = {key.partition(".")[2]: value for key, value in values.items() if key.startswith("caches.")}
    return HardwareProfile(
        name=file.name,
        description=file.description,
        kind=file.kind,
        architecture=file.architecture,
        matrix_flops_per_s=MappingProxyType(rates),
        vector_flops_per_s=values["vector_flops_per_s"],
        memory_bytes_per_s=values["memory_bytes_per_s"],
        memory_bytes=int(values["memory_bytes"]),
        caches=tuple(CacheLevel(name=level, bytes=int(size)) for level, size in caches.items()),
        cores=int(values["cores"]),
        host_launch_s=values["host_launch_s"],
        kernel_floor_s=values["kernel_floor_s"],
        idle_power_w=values.get("idle_power_w"),
        peak_power_w=values.get("peak_power_w"),
        interconnect_bytes_per_s=values.get("interconnect_bytes_per_s"),
        verified=all(figure.verified for key, figure in figures.items() if key.startswith(_ROOFLINE)),
        figures=MappingProxyType(figures),
    )
