"""The forward pass of a configuration as a list of operations and as a networkx DAG; peak live memory of the DAG.

The DAG is the definition. Edges run from the operation that makes a tensor to those that read it (`kind="read"`) or
keep it alive (`kind="hold"`); q, k and v projections stand in parallel. Faster equivalents elsewhere
(costmodel.pricing.pricer) are tested against it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from costmodel.decomposition.factors import Decomposition, Factor, Site, factor_stages
from costmodel.forward.cost import gemm
from costmodel.forward.frame import INPUT, epilogue_ops, first_input, layer_ops, prologue_ops
from costmodel.forward.ops import Op
from costmodel.forward.workload import Workload
from costmodel.model import ModelSpec, WeightTensor

if TYPE_CHECKING:
    import networkx as nx


def forward_ops(model: ModelSpec, decomposition: Decomposition, work: Workload) -> list[Op]:
    """Every operation of one pass in execution order, with the names of the Hugging Face modules."""
    before = prologue_ops(model, work)
    ops, current = list(before), first_input(before)
    tensors = {tensor.name: tensor for tensor in model.tensors}
    outside = {op.name: op.name for op in before}
    for layer in range(model.num_layers):
        if layer in decomposition.dropped:
            continue
        names = {**outside, INPUT: current}
        prefix = f"{model.layer_prefix}.{layer}."
        for op in layer_ops(model, work, model.sliding_windows[layer]):
            factor = decomposition.factors.get(Site(layer, op.site)) if op.site else None
            if factor is None or op.site is None:
                placed = [_place(op, names, prefix)]
            else:
                placed = list(factor_ops(_place(op, names, prefix), tensors[op.site], factor, work))
            names[op.name] = current = placed[-1].name
            ops.extend(placed)
    names = {**outside, INPUT: current}
    for op in epilogue_ops(model, work):
        ops.append(_place(op, names, ""))
        names[op.name] = op.name
    return ops


def factor_ops(dense: Op, tensor: WeightTensor, factor: Factor, work: Workload) -> Iterator[Op]:
    """The linears that replace one dense linear: `.in` and `.out`, with `.core` between them in the Tucker form."""
    m, source = work.tokens, dense.inputs
    for suffix, n, k, bias in factor_stages(factor, tensor):
        cost = gemm(m, n, k, act_bytes=work.act_bytes, weight_dtype=work.site_dtype, bias=bias)
        name = dense.name + suffix
        yield Op(
            name=name,
            kind="gemm",
            cost=cost,
            out_bytes=m * n * work.act_bytes,
            gemm=(m, n, k),
            inputs=source,
            holds=dense.holds if source is dense.inputs else (*dense.holds, *dense.inputs),
            site=dense.site,
        )
        source = (name,)


def _place(op: Op, names: dict[str, str], prefix: str) -> Op:
    return Op(
        name=prefix + op.name,
        kind=op.kind,
        cost=op.cost,
        out_bytes=op.out_bytes,
        workspace_bytes=op.workspace_bytes,
        gemm=op.gemm,
        attention=op.attention,
        inputs=tuple([names[name] for name in op.inputs]),
        holds=tuple([names[name] for name in op.holds]),
        site=op.site,
    )


def build_graph(model: ModelSpec, decomposition: Decomposition, work: Workload) -> nx.DiGraph[str]:
    """The DAG of one pass: a node per operation, named as the operation, with the Op as attribute `op` and its place
    in execution order as `position`; edges carry `kind` (read or hold) and `bytes`, the size of the tensor."""
    import networkx as nx

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
