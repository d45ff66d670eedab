"""Folded layer graphs as files that other programs read: GraphML and Mermaid."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from costmodel.files.cells import shown
from costmodel.show.layer_graph import LayerGraph
from costmodel.units import seconds, si


def graphml(title: str, graphs: Sequence[LayerGraph]) -> bytes:
    """All graphs as one GraphML file: a node's name starts with its phase and variant, which are attributes too; bytes,
    FLOPs and seconds are sums over the layers that it stands for."""
    import networkx as nx

    whole: nx.DiGraph[str] = nx.DiGraph(name=shown(title))
    for each in graphs:
        prefix = f"{each.phase}/{each.variant}"
        for name, data in each.graph.nodes(data=True):
            whole.add_node(f"{prefix}/{name}", **data, phase=each.phase, variant=each.variant)
        for source, target, data in each.graph.edges(data=True):
            whole.add_edge(f"{prefix}/{source}", f"{prefix}/{target}", **data)
    stream = io.BytesIO()
    nx.write_graphml_xml(whole, stream, encoding="utf-8", prettyprint=True)
    return stream.getvalue()


def mermaid(title: str, graphs: Sequence[LayerGraph]) -> str:
    """All graphs as a Mermaid flow chart: a subgraph for each pass and block, numbers of one layer in the mean."""
    lines = ["---", f"title: {_plain(title)}", "---", "flowchart TB"]
    for number, each in enumerate(graphs):
        ids = {name: f"n{number}_{place}" for place, name in enumerate(each.graph)}
        lines.append(f'  subgraph g{number}["{each.variant}, {each.phase}: {seconds(each.latency_s)}"]')
        for place, block in enumerate(each.blocks):
            lines.append(f'    subgraph g{number}b{place}["{_plain(block.name)}: {seconds(block.latency_s)}"]')
            lines += [f"      {ids[name]}{_box(each.graph.nodes[name])}" for name in each.nodes_of(block)]
            lines.append("    end")
        for source, target, data in each.graph.edges(data=True):
            if data["kind"] == "read":
                size = si(data["bytes"] / data["tensors"], "B") if data["bytes"] else ""
                lines.append(f"    {ids[source]} -->{f'|{size}|' if size else ''} {ids[target]}")
        lines.append("  end")
    return "\n".join(lines) + "\n"


def _plain(text: str) -> str:
    """A text without what Mermaid takes for its own."""
    return shown(text).replace('"', "'").replace(":", " -")


def _box(data: dict[str, Any]) -> str:
    if data["kind"] == "entry":
        return f'(["{data["label"]}"])'
    count = max(1, data["layers"])
    cost = f"{si(data['hbm_bytes'] / count, 'B')}, {seconds(data['latency_s'] / count, 3)}"
    return f'["{_plain(data["label"])}<br/>{cost}"]'
