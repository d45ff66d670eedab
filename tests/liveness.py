"""One pass as a graph, and the peak of live activations by its definition on it: the oracle of every faster form."""

from __future__ import annotations

import networkx as nx

from costmodel.decomposition.factors import Decomposition
from costmodel.forward.ops import Op
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import Workload
from costmodel.model import ModelSpec


def build_graph(model: ModelSpec, decomposition: Decomposition, work: Workload) -> nx.DiGraph[str]:
    """A node per operation, named as the operation, with the Op as attribute `op` and its place in execution order as
    `position`; edges from the operation that makes a tensor to those that read it or keep it alive carry `kind` (read
    or hold) and `bytes`, the size of the tensor."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    for position, op in enumerate(forward_ops(model, decomposition, work)):
        graph.add_node(op.name, op=op, position=position)
        for kind, sources in (("hold", op.holds), ("read", op.inputs)):
            for source in sources:
                graph.add_edge(source, op.name, kind=kind, bytes=graph.nodes[source]["op"].out_bytes)
    return graph


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
