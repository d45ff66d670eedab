"""Closed forms of cost.py against numbers that can be checked by hand, and against counting by brute force."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.decomposition.factors import LowRank, Tucker
from costmodel.families.load import load_model
from costmodel.forward.cost import (
    OpCost,
    activation_program,
    batched_gemm,
    elementwise,
    embedding,
    fused_attention,
    gemm,
    kv_append,
    matrix_bytes,
    norm_program,
)
from costmodel.forward.passes import FactoredLinear
from costmodel.forward.work import AttentionShape, keys_held, visible_pairs
from costmodel.forward.workload import Workload
from costmodel.tensors import WeightTensor
from costmodel.units import DType

BF16 = {"act_bytes": 2, "weight_dtype": DType.BF16}
costs = st.builds(OpCost, **{name: st.integers(0, 1 << 40) for name in OpCost._fields})


def test_gemm() -> None:
    # 2 x 1 x 4096 x 4096 FLOPs; a 32 MiB weight, 4096 inputs, 4096 outputs of 2 bytes
    assert gemm(1, 4096, 4096, **BF16) == OpCost(
        flops=33_554_432, weight_read_bytes=33_554_432, act_read_bytes=8192, act_write_bytes=8192, kernels=1
    )
    assert gemm(1, 4096, 4096, **BF16).hbm_bytes == 33_570_816
    assert gemm(3, 5, 7, **BF16, bias=True) == OpCost(
        flops=210, weight_read_bytes=80, act_read_bytes=42, act_write_bytes=30, kernels=1
    )


def test_factored_gemm() -> None:
    """The linears that replace 5 x 7 with a bias, for 3 tokens, by hand."""
    work = Workload.prefill(3, dtype=DType.BF16)
    tensor = WeightTensor(name="w", path="mlp.w", out_features=5, in_features=7, bias=True, group="mlp")
    linear = FactoredLinear(tensor, load_model("gpt2"), work)
    first, last = linear.ops("mlp.w", ("x",), (), LowRank(2))
    # 7 -> 2 -> 5: the intermediate 3 x 2 is written and read
    assert first.cost == OpCost(flops=84, weight_read_bytes=28, act_read_bytes=42, act_write_bytes=12, kernels=1)
    assert last.cost == OpCost(flops=60, weight_read_bytes=20 + 10, act_read_bytes=12, act_write_bytes=30, kernels=1)
    # 7 -> 2 -> 3 -> 5: 14 + 6 + 15 weights
    chain = list(linear.ops("mlp.w", ("x",), (), Tucker(2, 3)))
    assert [(op.name, op.gemm, op.cost.flops) for op in chain] == [
        ("mlp.w.in", (3, 2, 7), 84),
        ("mlp.w.core", (3, 3, 2), 36),
        ("mlp.w.out", (3, 5, 3), 90),
    ]
    assert [op.cost.weight_read_bytes for op in chain] == [28, 12, 30 + 10]
    assert [op.inputs for op in chain] == [("x",), ("mlp.w.in",), ("mlp.w.core",)]


def test_quantised_weights() -> None:
    assert matrix_bytes(10, 256, DType.BF16) == 5120
    assert matrix_bytes(10, 256, DType.INT8) == 2560 + 10 * 2  # a scale a row
    assert matrix_bytes(10, 256, DType.INT4) == 1280 + 10 * 2 * 2  # a scale for each 128 of a row
    assert matrix_bytes(10, 257, DType.INT4) == 1285 + 10 * 3 * 2
    assert matrix_bytes(10, 256, DType.INT8, scale_bytes=4) == 2600


def test_attention() -> None:
    # 2 sequences, 4 heads of 8, 2 KV heads, 3 queries on 5 keys
    cost = fused_attention(AttentionShape(2, 3, 5, 4, 2, 8), act_bytes=2, causal=True)
    assert cost.flops == 4 * 2 * 4 * 3 * 5 * 8
    assert cost.skipped_flops == 4 * 2 * 4 * 8 * (1 + 2)  # the first query misses 2 keys, the second 1
    assert cost.kv_read_bytes == 2 * 2 * 2 * 5 * 8 * 2
    assert cost.act_read_bytes == cost.act_write_bytes == 2 * 4 * 3 * 8 * 2
    assert cost.vector_flops == 5 * 2 * 4 * (3 + 4 + 5)
    encoder = fused_attention(AttentionShape(2, 5, 5, 4, 4, 8), act_bytes=2, causal=False, cached=False)
    assert encoder.skipped_flops == encoder.kv_read_bytes == 0
    assert encoder.act_read_bytes == 3 * 2 * 4 * 5 * 8 * 2


def test_small_operations() -> None:
    assert batched_gemm(6, 2, 3, 4, act_bytes=2) == OpCost(
        flops=288, act_read_bytes=96 + 144, act_write_bytes=72, kernels=1
    )
    assert embedding(5, 4, act_bytes=2) == OpCost(
        weight_read_bytes=40, act_read_bytes=40, act_write_bytes=40, kernels=1
    )
    assert kv_append(2, 3, 4, 8, act_bytes=2) == OpCost(act_read_bytes=768, kv_write_bytes=768, kernels=2)
    # 2 reads + 1 write
    assert elementwise("add", 3, 4, act_bytes=2) == OpCost(
        vector_flops=12, act_read_bytes=48, act_write_bytes=24, kernels=1
    )
    assert elementwise("copy", 3, 4, act_bytes=2).vector_flops == 0
    assert elementwise("layer_norm", 3, 4, act_bytes=2).weight_read_bytes == 16
    assert elementwise("layer_norm", 3, 4, act_bytes=2, weight=False).weight_read_bytes == 0
    # cast, pow, mean, add, rsqrt, mul, cast, mul by the weight
    assert elementwise("rms_norm", 3, 4, act_bytes=2).kernels == 8
    assert elementwise("softmax_upcast_bf16", 1, 8, act_bytes=2).act_write_bytes == 32 + 32 + 16
    assert [norm_program(kind, size) for kind, size in (("layer_norm", 4), ("rms_norm", 2), ("rms_norm", 4))] == [
        "layer_norm",
        "rms_norm",
        "rms_norm_fp32",
    ]
    assert [activation_program(name) for name in ("silu", "swish", "gelu_new")] == ["silu", "silu", "gelu_new"]
    with pytest.raises(KeyError):
        activation_program("celu")


@given(costs, costs, costs)
def test_costs_add(a: OpCost, b: OpCost, c: OpCost) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert a + OpCost() == a
    assert (a + b).hbm_bytes == a.hbm_bytes + b.hbm_bytes
    assert (a + b).flops == a.flops + b.flops


def test_arithmetic_intensity_of_nothing() -> None:
    assert OpCost().arithmetic_intensity == 0
    assert OpCost(flops=6, act_read_bytes=2, kv_read_bytes=1).arithmetic_intensity == 2


@given(st.integers(1, 12), st.integers(0, 12), st.booleans(), st.none() | st.integers(1, 30))
def test_visible_pairs_by_counting_the_mask(q_len: int, past: int, causal: bool, window: int | None) -> None:
    kv_len = past + q_len

    def seen(query: int, key: int) -> bool:
        return not causal or (key <= query and (window is None or key > query - window))

    pairs = [(query, key) for query in range(past, kv_len) for key in range(kv_len) if seen(query, key)]
    found = visible_pairs(q_len, kv_len, causal, window)
    assert (found, type(found)) == (len(pairs), int)
    if causal:
        held = keys_held(q_len, kv_len, window)
        assert held == len({key for _, key in pairs})
        assert visible_pairs(q_len, held, causal, window) == len(pairs)


@pytest.mark.parametrize("dtype", [DType.FP16, DType.FP32])
def test_traffic_of_a_gemm_grows_with_the_type(dtype: DType) -> None:
    size = dtype.bits // 8
    assert gemm(3, 5, 7, act_bytes=size, weight_dtype=dtype).hbm_bytes == (35 + 21 + 15) * size


def test_an_activation_of_three_numbers_reads_whole_activations_and_bytes_alone() -> None:
    cost = elementwise("xielu", 2, 8, act_bytes=2)
    assert cost.vector_flops == 3 + 12 * 16  # on three numbers, and on 16 elements twelve times
    assert cost.act_read_bytes == 17 * 32 + 16
    assert cost.act_write_bytes == 11 * 32 + 16
    assert cost.kernels == 15
