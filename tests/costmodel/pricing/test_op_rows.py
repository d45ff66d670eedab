"""The fast rows of operations are those of the forward pass's definition."""

from __future__ import annotations

import random

import pytest

from costmodel.decomposition.factors import Decomposition, Factor, LowRank, Site, Tucker
from costmodel.errors import DecompositionError
from costmodel.families.load import load_model
from costmodel.forward.workload import Attention, LmHead, Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import estimate
from costmodel.pricing.op_rows import rows_of
from costmodel.units import DType

WORKS = [
    Workload.prefill(33, batch=2, dtype=DType.FP16, lm_head=LmHead.ALL, attention=Attention.UNFUSED),
    Workload.prefill(5000, dtype=DType.FP32),
    Workload.decode(4600, batch=3, dtype=DType.FP16, weight_dtype=DType.INT4, runtime=Runtime.GRAPH),
]


@pytest.mark.parametrize("name", ["llama2-7b", "mistral-7b", "qwen2.5-0.5b", "gpt2", "opt-350m", "bert-base"])
def test_rows_equal_those_of_the_definition(name: str) -> None:
    rng = random.Random(name)
    model, hardware = load_model(name), load_hardware("a100-sxm-80gb")
    for work in WORKS:
        if model.is_encoder and work.kv_len != work.q_len:
            continue
        dropped = frozenset(rng.sample(range(model.num_layers), rng.randint(0, 3)))
        factors: dict[Site, Factor] = {
            Site(layer, tensor.name): LowRank(rng.randint(1, 99))
            if rng.random() < 0.5
            else Tucker(rng.randint(1, 99), 7)
            for layer in range(model.num_layers)
            for tensor in model.tensors
            if layer not in dropped and rng.random() < 0.4
        }
        phase = estimate(model, hardware, Decomposition(factors, dropped), [work]).phases[0]
        for which in ("dense", "decomposed"):
            ops, _ = phase.ops(which)  # type: ignore[arg-type]
            assert phase.op_rows(which) == rows_of(tuple(ops), phase.pricer.time_model)  # type: ignore[arg-type]


def test_rows_are_the_callers_own() -> None:
    model, hardware = load_model("gpt2"), load_hardware("a100-sxm-80gb")
    phase = estimate(model, hardware, Decomposition(), [Workload.prefill(8)]).phases[0]
    for row in phase.op_rows():
        row["name"] = "changed"
    assert "changed" not in {row["name"] for row in phase.op_rows()}


@pytest.mark.parametrize("factor", [LowRank(2.5), Tucker(2, 3.5), LowRank(0), LowRank(769)])  # type: ignore[arg-type]
def test_estimate_refuses_what_is_no_rank(factor: Factor) -> None:
    model, hardware = load_model("gpt2"), load_hardware("a100-sxm-80gb")
    with pytest.raises(DecompositionError, match="rank out of range"):
        estimate(model, hardware, Decomposition({Site(0, "c_fc"): factor}), [Workload.prefill(8)])
