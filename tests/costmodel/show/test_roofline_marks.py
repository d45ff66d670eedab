"""Marks of the roofline picture by hand: what a kernel executes, masked or not, and the bytes that it moves."""

from __future__ import annotations

import pytest

from costmodel.decomposition.factors import Decomposition
from costmodel.families.load import load_model
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import estimate
from costmodel.show.roofline_chart import Mark, RooflineChart

A100 = load_hardware("a100-sxm-80gb")
SOFTMAX_OPS = 5


def mark_of(model_name: str, work: Workload, role: str) -> Mark:
    found = estimate(load_model(model_name), A100, Decomposition(), [work])
    (mark,) = [mark for mark in RooflineChart.of(found).panels[0].marks if role in mark.roles]
    return mark


@pytest.mark.parametrize("length", [512, 4096])
def test_a_mark_counts_what_causal_attention_executes(length: int) -> None:
    """32 layers of 32 heads of 128: only pairs on and below the diagonal, 4 x 128 FLOPs and 5 of the softmax each;
    Q, K, V read and the result written once. At 4,096 tokens 1,034 FLOP/B; the whole square would be twice that."""
    mark = mark_of("llama2-7b", Workload.prefill(length), "attention")
    pairs = 32 * 32 * length * (length + 1) // 2
    assert mark.operations == 32
    assert mark.work_flops == (4 * 128 + SOFTMAX_OPS) * pairs
    assert mark.hbm_bytes == 32 * 4 * 32 * length * 128 * 2
    assert mark.work_intensity == pytest.approx({512: 129.502, 4096: 1034.252}[length], abs=1e-3)
    assert mark.flops_per_s == pytest.approx(mark.work_flops / mark.latency_s)
    assert mark.to_json()["work_intensity"] == mark.work_intensity


def test_a_key_that_the_estimate_has_too_says_the_same() -> None:
    """4,096 tokens: 2,048 FLOP/B of attention, which counts causal products whole, in both."""
    work = Workload.prefill(4096)
    mark = mark_of("llama2-7b", work, "attention").to_json()
    rows = estimate(load_model("llama2-7b"), A100, Decomposition(), [work]).phases[0].op_rows()
    row = next(row for row in rows if row["kind"] == "attention")
    assert (mark["flops"], mark["hbm_bytes"]) == (32 * row["flops"], 32 * row["hbm_bytes"])
    assert mark["arithmetic_intensity"] == row["arithmetic_intensity"] == 2048
    assert mark["work_intensity"] == pytest.approx(1034.252, abs=1e-3)


def test_a_mark_of_an_encoder_counts_the_whole_square() -> None:
    """BERT sees every pair: 12 layers of 12 heads of 64, twice the causal work but for the diagonal."""
    mark = mark_of("bert-base", Workload.prefill(384, batch=8), "attention")
    pairs = 12 * 8 * 12 * 384 * 384
    assert mark.work_flops == (4 * 64 + SOFTMAX_OPS) * pairs
    assert mark.hbm_bytes == 12 * 4 * 8 * 384 * 768 * 2


def test_a_mark_of_a_decode_step_reads_the_cache_once() -> None:
    """One query sees all 1,024 keys: no pair is masked, and the traffic is that of keys and values."""
    mark = mark_of("llama2-7b", Workload.decode(1024, batch=4), "attention")
    assert mark.work_flops == 32 * 4 * 32 * 1024 * (4 * 128 + SOFTMAX_OPS)
    assert mark.hbm_bytes == 32 * 4 * (2 * 1024 + 2) * 4096 * 2


def test_a_mark_of_products_adds_weights_up() -> None:
    """Gate, up and down of Llama 2 7B: 4,096 x 11,008 each, 2 m n k FLOPs, every operand once, no mask."""
    mark = mark_of("llama2-7b", Workload.prefill(512), "gate_proj")
    assert mark.roles == ("gate_proj", "up_proj", "down_proj")
    assert mark.work_flops == 3 * 32 * 2 * 512 * 4096 * 11008
    assert mark.hbm_bytes == 3 * 32 * 2 * (4096 * 11008 + 512 * (4096 + 11008))
