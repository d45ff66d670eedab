"""What rows of operations, sums over devices and likely answers say, key by key."""

from __future__ import annotations

import pytest

from costmodel.decomposition.text import parse_decomposition
from costmodel.families.load import load_model
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import estimate
from costmodel.pricing.likely import DECODERS, ENCODERS, likely
from costmodel.timing.calibration.load import find_calibration

MODEL, A100 = load_model("gpt2"), load_hardware("a100-sxm-80gb")


def test_a_row_says_what_its_operation_costs_and_takes() -> None:
    config = parse_decomposition(["layers=0 tensors=mlp rank=8"], MODEL)
    (phase,) = estimate(MODEL, A100, config, [Workload.prefill(16)]).phases
    ops, timings = phase.ops()
    names = ("compute_s", "memory_s", "overhead_s", "latency_s")
    seconds = zip(*(getattr(timings, name).tolist() for name in names), strict=True)
    expected = [
        {
            "name": op.name,
            "kind": op.kind,
            **dict(zip("mnk", op.gemm or (None,) * 3, strict=True)),
            "flops": op.cost.flops,
            "vector_flops": op.cost.vector_flops,
            "hbm_bytes": op.cost.hbm_bytes,
            "kernels": op.cost.kernels,
            "arithmetic_intensity": op.cost.arithmetic_intensity,
            **dict(zip(names, taken, strict=True)),
            "bound": bound,
        }
        for op, taken, bound in zip(ops, seconds, timings.bound(), strict=True)
    ]
    assert phase.op_rows() == expected


def test_a_row_of_a_collective_says_its_message() -> None:
    (phase,) = estimate(MODEL, A100, parse_decomposition([], MODEL), [Workload.prefill(16, tp=2)]).phases
    sent = [row for row in phase.op_rows() if "message_bytes" in row]
    assert {(row["kind"], row["bound"]) for row in sent} == {
        ("all_reduce", "communication"),
        ("all_gather", "communication"),
    }
    assert sum(row["message_bytes"] for row in sent) == phase.decomposed.communication_bytes


def test_all_devices_together_hold_and_do_what_each_does_times_their_number() -> None:
    config = parse_decomposition(["tensors=mlp rank=8"], MODEL)
    (phase,) = estimate(MODEL, A100, config, [Workload.prefill(16, batch=2, tp=2)]).phases
    summed = ("weight_bytes", "flops", "vector_flops", "hbm_bytes", "kv_cache_bytes", "peak_memory_bytes", "energy_j")
    for name, costs in (("dense", phase.dense), ("decomposed", phase.decomposed)):
        whole = phase.whole()[name]
        assert {key: whole[key] for key in summed} == {key: 2 * getattr(costs, key) for key in summed}
        assert whole["tokens_per_s_per_device"] == costs.tokens_per_s / 2
        assert whole.keys() == {"params", *summed, "tokens_per_s", "tokens_per_s_per_device"}
    assert phase.ways() == {"c_fc": {"replicate": 12}, "mlp_proj": {"reduce-rank": 12}}


@pytest.mark.parametrize(("name", "stacks"), [("gpt2", DECODERS), ("bert-base", ENCODERS)])
def test_likely_answers_name_their_stack_and_the_devices_host(name: str, stacks: tuple[str, ...]) -> None:
    model = load_model(name)
    works = [Workload.prefill(16)]
    found = likely(model, A100, parse_decomposition(["rank=8"], model), works)
    assert [each.to_json()["stack"] for each in found] == [each.stack for each in found] == list(stacks)
    for each in found:
        ((phase, dense, decomposed),) = each.phases
        (row,) = each.to_json()["phases"]
        assert (phase, row["phase"]) == ("prefill", "prefill")
        assert row["dense_latency_s"] == dense.latency_s
        assert row["latency_s"] == decomposed.latency_s
        assert row["saved_pct"] == 100 * (1 - decomposed.latency_s / dense.latency_s)
        assert f"saves {row['saved_pct']:.1f} %" in each.text(plain=False)
        assert "saves" not in each.text(plain=True)
        assert each.to_json()["host"] == each.host


def test_the_floor_of_a_kernel_is_assumed_where_nothing_was_measured() -> None:
    works = [Workload.decode(17)]
    dense = parse_decomposition([], MODEL)
    measured = find_calibration("auto", A100, works[0].dtype, works[0].runtime)
    floor = f"each kernel takes {A100.kernel_floor_s * 1e6:g} us beyond its roofline time (either way)"
    assert floor in estimate(MODEL, A100, dense, works).assumptions
    assert floor not in estimate(MODEL, A100, dense, works, calibration=measured).assumptions
