"""What fused attention holds beside its result: the logarithm of each row's sum, by hand, in torch and at the peak."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cases import spec_of

from costmodel.blocks import BlockIndexer
from costmodel.decomposition.factors import Decomposition
from costmodel.families.load import load_model
from costmodel.forward.ops import Op
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import load_hardware
from costmodel.model import ModelSpec
from costmodel.pricing.estimate import estimate
from costmodel.units import DType

A100 = load_hardware("a100-sxm-80gb")
LLAMA = load_model("llama2-7b")


@pytest.mark.parametrize("dtype", [DType.BF16, DType.FP32])
@pytest.mark.parametrize("work", [Workload.prefill(7, batch=3), Workload.decode(9, batch=3)], ids=["prefill", "decode"])
def test_fused_attention_holds_a_number_of_each_row_and_head(work: Workload, dtype: DType) -> None:
    """The logarithm of the softmax's sum, fp32 of shape (batch, heads, queries), whatever the activations' type."""
    ops = forward_ops(LLAMA, Decomposition(), replace(work, dtype=dtype))
    fused = [op for op in ops if op.attention is not None]
    assert len(fused) == LLAMA.num_layers
    assert {op.workspace_bytes for op in fused} == {3 * 32 * work.q_len * 4}


@pytest.mark.parametrize("kv_len", [12, 24, 25, 400])
def test_a_step_that_looks_at_chosen_blocks_reads_no_more_than_those(kv_len: int) -> None:
    """3 blocks of 8 positions: the longer cache is read whole until then, by hand 2 x 16 bits x width of a position; a
    prompt's queries look at no more either, and all of its keys are read."""
    chosen = replace(LLAMA, indexer=BlockIndexer(heads=2, width=16, block=8, top=3))
    step, dense = (_attended(model, Workload.decode(kv_len, batch=2)) for model in (chosen, LLAMA))
    read = min(kv_len, 24)
    assert step.attention is not None
    assert step.attention.kv_len == read
    assert step.cost.kv_read_bytes == 2 * 2 * 2 * read * 4096
    assert step.cost.executed_flops == 4 * 2 * read * 4096
    assert (step.cost == dense.cost) == (kv_len <= 24)
    prompt = _attended(chosen, Workload.prefill(kv_len))
    assert prompt.attention is not None
    assert prompt.attention.kv_len == kv_len
    seen = sum(min(query, 24) for query in range(1, kv_len + 1))
    assert prompt.cost.executed_flops == 4 * seen * 4096


def _attended(model: ModelSpec, work: Workload) -> Op:
    return next(op for op in forward_ops(model, Decomposition(), work) if op.attention is not None)


def test_torch_returns_that_number_too() -> None:
    torch = pytest.importorskip("torch")
    query = torch.zeros(3, 16, 10, 4)
    _, sums = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, query, query)
    assert tuple(sums.shape) == (3, 16, 10)
    assert sums.dtype == torch.float32


def test_the_peak_of_a_model_with_a_narrow_mlp_is_in_its_attention() -> None:
    """BERT of width 64, 16 heads and an MLP of 8 on 3 x 10 tokens: in the second layer live what entered the first and
    the second, query, key, value, the result (30 x 64 in 16 bits each) and the sums (30 x 16 in fp32)."""
    config = {
        "model_type": "bert",
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 16,
        "intermediate_size": 8,
        "vocab_size": 7,
        "max_position_embeddings": 64,
        "type_vocab_size": 1,
        "hidden_act": "gelu",
    }
    costs = estimate(spec_of(config), A100, Decomposition(), [Workload.prefill(10, batch=3)]).phases[0].dense
    assert costs.peak_memory_bytes - costs.weight_bytes == 6 * 30 * 64 * 2 + 30 * 16 * 4
