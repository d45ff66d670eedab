"""Counts of a pass that fit 64 bits, whatever the ranks."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace

from costmodel.errors import InputError
from costmodel.forward.frame import epilogue_ops, layer_ops, prologue
from costmodel.forward.ops import Op
from costmodel.forward.workload import Phase, Workload
from costmodel.model import ModelSpec

_LARGEST = 1 << 62
"""No count of a pass, whatever its ranks, exceeds this; sums of a few stay within int64."""
_MOST_FACTORS = 3
"""Factors multiply no count of a dense linear by more: three linears of at most the smaller side's rank."""
_ORDINARY_TOKENS = 1 << 16
"""A model that is too large to count with so many tokens is to blame itself, not the workload."""


def check_counts(model: ModelSpec, work: Workload) -> None:
    """Raise InputError when a count of some configuration would not fit, and say whether model or workload is why."""
    if _most(model, work) <= _LARGEST:
        return
    token = replace(work, phase=Phase.PREFILL, batch=1, q_len=1, kv_len=1)
    if _most(model, token) * _ORDINARY_TOKENS > _LARGEST:
        raise InputError(
            f"{model.name} is too large to count",
            value=f"{model.num_params:,} parameters",
            hint="check the sizes in its configuration",
        )
    raise InputError(
        "batch x length is too large to count",
        value=f"{work.batch} x {work.kv_len}",
        hint="lower --batch or the lengths",
    )


@functools.lru_cache(maxsize=64)
def _most(model: ModelSpec, work: Workload) -> int:
    """An upper bound of every count of a pass, of any configuration."""
    layers = [summed_counts(layer_ops(kind, work, window)) for kind, window in dict.fromkeys(model.variants)]
    outside = summed_counts((*prologue(model, work).ops, *epilogue_ops(model, work)))
    return _MOST_FACTORS * max(
        model.num_layers * model.loops * max(layer[name] for layer in layers) + count for name, count in outside.items()
    )


def summed_counts(ops: Iterable[Op]) -> dict[str, int]:
    """FLOPs, bytes and kernels of operations together, by the names of their costs."""
    costs = [op.cost for op in ops]
    names = ("flops", "vector_flops", "hbm_bytes", "kernels")
    return {name: sum(getattr(cost, name) for cost in costs) for name in names}
