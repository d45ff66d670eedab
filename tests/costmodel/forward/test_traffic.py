"""Memory traffic of whole passes of Llama-like models against a closed form written from the definitions alone.

bf16 throughout: 2 bytes an activation, 4 where a kernel works in fp32. Every kernel reads each operand once and writes
its result once; the kernels are those of docs/assumptions.md and of transformers' modules.
"""

from __future__ import annotations

import itertools

import pytest
from cases import spec_of

from costmodel.decomposition.factors import Decomposition, LowRank, Site, Tucker
from costmodel.forward.workload import Attention, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import estimate
from costmodel.units import DType

LAYERS, HIDDEN, INNER, HEADS, WIDTH, VOCAB, WINDOW = 3, 96, 160, 8, 16, 50, 7
QUERIES = HEADS * WIDTH
RANKS = {"dense": (), "svd": (5,), "tucker": (5, 9)}


def linear(tokens: int, out: int, into: int, ranks: tuple[int, ...], int4: bool) -> int:
    """A chain of linears: weights, and activations in and out of each. int4: half a byte, 2 a group of 128."""
    total = 0
    for k, n in itertools.pairwise((into, *ranks, out)):
        weight = -(-n * k // 2) + 2 * n * -(-k // 128) if int4 else 2 * n * k
        total += weight + 2 * tokens * (k + n)
    return total


def rms_norm(rows: int, columns: int) -> int:
    """Cast, square, mean, + eps, rsqrt, scale, cast, weigh: 4 passes in 16 bits, 7 in 32, 6 of a number per row."""
    return rows * columns * (4 * 2 + 7 * 4) + 6 * 4 * rows + 2 * columns


def attention(batch: int, q_len: int, keys: int, kv_heads: int, fused: bool) -> int:
    queries, cached = 2 * batch * q_len * QUERIES, 2 * 2 * batch * keys * kv_heads * WIDTH
    if fused:
        return queries + cached + queries
    scores = 2 * batch * HEADS * q_len * keys
    expanded = 2 * 2 * batch * keys * QUERIES
    repeated = cached + expanded if kv_heads < HEADS else 0
    products = queries + scores + expanded + scores + queries
    scaled, masked = 2 * scores, 2 * scores + 2 * batch * q_len * keys
    softmax = scores + 4 * (2 * scores) + scores  # cast to fp32, softmax in fp32, cast back
    copies = 2 * queries * ((q_len > 1) + (q_len > 1 and batch > 1))  # heads merged; queries made contiguous
    return repeated + products + scaled + masked + softmax + copies


def whole_pass(work: Workload, kv_heads: int, window: int | None, ranks: tuple[int, ...], int4: bool) -> int:
    batch, q_len, kv_len = work.batch, work.q_len, work.kv_len
    tokens, keyed = batch * q_len, kv_heads * WIDTH
    keys = kv_len if window is None else min(kv_len, window + q_len - 1)
    new = 2 * 2 * batch * keyed * (q_len if window is None else min(q_len, window))
    loose = window is not None and 1 < window < q_len and kv_heads == HEADS and batch > 1  # not out of a cache
    unfused = work.attention is Attention.UNFUSED
    shapes = (
        (QUERIES, HIDDEN),
        (keyed, HIDDEN),
        (keyed, HIDDEN),
        (HIDDEN, QUERIES),
        (INNER, HIDDEN),
        (INNER, HIDDEN),
        (HIDDEN, INNER),
    )
    layer = (
        sum(linear(tokens, *shape, ranks, int4) for shape in shapes)
        + 2 * rms_norm(tokens, HIDDEN)
        + 10 * 2 * tokens * (QUERIES + keyed)  # rotary: half negated, copied, both times a table, added
        + 2 * new
        + attention(batch, q_len, keys, kv_heads, not unfused)
        + (2 * 2 * 2 * tokens * QUERIES if loose and unfused else 0)  # keys and values made contiguous
        + 2 * 3 * 2 * tokens * HIDDEN
        + (2 + 3) * 2 * tokens * INNER  # residual adds; SiLU and gate
    )
    positions = 2 * 8 * q_len
    tables = 4 * 4 * q_len + 13 * 4 * q_len * WIDTH + 2 * 2 * q_len * WIDTH
    mask = 2 * q_len * keys + 2 * batch * q_len * keys if unfused else 0
    embedding = 2 * 2 * tokens * HIDDEN + 8 * tokens
    head = 2 * (VOCAB * HIDDEN + batch * (VOCAB + HIDDEN))
    return positions + tables + mask + embedding + LAYERS * layer + rms_norm(tokens, HIDDEN) + head


@pytest.mark.parametrize("int4", [False, True])
@pytest.mark.parametrize("form", RANKS)
@pytest.mark.parametrize("window", [None, WINDOW])
@pytest.mark.parametrize("kv_heads", [HEADS, 2])
def test_traffic_of_a_pass(kv_heads: int, window: int | None, form: str, int4: bool) -> None:
    model = spec_of(
        {
            "model_type": "mistral",
            "num_hidden_layers": LAYERS,
            "hidden_size": HIDDEN,
            "intermediate_size": INNER,
            "num_attention_heads": HEADS,
            "num_key_value_heads": kv_heads,
            "head_dim": WIDTH,
            "vocab_size": VOCAB,
            "sliding_window": window,
        }
    )
    factor = {"dense": None, "svd": LowRank(5), "tucker": Tucker(5, 9)}[form]
    sites = [Site(layer, tensor.name) for layer in range(LAYERS) for tensor in model.tensors]
    decomposition = Decomposition(dict.fromkeys(sites, factor) if factor else {})  # type: ignore[arg-type]
    hardware, weights = load_hardware("a100-sxm-80gb"), DType.INT4 if int4 else None
    for fused, batch, length in itertools.product((True, False), (1, 3), (4, 7, 20)):
        how = {"batch": batch, "attention": Attention.FUSED if fused else Attention.UNFUSED, "weight_dtype": weights}
        for work in (Workload.prefill(length, **how), Workload.decode(length, **how)):
            found = estimate(model, hardware, decomposition, [work]).phases[0].decomposed
            assert found.hbm_bytes == whole_pass(work, kv_heads, window, RANKS[form], int4), work
