"""Stacks: the software that executes a model, described as data, as what it changes against bare kernels.

The forward pass of this package is that of the Hugging Face modules run by PyTorch, each kernel timed alone. A stack
merges and fuses kernels, copies caches, upcasts, and pays its host for every launch: its file says by how much, each
figure with its source. `hw_profiles/README.md` documents the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

from costmodel.errors import HardwareError, nearest
from costmodel.files.node import Node
from costmodel.files.read import read_toml
from costmodel.hardware.profile import profile_folder

SCHEMA = 1
"""Version of the file format."""
CLASSES = ("gemm", "attention", "cache", "other")
"""Classes of operations with figures of their own: weight products, attention, the KV cache, everything else."""
CLASS_NAMES = ("eager", "script", "graph", "engine", "own-kernels", "kernels")
"""What stacks of one kind do alike: host-launched modules, a scripted module, captured or compiled modules, an engine
with merged kernels, an engine with matrix kernels of its own, and bare kernels without a host."""
CACHES = ("static", "growing", "paged")
_SCALARS = {
    "step_us": (0.0, 1e6),
    "context_mb": (0.0, 1e5),
    "spread_pct": (0.0, 200.0),
    "launch_spread_pct": (0.0, 200.0),
}
"""Figures that are one number, with the least and most that a file may say."""
_LAUNCH, _LAUNCH_LIMITS = "launch_us", (0.0, 1e4)
"""A figure that may be left out: launches then take what those of bare kernels do."""
_LARGEST_FACTOR = 20.0
_READS, _READS_LIMITS = "gemm_bytes_per_cycle", (0.1, 1e4)
"""The other: without it matrix kernels read as fast as the memory gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackFigure:
    """Where a number of a stack comes from: a measurement that others published, or a reasoning."""

    key: str
    value: float
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """What executes a model, against the Hugging Face modules' kernels each timed alone.

    Attributes:
        aliases: other names that it is asked for by.
        kind: one of CLASS_NAMES.
        runtime: `eager` where the host launches kernel by kernel, `graph` where a pass is replayed or compiled.
        attention: `fused` or `unfused`: what the stack runs unless the question says otherwise.
        cache: how the KV cache is kept, one of CACHES.
        merges: whether dense weights that read the same input are one product; a factored one stands alone.
        time: by class of operation, seconds over those of the kernels that it stands for, beside their fixed time.
        launches: by class, kernels that the stack launches over those of the modules (merged products, which count as
            one already, aside).
        launch_s: host seconds of one launched operation, on the reference host (`costmodel.hardware.host`); None where
            the stack has no launch of its own, and its launches take what those of bare kernels do on the device.
        gemm_bytes_per_cycle: most bytes that a core of a GPU reads in a clock cycle under the stack's matrix kernels,
            whatever the memory could give; None where nothing but the memory limits them.
        step_s: seconds that every pass takes beside the device's work: scheduling, sampling, a server's loop.
        context_bytes: memory of the process beside tensors: the device's context, workspaces.
        spread: standard deviation of log(measured / predicted) of whole passes beside that of the kernels.
        launch_spread: the same of the host's seconds.
        figures: every number with its origin, for display.
    """

    name: str
    description: str
    aliases: tuple[str, ...]
    kind: str
    runtime: str
    attention: str
    cache: str
    merges: bool
    time: Mapping[str, float]
    launches: Mapping[str, float]
    launch_s: float | None
    gemm_bytes_per_cycle: float | None
    step_s: float
    context_bytes: int
    spread: float
    launch_spread: float
    figures: tuple[StackFigure, ...]

    @property
    def is_bare(self) -> bool:
        """Whether it changes nothing against bare kernels: `eager` and `graph` are names for `--runtime`."""
        factors = {*self.time.values(), *self.launches.values()}
        own = self.launch_s is not None or self.gemm_bytes_per_cycle is not None
        return factors == {1.0} and not (own or self.merges or self.step_s or self.spread)


def names_bare_kernels(name: str | None) -> bool:
    """Whether a question's stack, or none, leaves kernels as PyTorch launches them.

    Raises:
        HardwareError: when there is no such stack.
    """
    return name is None or load_stack(name).is_bare


def load_stack(name_or_path: str | Path) -> Stack:
    """The built-in stack of that name, or the one in a TOML file.

    Raises:
        HardwareError: one line that names what was asked for, or the file, the key, the value and what is allowed.
    """
    text = str(name_or_path)
    names = builtin_stacks()
    if text in names:
        return _builtin(text)
    if text.endswith(".toml"):
        return _read(Path(text))
    for name in names:
        if text in _builtin(name).aliases:
            return _builtin(name)
    raise HardwareError(
        "unknown stack", value=text, allowed="costmodel stacks list, or a .toml file", hint=nearest(text, names)
    )


@cache
def builtin_stacks() -> tuple[str, ...]:
    """Names of the stacks that ship, sorted."""
    return tuple(sorted(path.stem for path in (profile_folder() / "stacks").glob("*.toml")))


@cache
def _builtin(name: str) -> Stack:
    return _read(profile_folder() / "stacks" / f"{name}.toml")


def _read(path: Path) -> Stack:
    content = Node(str(path), read_toml(path, "stack", HardwareError, limit=1 << 20), HardwareError)
    keys = ("schema", "name", "description", "kind", "runtime", "attention", "cache", "sources", "figures")
    part = content.table(keys, ("aliases", "merges"), hint="hw_profiles/README.md says what it is")
    part["schema"].integer(SCHEMA, SCHEMA)
    sources = {key: node.text() for key, node in part["sources"].entries().items()}
    figures: list[StackFigure] = []

    def figure(node: Node, low: float, high: float) -> float:
        entry = node.table(("value", "source"))
        source = entry["source"].text()
        if source not in sources:
            raise entry["source"].wrong(", ".join(sources))
        value = entry["value"].number(low, high)
        figures.append(StackFigure(key=node.key.removeprefix("figures."), value=value, source=sources[source]))
        return value

    given = part["figures"].table(("time", "launches", *_SCALARS), (_LAUNCH, _READS))
    by_class = {
        name: MappingProxyType(
            {kind: figure(node, 0, _LARGEST_FACTOR) for kind, node in given[name].table(CLASSES).items()}
        )
        for name in ("time", "launches")
    }
    scalar = {name: figure(given[name], low, high) for name, (low, high) in _SCALARS.items()}
    runtime = part["runtime"].choice(("eager", "graph"))
    launch_us = figure(given[_LAUNCH], *_LAUNCH_LIMITS) if _LAUNCH in given else None
    if runtime == "eager" and launch_us == 0:
        hint = "leave the figure out where a launch takes what bare kernels' launches do"
        raise given[_LAUNCH].entries()["value"].wrong("above 0 where the host launches kernels one by one", hint)
    return Stack(
        name=part["name"].text(),
        description=part["description"].text(),
        aliases=tuple(node.text() for node in part["aliases"].items()) if "aliases" in part else (),
        kind=part["kind"].choice(CLASS_NAMES),
        runtime=runtime,
        attention=part["attention"].choice(("fused", "unfused")),
        cache=part["cache"].choice(CACHES),
        merges=part["merges"].flag() if "merges" in part else False,
        time=by_class["time"],
        launches=by_class["launches"],
        launch_s=None if launch_us is None else launch_us * 1e-6,
        gemm_bytes_per_cycle=figure(given[_READS], *_READS_LIMITS) if _READS in given else None,
        step_s=scalar["step_us"] * 1e-6,
        context_bytes=round(scalar["context_mb"] * 1e6),
        spread=scalar["spread_pct"] / 100,
        launch_spread=scalar["launch_spread_pct"] / 100,
        figures=tuple(figures),
    )
