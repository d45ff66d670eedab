"""Time of a collective operation among devices of one server: latency, a middle regime, and bandwidth, as a p-norm.

latency = first x (1 + more x log2(n / 2)); bandwidth = wire(n) x message / achieved rate, with wire(n) = 2 (n - 1) / n
of an all-reduce and (n - 1) / n of the others (the volume that each device must send at least; Patarasuk and Yuan,
"Bandwidth optimal all-reduce algorithms", JPDC 69(2), 2009). Between them lie protocols that trade latency for
bandwidth (NCCL's LL and LL128), a time that grows with the root of the message: middle x sqrt(latency x bandwidth). The
achieved rate is a share of one direction of the link, changes with n by a power, by a factor above two devices where
those share a bus, and for an all-reduce of eight where a switch reduces (NVLink SHARP).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from costmodel.arrays import Floats, Ints
from costmodel.errors import CalibrationError, InputError
from costmodel.files.node import Node
from costmodel.files.read import read_toml
from costmodel.forward.workload import MAX_DEVICES
from costmodel.hardware.profile import HardwareProfile, profile_folder
from costmodel.timing.columns import COLLECTIVES

SCHEMA = 1
ALL_REDUCE = "all_reduce"
CUSTOM = "custom"
"""An all-reduce of a serving engine's own (vLLM), in one kernel, against that of the library (NCCL)."""
LIBRARIES = ("nccl", CUSTOM)
WIDEN = 2.0
"""Factor on the interval, in logarithms, of a device that was not measured. No measurement says it."""
_SWITCHED, _LONELY = 8, 2
_NUMBERS = {
    "first_us": (0.1, 1e4),
    "more": (0.0, 100.0),
    "rate": (1e-4, 10.0),
    "rate_power": (-5.0, 5.0),
    "switched": (1e-2, 100.0),
    "shared_bus": (1e-2, 100.0),
    "middle": (0.0, 100.0),
    "sharpness": (1.0, 100.0),
    "low": (-10.0, 0.0),
    "high": (0.0, 10.0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveNumbers:
    """The numbers of one collective on devices of one kind; the module's text says what they mean.

    Attributes:
        first_s: latency between two devices.
        more: what each doubling of devices adds, as a share of `first_s`.
        rate: share of one direction of the link that four devices reach.
        rate_power: exponent of n / 4 in the rate.
        switched: factor on the rate of an all-reduce of eight.
        shared_bus: factor on the rate above two devices.
        middle, sharpness: size of the middle regime, and exponent of the p-norm.
        low, high: ln of the factors to the ends of the 90 % interval, of numbers of devices held out.
    """

    first_s: float
    more: float
    rate: float
    rate_power: float
    switched: float
    shared_bus: float
    middle: float
    sharpness: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectiveTimes:
    """Seconds with the ends of the 90 % interval, arrays of the messages' shape, and what they stand on."""

    latency_s: Floats
    p05_s: Floats
    p95_s: Floats
    latency_part_s: Floats
    bandwidth_part_s: Floats
    level: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """Devices of one kind of link: what they are, one direction's rate of those measured, and numbers by collective."""

    name: str
    devices: tuple[str, ...]
    architectures: tuple[str, ...]
    link_bytes_per_s: float
    numbers: Mapping[str, CollectiveNumbers]


def collective_time(
    hardware: HardwareProfile,
    collective: str,
    num_gpus: int | Ints,
    message_bytes: float | Floats,
    *,
    library: str = "nccl",
) -> CollectiveTimes:
    """The time of a collective on one server.

    Args:
        hardware: of each device; its interconnect says the rate of the link, without one it is a bus (PCIe).
        collective: one of COLLECTIVES.
        num_gpus: that take part, 1 to MAX_DEVICES; one device takes no time.
        message_bytes: of the whole message: what an all-reduce reduces, an all-gather ends with, the input of the
            others. Arrays broadcast.
        library: `nccl`, or `custom` for an all-reduce of a serving engine's own.

    Raises:
        InputError: when something asked for does not exist or is out of range.
    """
    devices, message = np.broadcast_arrays(
        np.asarray(num_gpus, dtype=np.float64), np.asarray(message_bytes, dtype=np.float64)
    )
    _check(collective, library, devices, message)
    fabric, level = _fabric_of(hardware)
    numbers = fabric.numbers[CUSTOM if library == CUSTOM else collective]
    link = fabric.link_bytes_per_s
    if hardware.interconnect_bytes_per_s is not None and level != "probes":
        link = hardware.interconnect_bytes_per_s / 2
    latency, bandwidth, total = times_of(numbers, collective, np.maximum(devices, 2), np.maximum(message, 1), link)
    some = devices > 1
    widen = 1.0 if level == "probes" else WIDEN
    return CollectiveTimes(
        latency_s=np.where(some, total, 0.0),
        p05_s=np.where(some, total * np.exp(numbers.low * widen), 0.0),
        p95_s=np.where(some, total * np.exp(numbers.high * widen), 0.0),
        latency_part_s=np.where(some, latency, 0.0),
        bandwidth_part_s=np.where(some, bandwidth, 0.0),
        level=level,
    )


def times_of(
    numbers: CollectiveNumbers, collective: str, devices: Floats, message_bytes: Floats, link_bytes_per_s: float
) -> tuple[Floats, Floats, Floats]:
    """Latency, bandwidth time and the whole, by these numbers; two devices or more."""
    reduces = collective == ALL_REDUCE
    latency = numbers.first_s * (1 + numbers.more * np.log2(devices / _LONELY))
    rate = link_bytes_per_s * numbers.rate * (devices / 4) ** numbers.rate_power
    rate = rate * np.where(devices > _LONELY, numbers.shared_bus, 1.0)
    rate = rate * np.where(reduces & (devices == _SWITCHED), numbers.switched, 1.0)
    bandwidth = (2 if reduces else 1) * (devices - 1) / devices * message_bytes / rate
    middle = numbers.middle * np.sqrt(latency * bandwidth)
    p = numbers.sharpness
    total = (latency**p + middle**p + bandwidth**p) ** (1 / p)
    return latency, bandwidth, total


def _check(collective: str, library: str, devices: Floats, message: Floats) -> None:
    if collective not in COLLECTIVES:
        raise InputError("unknown collective", value=collective, allowed=", ".join(COLLECTIVES))
    if library not in LIBRARIES or (library == CUSTOM and collective != ALL_REDUCE):
        allowed = ", ".join(LIBRARIES) if collective == ALL_REDUCE else f"nccl for {collective}"
        raise InputError("unknown library", value=library, allowed=allowed)
    if devices.size and not (devices.min() >= 1 and devices.max() <= MAX_DEVICES):
        raise InputError(
            "devices of a collective", value=f"{devices.max():g}", allowed=f"1 to {MAX_DEVICES}, of one server"
        )
    if message.size and not (message.min() >= 0 and np.isfinite(message).all()):
        raise InputError("message of a collective", value=float(message.min()), allowed="bytes, not negative")


def _fabric_of(hardware: HardwareProfile) -> tuple[Fabric, str]:
    """The fabric that a device was measured in, or that one of its architecture or with no link would be in."""
    known = fabrics()
    for fabric in known:
        if hardware.name in fabric.devices:
            return fabric, "probes"
    bus = next(fabric for fabric in known if not fabric.architectures)
    if hardware.interconnect_bytes_per_s is None:
        return bus, "generation"
    linked = [fabric for fabric in known if fabric.architectures]
    return next((fabric for fabric in linked if hardware.architecture in fabric.architectures), linked[0]), "generation"


@functools.cache
def fabrics() -> tuple[Fabric, ...]:
    """All of the shipped file."""
    return read_fabrics(profile_folder() / "calibrations" / "collectives.toml")


def read_fabrics(path: Path) -> tuple[Fabric, ...]:
    """Read and check a file.

    Raises:
        CalibrationError: one line that names the file, the key, the value found and what is allowed.
    """
    content = Node(str(path), read_toml(path, "table of collectives", CalibrationError), CalibrationError)
    part = content.table(["schema", "source", "fabrics"])
    part["schema"].integer(SCHEMA, SCHEMA)
    part["source"].text()
    found = []
    for name, node in part["fabrics"].entries().items():
        row = node.table(["devices", "architectures", "link_gb_per_s", "collectives"])
        collectives = row["collectives"].table([*COLLECTIVES, CUSTOM])
        found.append(
            Fabric(
                name=name,
                devices=tuple(each.text() for each in row["devices"].items(1)),
                architectures=tuple(each.text() for each in row["architectures"].items()),
                link_bytes_per_s=row["link_gb_per_s"].number(1e-3, 1e6) * 1e9,
                numbers={key: _numbers(each) for key, each in collectives.items()},
            )
        )
    if not any(fabric.architectures for fabric in found) or all(fabric.architectures for fabric in found):
        raise part["fabrics"].wrong("one fabric or more of architectures, and one of none: the bus")
    return tuple(found)


def _numbers(node: Node) -> CollectiveNumbers:
    row = node.table(_NUMBERS)
    values = {name: row[name].number(low, high) for name, (low, high) in _NUMBERS.items()}
    return CollectiveNumbers(first_s=values.pop("first_us") * 1e-6, **values)
