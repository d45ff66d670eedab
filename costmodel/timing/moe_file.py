"""Numbers of mixture-of-experts layers by device, type and kernel: reads `hw_profiles/calibrations/moe.toml`."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np

from costmodel.arrays import Floats
from costmodel.errors import CalibrationError, InputError
from costmodel.files.node import Node
from costmodel.files.read import read_toml
from costmodel.hardware.profile import HardwareProfile, load_hardware, profile_folder
from costmodel.units import DType

SCHEMA = 1
_ALIGNED = 16
"""Elements of which a width must be a multiple for whole vectors to be loaded."""
DEFAULT_DEVICE = "h100-sxm-80gb"
"""Whose numbers a device takes that neither was measured nor has a measured device of its architecture."""
WIDEN = 2.0
"""Factor on the interval, in logarithms, of a device that was not measured, and of a layer beyond those that were. No
measurement says it."""
_LARGEST = 1 << 40
_NUMBERS = {
    "compute": (1e-3, 10.0),
    "memory": (1e-3, 10.0),
    "core_memory": (1e-3, 1e4),
    "stream_memory": (1e-3, 10.0),
    "overlap": (1.0, 100.0),
    "rounding": (0.0, 1.0),
    "inner_copies": (0.0, 100.0),
    "hidden_copies": (0.0, 100.0),
    "fixed_us": (0.0, 1e4),
    "expert_us": (0.0, 1e3),
    "low": (-10.0, 0.0),
    "high": (0.0, 10.0),
}
_FACTORS, _FACTOR_LIMITS = ("tuned_compute", "tuned_memory", "odd_compute", "odd_memory", "few_memory"), (1e-2, 1e2)
"""Numbers that a kernel may leave out, which are 1 then."""


Size = TypeVar("Size")


class MeasuredSizes(NamedTuple, Generic[Size]):
    """Sizes of a layer of experts: of all devices, but for `intermediate_size`, that of one device."""

    tokens: Size
    hidden_size: Size
    intermediate_size: Size
    top_k: Size
    experts: Size


@dataclass(frozen=True, slots=True, kw_only=True)
class MoeNumbers:
    """The numbers of one kernel.

    Attributes:
        compute, memory: shares of the peak rate and bandwidth that grouped products reach.
        core_memory: of its even share of the bandwidth that one core reaches alone; above 1.
        stream_memory: share of the bandwidth that copies of activations reach.
        overlap: exponent with which arithmetic, traffic and a tile's walk overlap.
        rounding: how much of the way widths are rounded up to 128, in logarithms.
        tile_shares: weights, adding up to 1, of rows rounded up to 16, 64 and 128 for each expert.
        inner_copies, hidden_copies: times that activations of all rows pass through memory.
        fixed_s, expert_s: time of a layer, and of each expert hit.
        low, high: ln of the factors to the ends of the 90 % interval, of shapes held out.
        measured: least and most of each size of the layers that they were fitted to.
        tuned: (experts, width) on a device for which the kernel's library has tiles of its own.
        tuned_compute, tuned_memory: factors on the shares where it has.
        odd_compute, odd_memory: factors on the shares where the width on a device is no multiple of 16.
        few_memory: factor on the share of bandwidth where there are no more tokens than experts, for which the library
            takes other tiles.
    """

    kernel: str
    compute: float
    memory: float
    core_memory: float
    stream_memory: float
    overlap: float
    rounding: float
    tile_shares: tuple[float, ...]
    inner_copies: float
    hidden_copies: float
    fixed_s: float
    expert_s: float
    low: float
    high: float
    measured: MeasuredSizes[tuple[int, int]]
    tuned: tuple[tuple[int, int], ...] = ()
    tuned_compute: float = 1.0
    tuned_memory: float = 1.0
    odd_compute: float = 1.0
    odd_memory: float = 1.0
    few_memory: float = 1.0

    def shape_factors(self, tokens: Floats, experts: Floats, width: Floats) -> tuple[Floats, Floats]:
        """Factors on `compute` and `memory` of layers with so many tokens, experts and columns of each on a device."""
        tuned = np.zeros(np.shape(width), dtype=np.bool_)
        for number, columns in self.tuned:
            tuned |= (experts == number) & (width == columns)
        odd, few = width % _ALIGNED != 0, (tokens <= experts) & ~tuned
        compute = np.where(tuned, self.tuned_compute, 1.0) * np.where(odd, self.odd_compute, 1.0)
        memory = np.where(tuned, self.tuned_memory, 1.0) * np.where(odd, self.odd_memory, 1.0)
        return compute, memory * np.where(few, self.few_memory, 1.0)


def numbers_for(hardware: HardwareProfile, dtype: DType, kernel: str | None = None) -> tuple[MoeNumbers, str]:
    """The numbers of a device, and their level: `probes` where it was measured, `generation` where a sibling was.

    Raises:
        InputError: when the device has no kernel of that name.
        CalibrationError: when the shipped file is malformed.
    """
    kind = "fp8" if dtype is DType.FP8 else "bf16"
    table = moe_table()
    own = table.get((hardware.name, kind))
    found = own or _sibling(table, hardware, kind)
    if kernel is None:
        numbers = found[0]
    else:
        named = [each for each in found if each.kernel == kernel]
        if not named:
            known = ", ".join(each.kernel for each in found)
            raise InputError(f"{hardware.name} has no such kernel", value=kernel, allowed=known)
        numbers = named[0]
    return numbers, "probes" if own else "generation"


def _sibling(
    table: Mapping[tuple[str, str], tuple[MoeNumbers, ...]], hardware: HardwareProfile, kind: str
) -> tuple[MoeNumbers, ...]:
    """Numbers of a measured device of the same architecture, else of the default, without its tuned tiles and with the
    interval widened."""
    measured = [name for name, other in table if other == kind]
    alike = [name for name in measured if load_hardware(name).architecture == hardware.architecture]
    return tuple(
        MoeNumbers(
            **{name: getattr(each, name) for name in MoeNumbers.__slots__ if name not in ("low", "high", "tuned")},
            low=each.low * WIDEN,
            high=each.high * WIDEN,
        )
        for each in table[(alike or [DEFAULT_DEVICE])[0], kind]
    )


@functools.cache
def moe_table() -> Mapping[tuple[str, str], tuple[MoeNumbers, ...]]:
    """All of the shipped file, by device and `bf16` or `fp8`; the usual kernel first."""
    return read_moe(profile_folder() / "calibrations" / "moe.toml")


def read_moe(path: Path) -> Mapping[tuple[str, str], tuple[MoeNumbers, ...]]:
    """Read and check a file.

    Raises:
        CalibrationError: one line that names the file, the key, the value found and what is allowed.
    """
    content = Node(str(path), read_toml(path, "table of mixtures of experts", CalibrationError), CalibrationError)
    part = content.table(["schema", "kernels"])
    part["schema"].integer(SCHEMA, SCHEMA)
    table: dict[tuple[str, str], tuple[MoeNumbers, ...]] = {}
    for node in part["kernels"].items(1):
        required = ["device", "dtype", "kernel", "source", "tile_shares", "measured", *_NUMBERS]
        row = node.table(required, ["tuned", *_FACTORS])
        row["source"].text()
        shares = row["tile_shares"].array((3,), 0, 1)
        if abs(shares.sum() - 1) > 1e-3:
            raise row["tile_shares"].wrong("three shares that add up to 1")
        values = {name: row[name].number(low, high) for name, (low, high) in _NUMBERS.items()}
        values |= {name: row[name].number(*_FACTOR_LIMITS) for name in _FACTORS if name in row}
        fixed_s, expert_s = (values.pop(name) * 1e-6 for name in ("fixed_us", "expert_us"))
        numbers = MoeNumbers(
            kernel=row["kernel"].text(),
            measured=_measured(row["measured"]),
            tile_shares=tuple((shares / shares.sum()).tolist()),
            tuned=_tuned(row["tuned"]) if "tuned" in row else (),
            fixed_s=fixed_s,
            expert_s=expert_s,
            **values,
        )
        key = row["device"].text(), row["dtype"].choice(("bf16", "fp8"))
        table[key] = (*table.get(key, ()), numbers)
    return table


def _tuned(node: Node) -> tuple[tuple[int, int], ...]:
    pairs = [each.array((2,), 1, _LARGEST) for each in node.items()]
    return tuple((int(number), int(width)) for number, width in pairs)


def _measured(node: Node) -> MeasuredSizes[tuple[int, int]]:
    sizes = node.table(MeasuredSizes._fields)
    ends = {name: sizes[name].array((2,), 1, _LARGEST) for name in MeasuredSizes._fields}
    for name, (low, high) in ends.items():
        if low > high:
            raise sizes[name].wrong("the least, then the most")
    return MeasuredSizes(**{name: (int(low), int(high)) for name, (low, high) in ends.items()})
