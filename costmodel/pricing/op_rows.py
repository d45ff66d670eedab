"""Operations of a pass as rows with the contract's keys, fast: equal layers are priced once, all factors in one sweep.

The equivalent of `costmodel.forward.passes.forward_ops`, row by row, and tested against it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from costmodel.decomposition.factors import Decomposition, Site, Stage, factor_stages
from costmodel.forward.frame import epilogue_ops, layer_ops, prologue_ops
from costmodel.forward.ops import Op
from costmodel.pricing.linears import linear_columns
from costmodel.pricing.pricer import PhasePricer
from costmodel.timing.columns import OpColumns, OpTimings, TimeModel

Row = dict[str, Any]
_KEYS = (
    "name",
    "kind",
    "m",
    "n",
    "k",
    "flops",
    "vector_flops",
    "hbm_bytes",
    "kernels",
    "arithmetic_intensity",
    "compute_s",
    "memory_s",
    "overhead_s",
    "latency_s",
    "bound",
)


def op_rows(pricer: PhasePricer, decomposition: Decomposition) -> list[Row]:
    """Every operation of a pass in execution order, of a configuration that was checked against the model."""
    model = pricer.model
    before, layers, after = _templates(pricer)
    tensors = {tensor.name: tensor for tensor in model.tensors}
    rows = [row.copy() for row in before]
    names: list[str] = []
    stages: list[Stage] = []
    places: list[int] = []
    for layer in range(model.num_layers):
        if layer in decomposition.dropped:
            continue
        prefix = f"{model.layer_prefix}.{layer}."
        for site, template in layers[model.sliding_windows[layer]]:
            factor = decomposition.factors.get(Site(layer, site)) if site is not None else None
            name = prefix + template["name"]
            if factor is None or site is None:
                rows.append({**template, "name": name})
                continue
            chain = factor_stages(factor, tensors[site])
            names += [name + stage.suffix for stage in chain]
            stages += chain
            places += range(len(rows), len(rows) + len(chain))
            rows += [{}] * len(chain)
    for place, row in zip(places, _factor_rows(pricer, names, stages), strict=True):
        rows[place] = row
    return rows + [row.copy() for row in after]


def _factor_rows(pricer: PhasePricer, names: list[str], stages: list[Stage]) -> list[Row]:
    """The linears of factored weights."""
    if not names:
        return []
    m = pricer.work.tokens
    n, k, has_bias = np.array([stage[1:] for stage in stages], dtype=np.int64).T
    linears, _ = linear_columns(pricer.work, n, k, n * has_bias)
    columns = [each.tolist() for each in (n, k, linears.matrix_flops, linears.hbm_bytes)] + _timed(
        pricer.time_model.times(linears)
    )
    return [
        {
            "name": name,
            "kind": "gemm",
            "m": m,
            "n": width,
            "k": depth,
            "flops": work,
            "vector_flops": 0,
            "hbm_bytes": moved,
            "kernels": 1,
            "arithmetic_intensity": work / moved,
            "compute_s": compute,
            "memory_s": memory,
            "overhead_s": overhead,
            "latency_s": latency,
            "bound": bound,
        }
        for name, width, depth, work, moved, compute, memory, overhead, latency, bound in zip(
            names, *columns, strict=True
        )
    ]


@functools.lru_cache(maxsize=64)
def _templates(pricer: PhasePricer) -> tuple[list[Row], dict[int | None, list[tuple[str | None, Row]]], list[Row]]:
    """Rows before the layers; of one dense layer by its sliding window, with the site of each; after the layers."""
    model, work, times = pricer.model, pricer.work, pricer.time_model
    layers = {}
    for window in dict.fromkeys(model.sliding_windows):
        ops = layer_ops(model, work, window)
        layers[window] = list(zip([op.site for op in ops], rows_of(ops, times), strict=True))
    return rows_of(prologue_ops(model, work), times), layers, rows_of(epilogue_ops(model, work), times)


def rows_of(ops: tuple[Op, ...], time_model: TimeModel) -> list[Row]:
    """Any operations as rows."""
    columns = _timed(time_model.times(OpColumns.of(ops)))
    return [
        dict(
            zip(
                _KEYS,
                (
                    op.name,
                    op.kind,
                    *(op.gemm or (None, None, None)),
                    op.cost.flops,
                    op.cost.vector_flops,
                    op.cost.hbm_bytes,
                    op.cost.kernels,
                    op.cost.arithmetic_intensity,
                    *timed,
                ),
                strict=True,
            )
        )
        for op, *timed in zip(ops, *columns, strict=True)
    ]


def _timed(timings: OpTimings) -> list[list[Any]]:
    columns = (timings.compute_s, timings.memory_s, timings.overhead_s, timings.latency_s)
    return [*(column.tolist() for column in columns), timings.bound()]
