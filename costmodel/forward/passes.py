"""The forward pass of a configuration: the list of operations that arrays, rows and the layer graph are made from."""

from __future__ import annotations

from collections.abc import Iterator

from costmodel.decomposition.factors import Decomposition, Factor, Site, factor_stages
from costmodel.forward.frame import INPUT, epilogue_ops, layer_ops, prologue
from costmodel.forward.ops import Op, site_gemm
from costmodel.forward.routing import stack_work
from costmodel.forward.workload import Workload
from costmodel.model import ModelSpec, WeightTensor


def forward_ops(model: ModelSpec, decomposition: Decomposition, work: Workload) -> list[Op]:
    """Every operation of one pass in execution order, with the names of the Hugging Face modules."""
    before, (current, _) = prologue(model, work)
    ops = list(before)
    outside = {op.name: op.name for op in before}
    for layer in range(model.num_layers):
        if layer in decomposition.dropped:
            continue
        names = {**outside, INPUT: current}
        prefix = f"{model.layer_prefix}.{layer}."
        kind = model.kind_of(layer)
        for op in layer_ops(kind, work, model.sliding_windows[layer]):
            placed = _place(op, names, prefix)
            if op.site is None or (factor := decomposition.factors.get(Site(layer, op.site))) is None:
                ops.append(placed)
            else:
                ops.extend(factor_ops(placed, kind.tensor(op.site), factor, kind, work))
            names[op.name] = current = ops[-1].name
    names = {**outside, INPUT: current}
    for op in epilogue_ops(model, work):
        ops.append(_place(op, names, ""))
        names[op.name] = op.name
    return ops


def factor_ops(dense: Op, tensor: WeightTensor, factor: Factor, kind: ModelSpec, work: Workload) -> Iterator[Op]:
    """The linears that replace one dense linear: `.in` and `.out`, with `.core` between them in the Tucker form."""
    stack, source = stack_work(tensor, kind, work), dense.inputs
    m = stack.rows
    for suffix, n, k, bias in factor_stages(factor, tensor):
        cost = site_gemm(work, tensor.name, stack, n, k, bias=bias)
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
            fp8=work.fp8,
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
        merged_n=op.merged_n,
        fp8=op.fp8,
    )
