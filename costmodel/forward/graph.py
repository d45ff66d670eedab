"""The layer graph: one forward pass as a networkx DAG, for whoever wants to see, draw or check it.

Edges run from the operation that makes a tensor to those that read it (`kind="read"`) or keep it alive
(`kind="hold"`); q, k and v projections stand in parallel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from costmodel.decomposition.factors import Decomposition
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import Workload
from costmodel.model import ModelSpec

if TYPE_CHECKING:
    import networkx as nx


def build_graph(model: ModelSpec, decomposition: Decomposition, work: Workload) -> nx.DiGraph[str]:
    """The DAG of one pass: a node per operation, named as the operation, with the Op as attribute `op` and its place
    in execution order as `position`; edges carry `kind` (read or hold) and `bytes`, the size of the tensor."""
    import networkx as nx  # it takes as long to import as an estimate takes

    graph: nx.DiGraph[str] = nx.DiGraph()
    for position, op in enumerate(forward_ops(model, decomposition, work)):
        graph.add_node(op.name, op=op, position=position)
        for kind, sources in (("hold", op.holds), ("read", op.inputs)):
            for source in sources:
                graph.add_edge(source, op.name, kind=kind, bytes=graph.nodes[source]["op"].out_bytes)
    return graph
