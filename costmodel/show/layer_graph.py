"""The layer graph of an estimate, folded for the eye: layers whose operations are wired alike become one block.

Nodes and edges of a folded graph carry sums over the layers that they stand for, so that the whole adds up to the pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from costmodel.decomposition.text import describe_layers
from costmodel.show.report import configuration_text, phase_title
from costmodel.show.roofline_chart import group_of

if TYPE_CHECKING:
    import networkx as nx

    from costmodel.forward.ops import Op
    from costmodel.pricing.estimate import Estimate
    from costmodel.pricing.phase_estimate import PhaseEstimate

Variant = Literal["dense", "factored"]
BEFORE, AFTER = "before the layers", "after the layers"
ENTRY = "hidden states"
"""Label of a block's node that stands for what a layer reads of the layer before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Operations that stand together: those of layers that are wired alike, or those before or after all layers.

    Attributes:
        name: unique in its graph.
        layers: how many, 0 outside them.
        latency_s: on the device, all layers together.
    """

    name: str
    layers: int
    latency_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerGraph:
    """One pass, folded.

    Attributes:
        title: what was run.
        blocks: in the order of their first layers.
        graph: a node per operation of a block, in execution order, with `label`, `block`, `kind`, `group` (a key of
            `costmodel.show.roofline_chart.GROUPS`), `factor`, `layers` (how many it stands for), `gemm` (n x k or
            nothing), and sums `flops`, `weight_read_bytes`, `hbm_bytes`, `latency_s`, `out_bytes`. Edges have
            `tensors`, how many pass, `bytes`, their size, `memory_s`, what reading them takes at the device's
            bandwidth, and `kind`: read, or hold where a tensor is only kept alive. From a block's last node back to its
            own `hidden states` runs the edge from layer to layer.
        latency_s: on the device, the whole pass.
    """

    phase: str
    variant: Variant
    title: str
    blocks: tuple[Block, ...]
    graph: nx.DiGraph[str]
    latency_s: float

    def nodes_of(self, block: Block) -> list[str]:
        """Names of a block's nodes in execution order."""
        return [name for name, data in self.graph.nodes(data=True) if data["block"] == block.name]


def layer_graphs(result: Estimate) -> tuple[str, list[LayerGraph]]:
    """The title of an estimate, and its folded graphs: dense, and factored where something is, phase by phase."""
    chosen = result.decomposition
    variants: tuple[Variant, ...] = ("dense", "factored") if chosen.factors or chosen.dropped else ("dense",)
    title = f"{result.model.name} on {result.hardware.name}: {configuration_text(chosen, result.model)}"
    bandwidth = result.hardware.memory_bytes_per_s
    return title, [folded(phase, variant, bandwidth) for phase in result.phases for variant in variants]


def folded(phase: PhaseEstimate, variant: Variant, memory_bytes_per_s: float) -> LayerGraph:
    """The graph of one pass, layers of equal wiring as one block; their shapes and ranks may differ."""
    import networkx as nx  # it takes as long to import as an estimate takes

    ops, timings = phase.ops("dense" if variant == "dense" else "decomposed")
    blocks, home = _homes(ops)
    firsts, entries = _entries(ops)
    graph: nx.DiGraph[str] = nx.DiGraph()
    sizes: dict[str, int] = {}
    for op, latency_s in zip(ops, timings.latency_s.tolist(), strict=True):
        sizes[op.name] = op.out_bytes
        layer, label = _split(op.name)
        name = f"{home[op.name]}/{label}"
        for kind, sources in (("hold", op.holds), ("read", op.inputs)):
            for source in sources:
                start = f"{home[source]}/{_split(source)[1]}"
                if layer is not None and source == entries[layer]:
                    entry = f"{home[op.name]}/{ENTRY}"
                    if entry not in graph:
                        graph.add_node(entry, **_empty(ENTRY, home[op.name], "entry"))
                    if op.name == firsts[layer]:
                        graph.nodes[entry]["layers"] += 1
                        graph.nodes[entry]["out_bytes"] += sizes[source]
                        _pass(graph, start, entry, "read", sizes[source], memory_bytes_per_s)
                    start = entry
                _pass(graph, start, name, kind, sizes[source], memory_bytes_per_s)
        if "label" not in graph.nodes.get(name, {}):
            graph.add_node(name, **_empty(_short(label), home[op.name], op.kind))
        _count(graph.nodes[name], op, latency_s, group_of(op, phase.pricer.model))
    spent = dict.fromkeys(blocks, 0.0)
    for _, data in graph.nodes(data=True):
        spent[data["block"]] += data["latency_s"]
    return LayerGraph(
        phase=phase.workload.phase.value,
        variant=variant,
        title=phase_title(phase),
        blocks=tuple(Block(name=name, layers=count, latency_s=spent[name]) for name, count in blocks.items()),
        graph=graph,
        latency_s=sum(spent.values()),
    )


def _split(name: str) -> tuple[int | None, str]:
    """The layer that an operation belongs to, None outside, and its name below that."""
    parts = name.split(".")
    for place, part in enumerate(parts):
        if part.isdecimal():
            return int(part), ".".join(parts[place + 1 :])
    return None, name


def _short(label: str) -> str:
    """The name without the modules that only group: `q_proj.in` for `self_attn.q_proj.in`."""
    parts = label.split(".")
    keep = 2 if parts[-1] in ("in", "core", "out", "dense", "add", "LayerNorm") or "all_" in parts[-1] else 1
    return ".".join(parts[-keep:])


def _entries(ops: Sequence[Op]) -> tuple[dict[int, str], dict[int, str | None]]:
    """For each layer its first operation, and the one whose result is its hidden states: what the first reads from
    outside the layer."""
    firsts: dict[int, str] = {}
    entries: dict[int, str | None] = {}
    for op in ops:
        layer, _ = _split(op.name)
        if layer is not None and layer not in firsts:
            firsts[layer] = op.name
            entries[layer] = next((source for source in op.inputs if _split(source)[0] != layer), None)
    return firsts, entries


def _homes(ops: Sequence[Op]) -> tuple[dict[str, int], dict[str, str]]:
    """Names of the blocks with how many layers each stands for, and the block of every operation."""
    wiring: dict[int, list[tuple[Any, ...]]] = {}
    for op in ops:
        layer, label = _split(op.name)
        if layer is not None:
            own = tuple(_split(source)[1] for source in op.inputs if _split(source)[0] == layer)
            wiring.setdefault(layer, []).append((label, op.kind, own))
    alike: dict[tuple[Any, ...], list[int]] = {}
    for layer, operations in wiring.items():
        alike.setdefault(tuple(operations), []).append(layer)
    names = {layer: _block_name(layers) for layers in alike.values() for layer in layers}
    home: dict[str, str] = {}
    seen = False
    for op in ops:
        layer, _ = _split(op.name)
        seen = seen or layer is not None
        home[op.name] = names[layer] if layer is not None else AFTER if seen else BEFORE
    counts = {_block_name(layers): len(layers) for layers in alike.values()}
    used = set(home.values())
    return {name: counts.get(name, 0) for name in (BEFORE, *counts, AFTER) if name in used}, home


def _block_name(layers: Sequence[int]) -> str:
    if len(layers) == 1:
        return f"layer {layers[0]}"
    return f"{len(layers)} {describe_layers(layers)}"


def _empty(label: str, block: str, kind: str) -> dict[str, Any]:
    return {
        "label": label,
        "block": block,
        "kind": kind,
        "group": "",
        "factor": False,
        "layers": 0,
        "gemm": "",
        "flops": 0,
        "weight_read_bytes": 0,
        "hbm_bytes": 0,
        "latency_s": 0.0,
        "out_bytes": 0,
    }


def _count(node: dict[str, Any], op: Op, latency_s: float, group: str) -> None:
    """Add an operation to the node that stands for it."""
    node["group"], node["factor"] = group, op.is_factor
    if op.gemm:
        shape = f"{op.gemm[1]} x {op.gemm[2]}"
        node["gemm"] = shape if node["gemm"] in ("", shape) else "several"
    node["layers"] += 1
    node["flops"] += op.cost.flops
    node["weight_read_bytes"] += op.cost.weight_read_bytes
    node["hbm_bytes"] += op.cost.hbm_bytes
    node["latency_s"] += latency_s
    node["out_bytes"] += op.out_bytes


def _pass(graph: Any, start: str, end: str, kind: str, size: int, memory_bytes_per_s: float) -> None:
    """Add a tensor to the edge that stands for it; what is read anywhere is read."""
    if not graph.has_edge(start, end):
        graph.add_edge(start, end, kind=kind, tensors=0, bytes=0, memory_s=0.0)
    edge = graph.edges[start, end]
    edge["tensors"] += 1
    edge["bytes"] += size
    edge["memory_s"] += size / memory_bytes_per_s
    if kind == "read":
        edge["kind"] = "read"
