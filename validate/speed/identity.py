"""Proof that the model built is the one priced: parameters, bytes and FLOPs, to the integer."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from costmodel.decomposition.factors import Decomposition
from costmodel.forward.workload import Attention, Workload
from costmodel.model import ModelSpec
from validate.errors import MeasurementError
from validate.factors.replace import clone
from validate.models.build import set_attention, set_experts
from validate.models.passes import cache_bytes, make_pass
from validate.speed.records import Identity


def identities(
    model: nn.Module, spec: ModelSpec, decomposition: Decomposition, work: Workload, expected: dict[str, int]
) -> list[Identity]:
    """Counts of the real model beside the cost model's.

    FLOPs are counted by torch's FlopCounterMode over a twin of the model's own modules on the meta device, with
    unfused attention, since the counter sees nothing of fused attention on a CPU; the two forms have the same FLOPs.

    Args:
        model: with `decomposition` applied.
        expected: the cost model's params, weight_bytes, flops and kv_cache_bytes.
    """
    found = {
        "params": sum(parameter.numel() for parameter in model.parameters()),
        "weight_bytes": sum(parameter.nbytes for parameter in model.parameters()),
        "flops": count_flops(model, spec, decomposition, work),
        "kv_cache_bytes": cache_bytes(spec, decomposition, work),
    }
    return [Identity(name=name, expected=expected[name], found=count) for name, count in found.items()]


def require_equal(checks: list[Identity]) -> None:
    """Raise MeasurementError, naming every count that differs."""
    wrong = [
        f"{check.name} {check.found:,} instead of {check.expected:,}"
        for check in checks
        if check.found != check.expected
    ]
    if wrong:
        raise MeasurementError("identity", f"the model built is not the one priced: {', '.join(wrong)}")


def count_flops(model: nn.Module, spec: ModelSpec, decomposition: Decomposition, work: Workload) -> int:
    """FLOPs of matrix products in one pass, by torch's own counter.

    The rotary tables are left out: transformers 5.17 multiplies positions and frequencies as matrices there, an outer
    product that later versions do element by element.
    """
    meta = torch.device("meta")
    twin = clone(model, lambda tensor: tensor.to(meta))
    set_attention(twin, Attention.UNFUSED)
    if spec.experts is not None:
        set_experts(twin, "batched_mm")  # its products are the same wherever tokens go, of which meta knows nothing
    run = make_pass(twin, spec, decomposition, work, meta)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        run()
    tables = sum(
        sum(counts.values()) for name, counts in counter.get_flop_counts().items() if name.endswith(".rotary_emb")
    )
    return int(counter.get_total_flops() - tables)
