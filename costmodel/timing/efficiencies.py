"""What devices of a generation reach of their peaks: `hw_profiles/calibrations/generations.toml`, read and checked."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from costmodel.errors import CalibrationError
from costmodel.files.node import Node
from costmodel.files.read import read_toml
from costmodel.hardware.profile import HardwareProfile, profile_folder
from costmodel.timing.calibration.base import Base
from costmodel.timing.calibration.shaped import Alignment
from costmodel.units import DType

SCHEMA = 1
ARITHMETIC: Mapping[DType, str] = MappingProxyType(
    {DType.FP32: "fp32", DType.TF32: "tf32", DType.FP8: "fp8", DType.FP16: "half", DType.BF16: "half"}
)
"""Row of the file by type of a GEMM; a type without an entry, or whose row a generation lacks, takes that of `half`."""
_NEEDED = ("half", "fp32", "prefill", "decode", "other")
_NUMBERS = ("compute", "memory", "kernel_us", "overlap")


@dataclass(frozen=True, slots=True, kw_only=True)
class Efficiency:
    """What one class of operations reaches.

    Attributes:
        compute, memory: of the peak rate and the peak bandwidth, by large work.
        kernel_s: time of a kernel that does next to nothing.
        overlap: exponent with which arithmetic and traffic overlap, as of `Base`.
        watts_per_flops: power that the full rate needs, per FLOP/s; 0 where power is no limit.
    """

    compute: float
    memory: float
    kernel_s: float
    overlap: float
    watts_per_flops: float = 0.0

    def sustained(self, flops_per_s: float, power_w: float | None) -> float:
        """The share of a peak rate that `power_w` sustains: min(1, power / power that the peak needs)."""
        needed = self.watts_per_flops * flops_per_s
        return 1.0 if power_w is None or needed <= power_w else power_w / needed

    def base(self, flops_per_s: float, hardware: HardwareProfile, more_s: float) -> Base:
        """The achieved roofline of a device whose peak rate is `flops_per_s`, with `more_s` beside each kernel."""
        return Base(
            flops_per_s=flops_per_s * self.compute * self.sustained(flops_per_s, hardware.peak_power_w),
            bytes_per_s=hardware.memory_bytes_per_s * self.memory,
            fixed_s=self.kernel_s + more_s,
            overlap=self.overlap,
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Generation:
    """The numbers of one generation.

    Attributes:
        name: an architecture of the profiles, or gpu or cpu where a profile names none.
        source: what they rest on.
        siblings: profiles whose calibrations its other devices take over, the preferred one first.
        log_sd, sibling_log_sd: standard deviation of ln(measured / predicted) on these numbers alone, and on a
            sibling's calibration.
        classes: by row of the file.
        alignment: of tensor cores.
    """

    name: str
    source: str
    siblings: tuple[str, ...]
    log_sd: float
    sibling_log_sd: float
    classes: Mapping[str, Efficiency]
    alignment: Alignment

    def gemm(self, dtype: DType) -> Efficiency:
        """Of products of a type."""
        return self.classes.get(ARITHMETIC.get(dtype, "half")) or self.classes["half"]


def generation_of(hardware: HardwareProfile) -> Generation:
    """The generation that a profile's architecture names, or the average of its kind.

    Raises:
        CalibrationError: when the shipped file is malformed.
    """
    return generations()[hardware.architecture or hardware.kind]


@functools.cache
def generations() -> Mapping[str, Generation]:
    """All of the shipped file."""
    return read_generations(profile_folder() / "calibrations" / "generations.toml")


def read_generations(path: Path) -> Mapping[str, Generation]:
    """Read and check a file.

    Raises:
        CalibrationError: one line that names the file, the key, the value found and what is allowed.
    """
    content = Node(str(path), read_toml(path, "table of generations", CalibrationError), CalibrationError)
    part = content.table(["schema", "alignment", "generations"])
    part["schema"].integer(SCHEMA, SCHEMA)
    factors = part["alignment"].table(["compute_8", "compute_1", "memory_1", "source"])
    alignment = Alignment(**{name: node.number(1, 100) for name, node in factors.items() if name != "source"})
    return MappingProxyType(
        {name: _generation(name, node, alignment) for name, node in part["generations"].entries().items()}
    )


def _generation(name: str, node: Node, alignment: Alignment) -> Generation:
    part = node.table(["source", "log_sd", *_NEEDED], ["siblings", "sibling_log_sd", "tf32", "fp8"])
    log_sd = part["log_sd"].number(0, 10)
    classes = {key: _efficiency(part[key]) for key in (*_NEEDED, "tf32", "fp8") if key in part}
    return Generation(
        name=name,
        source=part["source"].text(),
        siblings=tuple(each.text() for each in part["siblings"].items()) if "siblings" in part else (),
        log_sd=log_sd,
        sibling_log_sd=part["sibling_log_sd"].number(0, 10) if "sibling_log_sd" in part else log_sd,
        classes=MappingProxyType(classes),
        alignment=alignment,
    )


def _efficiency(node: Node) -> Efficiency:
    part = node.table(_NUMBERS, ["watts_per_tflop"])
    return Efficiency(
        compute=part["compute"].number(1e-3, 1),
        memory=part["memory"].number(1e-3, 1),
        kernel_s=part["kernel_us"].number(0, 1e6) * 1e-6,
        overlap=part["overlap"].number(1, 100),
        watts_per_flops=part["watts_per_tflop"].number(0, 1e3) * 1e-12 if "watts_per_tflop" in part else 0.0,
    )
