"""What fused attention holds beside its result: the logarithm of each row's sum, by hand, in torch and at the peak."""

from __future__ import annotations

from dataclasses import replace

import pytest
from cases import spec_of

from costmodel.decomposition.factors import Decomposition
from costmodel.families.load import load_model
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import load_hardware
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
