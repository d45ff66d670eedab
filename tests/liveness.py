"""Peak of live activations by its definition on the layer graph: the oracle of every faster form."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import networkx as nx

    from costmodel.forward.ops import Op


def peak_live_bytes(graph: nx.DiGraph[str]) -> int:
    """Largest sum of live activations over a pass in execution order.

    A tensor lives from its operation to the last one that reads or holds it; the pass's results live to the end.
    While an operation runs, its inputs, its result and its workspace are all there.
    """
    order = sorted(graph.nodes, key=lambda name: graph.nodes[name]["position"])
    last_use = {
        name: max((graph.nodes[user]["position"] for user in graph.successors(name)), default=len(order))
        for name in order
    }
    ending: dict[int, int] = {}
    live = peak = 0
    for position, name in enumerate(order):
        op: Op = graph.nodes[name]["op"]
        live += op.out_bytes
        ending[last_use[name]] = ending.get(last_use[name], 0) + op.out_bytes
        peak = max(peak, live + op.workspace_bytes)
        live -= ending.pop(position, 0)
    return peak
