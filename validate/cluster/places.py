"""Where the workers of a run sit: one on every GPU, or as many on a node's processors as their threads allow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from costmodel.errors import InputError

Kind = Literal["cpu", "cuda"]
_ACCELERATOR = "accelerator_type:"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Room for one worker.

    Attributes:
        node_id: as Ray knows the node.
        node: its address.
        number: among the places of the node, from 0.
        cpus, gpus: that the worker takes.
    """

    node_id: str
    node: str
    number: int
    cpus: int
    gpus: int


def kind_of_device(nodes: Sequence[Mapping[str, Any]], device: str) -> Kind:
    """The kind of device that a run asks of every node; auto takes what all nodes have.

    Args:
        nodes: as `ray.nodes()` lists them.
        device: auto, cpu or cuda.

    Raises:
        InputError: when auto finds GPUs on some nodes only, or cuda finds none.
    """
    with_gpu, without = _split(nodes)
    if device == "cpu" or (device == "auto" and not with_gpu):
        return "cpu"
    if not with_gpu:
        raise InputError("no node of the cluster has a CUDA device", value=device, hint="use --device cpu")
    if device == "auto" and without:
        value = f"GPUs on {', '.join(with_gpu)}, none on {', '.join(without)}"
        raise InputError("the cluster's devices are unlike", value=value, hint="give --device cuda or --device cpu")
    return "cuda"


def places(
    nodes: Sequence[Mapping[str, Any]], kind: Kind, *, threads: int | None = None, alone: bool = False
) -> list[Place]:
    """Where workers can sit, node by node.

    Args:
        nodes: as `ray.nodes()` lists them; those that are not alive have no place.
        threads: of a worker on a CPU; None for all of its node, of which it is then the only one.
        alone: one worker on each node, which takes all its processors whatever its threads: times are not taken beside
            each other, nor beside what else the cluster runs.

    Raises:
        InputError: when GPUs are of several kinds, or no node has so many processors.
    """
    alive = sorted((node for node in nodes if node["Alive"]), key=lambda node: str(node["NodeID"]))
    if kind == "cuda":
        return _on_gpus(alive)
    found = []
    for node in alive:
        cores = int(node["Resources"].get("CPU", 0))
        taken = cores if threads is None else threads
        count = cores // taken if taken else 0
        if alone and count:
            taken, count = cores, 1
        found += [_place(node, number, cpus=taken, gpus=0) for number in range(count)]
    if alive and not found:
        most = max(int(node["Resources"].get("CPU", 0)) for node in alive)
        allowed = f"up to {most}, the processors of one node of the cluster"
        raise InputError("--threads", value=threads or "all", allowed=allowed)
    return found


def left_out(nodes: Sequence[Mapping[str, Any]], found: Sequence[Place]) -> list[str]:
    """Addresses of the nodes that are alive and have none of these places."""
    taken = {place.node_id for place in found}
    return [node["NodeManagerAddress"] for node in nodes if node["Alive"] and node["NodeID"] not in taken]


def _on_gpus(nodes: Sequence[Mapping[str, Any]]) -> list[Place]:
    kinds: dict[str, list[str]] = {}
    found = []
    for node in nodes:
        resources = node["Resources"]
        gpus = int(resources.get("GPU", 0))
        for name in resources if gpus else ():
            if name.startswith(_ACCELERATOR):
                kinds.setdefault(name.removeprefix(_ACCELERATOR), []).append(node["NodeManagerAddress"])
        cpus = int(resources.get("CPU", 0)) // max(gpus, 1)
        found += [_place(node, number, cpus=cpus, gpus=1) for number in range(gpus)]
    if len(kinds) > 1:
        value = ", ".join(f"{name} on {', '.join(where)}" for name, where in sorted(kinds.items()))
        raise InputError("the cluster's devices are unlike", value=value, hint="run on nodes of one kind of GPU")
    return found


def _place(node: Mapping[str, Any], number: int, *, cpus: int, gpus: int) -> Place:
    return Place(node_id=node["NodeID"], node=node["NodeManagerAddress"], number=number, cpus=cpus, gpus=gpus)


def _split(nodes: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[str]]:
    """Addresses of the nodes with a GPU, and of those without."""
    parts: tuple[list[str], list[str]] = ([], [])
    for node in nodes:
        if node["Alive"]:
            parts[not node["Resources"].get("GPU")].append(node["NodeManagerAddress"])
    return parts
