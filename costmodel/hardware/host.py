"""Hosts: how fast the machine around a device launches work, by class, since a launch is the host's work."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

from costmodel.errors import HardwareError, nearest
from costmodel.files.node import Node
from costmodel.files.read import read_toml
from costmodel.hardware.profile import HardwareProfile, profile_folder
from costmodel.hardware.stack import load_stack

SCHEMA = 1
MEASURED = "measured"
"""Name of a host that was probed."""
_MODULES = "transformers"
"""The stack whose launches `validate probe` measures on a host."""
_MEASURED_SPREAD = 0.05
"""Of a host that was measured once; runs that one source repeated lie 4.5 % from their mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A class of host.

    Attributes:
        slowness: time of a launch over that on the reference host, the servers that A100s come in.
        spread: standard deviation of its logarithm among hosts of the class.
        architectures: devices that come in such hosts unless the question says otherwise.
        source: where the figures come from.
    """

    name: str
    description: str
    slowness: float
    spread: float
    architectures: tuple[str, ...]
    source: str


@cache
def hosts() -> Mapping[str, Host]:
    """The classes that ship, by name.

    Raises:
        HardwareError: when the file is malformed.
    """
    path = profile_folder() / "hosts" / "classes.toml"
    content = Node(str(path), read_toml(path, "hosts", HardwareError, limit=1 << 20), HardwareError)
    part = content.table(("schema", "hosts"))
    part["schema"].integer(SCHEMA, SCHEMA)
    rows = {}
    for name, node in part["hosts"].entries().items():
        row = node.table(("description", "slowness", "spread_pct", "architectures", "source"))
        rows[name] = Host(
            name=name,
            description=row["description"].text(),
            slowness=row["slowness"].number(0.01, 100),
            spread=row["spread_pct"].number(0, 200) / 100,
            architectures=tuple(each.text() for each in row["architectures"].items()),
            source=row["source"].text(),
        )
    return MappingProxyType(rows)


def host_of(name: str | None, hardware: HardwareProfile) -> Host:
    """The class of that name, or the one that devices of this architecture come in.

    Raises:
        HardwareError: when there is no class of that name.
    """
    known = hosts()
    if name is not None:
        if name not in known:
            raise HardwareError(
                "unknown host", value=name, allowed=", ".join(known), hint=nearest(name, tuple(known)) or ""
            )
        return known[name]
    for host in known.values():
        if hardware.architecture in host.architectures:
            return host
    return next(iter(known.values()))


def measured_host(host: Host, module_launch_s: float) -> Host:
    """The host of a class whose launches were measured: as slow as transformers' modules launch there, over what they
    take on the reference host, which scales the launches of every stack.

    Args:
        host: the class that it would be taken for.
        module_launch_s: seconds of a kernel that transformers' modules launch.
    """
    reference_s = load_stack(_MODULES).launch_s
    assert reference_s, "a host launches the modules one by one"
    return replace(host, name=MEASURED, slowness=module_launch_s / reference_s, spread=_MEASURED_SPREAD)
