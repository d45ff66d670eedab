"""Logits of the last positions of several sequences are one matrix product, in what is timed as in the price."""

from __future__ import annotations

import torch
from torch.profiler import ProfilerActivity, profile

from costmodel.decomposition.factors import Decomposition
from costmodel.forward.workload import Workload
from costmodel.units import DType
from tests.validating import GPT2, tiny_spec
from validate.factors.replace import clone
from validate.models.build import build_model
from validate.models.passes import make_pass


def products(model: torch.nn.Module) -> set[str]:
    """The matrix products that a prefill of two sequences dispatches; GPT-2 has no batched ones of its own."""
    work = Workload.prefill(16, batch=2, dtype=DType.FP32)
    forward = make_pass(model, tiny_spec(GPT2), Decomposition(), work, torch.device("cpu"))
    with torch.inference_mode(), profile(activities=[ProfilerActivity.CPU]) as found:
        forward()
    return {event.key for event in found.key_averages()} & {"aten::bmm", "aten::mm", "aten::addmm"}


def test_the_head_makes_one_product_of_all_sequences() -> None:
    model = build_model(GPT2, tiny_spec(GPT2), dtype=DType.FP32, device=torch.device("cpu"))
    for each in (model, clone(model), clone(model, torch.clone)):
        assert products(each) == {"aten::mm", "aten::addmm"}
        assert not [name for name, weight in each.named_parameters() if weight.requires_grad and "wte" not in name]
    assert products(model.requires_grad_(False)) == {"aten::bmm", "aten::addmm"}  # what a frozen head would do
