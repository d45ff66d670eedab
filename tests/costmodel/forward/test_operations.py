"""No operation of the kept passes has changed: order, names, kinds, shapes, costs, what it reads and holds."""

from __future__ import annotations

import json

import pytest
from cases import spec_of
from golden.operations import MODELS, PATH, compute

from costmodel.decomposition.factors import Decomposition
from costmodel.forward.cost import OpCost, kv_grow
from costmodel.forward.passes import forward_ops
from costmodel.forward.work import causal_pairs
from costmodel.forward.workload import Attention, Workload

ADVICE = "operations changed; if on purpose: python tests/golden/operations.py, and look at the diff"
KEPT = json.loads(PATH.read_text(encoding="utf-8"))


def test_every_model_is_kept() -> None:
    assert list(KEPT) == list(MODELS), ADVICE


@pytest.mark.parametrize("name", MODELS)
def test_no_operation_has_changed(name: str) -> None:
    found = json.loads(json.dumps(compute(name)))
    assert list(found) == list(KEPT[name]), ADVICE
    for how, ops in KEPT[name].items():
        assert [op["name"] for op in found[how]] == [op["name"] for op in ops], (ADVICE, how)
        for expected, op in zip(ops, found[how], strict=True):
            assert op == expected, (ADVICE, how)


def test_one_head_is_merged_without_a_copy() -> None:
    """Its transposed result lies in memory as it is read; that of several heads does not."""
    for heads, merged in ((1, 0), (2, 1)):
        config = {"model_type": "bert", **MODELS["bert"], "num_attention_heads": heads}
        ops = forward_ops(spec_of(config), Decomposition(), Workload.prefill(9, attention=Attention.UNFUSED))
        assert sum(op.name.endswith("merge_heads") for op in ops) == merged


def test_counts_are_whole_numbers() -> None:
    for passes in KEPT.values():
        for ops in passes.values():
            assert all(type(value) is int for op in ops for value in op["cost"].values())
    assert type(causal_pairs(3, 8)) is int
    assert causal_pairs(3, 8) == 6 + 7 + 8


def test_a_cache_that_grows_is_read_and_written_whole_for_each_query_head() -> None:
    """2 sequences, 3 heads of 4 in 2 bytes: keys and values of 5 old and 2 new positions."""
    position = 2 * 2 * 3 * 4 * 2
    assert kv_grow(2, 3, 7, 2, 4, act_bytes=2) == OpCost(
        kv_read_bytes=5 * position, act_read_bytes=2 * position, kv_write_bytes=7 * position, kernels=2
    )


def test_absent_fields_of_the_llama_family_have_transformers_defaults() -> None:
    small = {
        name: value for name, value in MODELS["llama"].items() if name not in ("model_type", "num_key_value_heads")
    }
    for model_type, head_dim, kv_heads, bias in (
        ("llama", 8, 6, False),
        ("qwen2", 8, 2, True),
        ("qwen3", 128, 2, False),
        ("mistral", 8, 2, False),
    ):
        given = {} if model_type == "llama" else {"num_key_value_heads": 2}
        spec = spec_of({"model_type": model_type, **small, **given, "mlp_bias": model_type != "llama"})
        found = (spec.head_dim, spec.num_kv_heads, spec.qkv_bias, spec.attn_out_bias, spec.mlp_bias)
        assert found == (head_dim, kv_heads, bias, False, False)
