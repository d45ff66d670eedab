"""Closed forms of cost.py against numbers that can be checked by hand, and against counting by brute force."""

from __future__ import annotations

from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.cost import (
    OpCost,
    activation_program,
    batched_gemm,
    elementwise,
    embedding,
    fused_attention,
    gemm,
    keys_held,
    kv_append,
    low_rank_gemm,
    matrix_bytes,
    norm_program,
    total,
    tucker_gemm,
    visible_pairs,
)
from costmodel.units import DType

BF16 = {"act_bytes": 2, "weight_dtype": DType.BF16}
costs = st.builds(OpCost, **{field.name: st.integers(0, 1 << 40) for field in fields(OpCost)})
sizes = st.integers(1, 5000)


def test_gemm() -> None:
    # 2 x 1 x 4096 x 4096 FLOPs; a 32 MiB weight, 4096 inputs, 4096 outputs of 2 bytes
    assert gemm(1, 4096, 4096, **BF16) == OpCost(
        flops=33_554_432, weight_bytes=33_554_432, act_read_bytes=8192, act_write_bytes=8192, kernels=1
    )
    assert gemm(1, 4096, 4096, **BF16).hbm_bytes == 33_570_816
    assert gemm(3, 5, 7, **BF16, bias=True) == OpCost(
        flops=210, weight_bytes=80, act_read_bytes=42, act_write_bytes=30, kernels=1
    )


def test_factored_gemm() -> None:
    # 5 x 7 through 2: 2 x 3 x 2 x (5 + 7) FLOPs; the intermediate 3 x 2 is written and read
    assert low_rank_gemm(3, 5, 7, 2, **BF16, bias=True) == OpCost(
        flops=144, weight_bytes=48 + 10, act_read_bytes=42 + 12, act_write_bytes=12 + 30, kernels=2
    )
    # 7 -> 2 -> 3 -> 5: 14 + 6 + 15 weights
    assert tucker_gemm(3, 5, 7, 2, 3, **BF16, bias=False) == OpCost(
        flops=210, weight_bytes=70, act_read_bytes=42 + 12 + 18, act_write_bytes=12 + 18 + 30, kernels=3
    )


def test_quantised_weights() -> None:
    assert matrix_bytes(10, 256, DType.BF16) == 5120
    assert matrix_bytes(10, 256, DType.INT8) == 2560 + 10 * 2  # a scale a row
    assert matrix_bytes(10, 256, DType.INT4) == 1280 + 10 * 2 * 2  # a scale for each 128 of a row
    assert matrix_bytes(10, 257, DType.INT4) == 1285 + 10 * 3 * 2
    assert matrix_bytes(10, 256, DType.INT8, scale_bytes=4) == 2600


def test_attention() -> None:
    # 2 sequences, 4 heads of 8, 2 KV heads, 3 queries on 5 keys
    cost = fused_attention(2, 4, 2, 3, 5, 8, act_bytes=2, causal=True)
    assert cost.flops == 4 * 2 * 4 * 3 * 5 * 8
    assert cost.skipped_flops == 4 * 2 * 4 * 8 * (1 + 2)  # the first query misses 2 keys, the second 1
    assert cost.kv_read_bytes == 2 * 2 * 2 * 5 * 8 * 2
    assert cost.act_read_bytes == cost.act_write_bytes == 2 * 4 * 3 * 8 * 2
    assert cost.vector_flops == 5 * 2 * 4 * (3 + 4 + 5)
    encoder = fused_attention(2, 4, 4, 5, 5, 8, act_bytes=2, causal=False, cached=False)
    assert encoder.skipped_flops == encoder.kv_read_bytes == 0
    assert encoder.act_read_bytes == 3 * 2 * 4 * 5 * 8 * 2


def test_small_operations() -> None:
    assert batched_gemm(6, 2, 3, 4, act_bytes=2) == OpCost(
        flops=288, act_read_bytes=96 + 144, act_write_bytes=72, kernels=1
    )
    assert batched_gemm(6, 2, 3, 4, act_bytes=2, shared_rhs=3).act_read_bytes == 96 + 48
    assert embedding(5, 4, act_bytes=2) == OpCost(weight_bytes=40, act_read_bytes=40, act_write_bytes=40, kernels=1)
    assert kv_append(2, 3, 4, 8, act_bytes=2) == OpCost(act_read_bytes=768, kv_write_bytes=768, kernels=2)
    # 2 reads + 1 write
    assert elementwise("add", 3, 4, act_bytes=2) == OpCost(
        vector_flops=12, act_read_bytes=48, act_write_bytes=24, kernels=1
    )
    assert elementwise("copy", 3, 4, act_bytes=2).vector_flops == 0
    assert elementwise("layer_norm", 3, 4, act_bytes=2).weight_bytes == 16
    assert elementwise("layer_norm", 3, 4, act_bytes=2, weight=False).weight_bytes == 0
    # cast, pow, mean, add, rsqrt, mul, cast, mul by the weight
    assert elementwise("rms_norm", 3, 4, act_bytes=2).kernels == 8
    assert elementwise("softmax_upcast_bf16", 1, 8, act_bytes=2).act_write_bytes == 32 + 32 + 16
    assert [norm_program(rms, size) for rms, size in ((False, 2), (True, 2), (True, 4))] == [
        "layer_norm", "rms_norm", "rms_norm_fp32",
    ]  # fmt: skip
    assert [activation_program(name) for name in ("silu", "swish", "gelu_new")] == ["silu", "silu", "gelu_new"]
    with pytest.raises(KeyError):
        activation_program("celu")


@given(costs, costs, costs)
def test_costs_add(a: OpCost, b: OpCost, c: OpCost) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c) == total([a, b, c])
    assert a + OpCost() == a == total([a])
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
    assert visible_pairs(q_len, kv_len, causal, window) == len(pairs)
    if causal:
        held = keys_held(q_len, kv_len, window)
        assert held == len({key for _, key in pairs})
        assert visible_pairs(q_len, held, causal, window) == len(pairs)


@given(sizes, sizes, sizes, st.integers(1, 300))
def test_a_factored_gemm_is_its_stages(m: int, n: int, k: int, rank: int) -> None:
    two = low_rank_gemm(m, n, k, rank, **BF16, bias=True)
    assert two == gemm(m, rank, k, **BF16) + gemm(m, n, rank, **BF16, bias=True)
    three = tucker_gemm(m, n, k, rank, rank, **BF16, bias=True)
    assert three == two + gemm(m, rank, rank, **BF16)


@pytest.mark.parametrize("dtype", [DType.FP16, DType.FP32])
def test_traffic_of_a_gemm_grows_with_the_type(dtype: DType) -> None:
    size = dtype.bits // 8
    assert gemm(3, 5, 7, act_bytes=size, weight_dtype=dtype).hbm_bytes == (35 + 21 + 15) * size
