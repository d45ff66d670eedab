"""What rows of operations, sums over devices and likely answers say, key by key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from costmodel.decomposition.text import parse_decomposition
from costmodel.families.load import load_model
from costmodel.forward.workload import Attention, Cache, Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.hardware.stack import load_stack
from costmodel.pricing.estimate import estimate
from costmodel.pricing.likely import DECODERS, ENCODERS, Likely, likely
from costmodel.timing.calibration.load import find_calibration
from costmodel.units import DType

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
    assert {(row["hbm_bytes"], row["arithmetic_intensity"]) for row in sent} == {(0, 0.0)}


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


@pytest.mark.parametrize(
    ("how", "asked"),
    [
        ({}, [(stack, None) for stack in DECODERS]),
        ({"host": "desktop"}, [(stack, "desktop") for stack in DECODERS]),
        ({"stack": "transformers"}, [("transformers", host) for host in ("epyc-a100", "xeon-h100", "desktop")]),
        ({"stack": "transformers", "host": "desktop"}, []),
        ({"stack": "vllm"}, []),
    ],
)
@pytest.mark.parametrize("phases", [(Workload.prefill,), (Workload.prefill, Workload.decode)])
def test_likely_answers_are_those_of_the_stack_or_host_when_it_is_named(
    how: dict[str, str], asked: list[tuple[str, str | None]], phases: tuple[Any, ...]
) -> None:
    config = parse_decomposition(["rank=8"], MODEL)
    found = likely(MODEL, A100, config, [phase(16, **how) for phase in phases])
    assert len(found) == len(asked)
    for answer, (name, host) in zip(found, asked, strict=True):
        stack = load_stack(name)
        named = {
            "stack": name,
            "host": host,
            "runtime": Runtime(stack.runtime),
            "attention": Attention(stack.attention),
            "cache": Cache(stack.cache),
        }
        calibration = find_calibration("auto", A100, DType.BF16, named["runtime"])
        works = [phase(16, **named) for phase in phases]
        alone = estimate(MODEL, A100, config, works, calibration=calibration).phases
        assert answer.phases == tuple((each.workload.phase.value, each.dense, each.decomposed) for each in alone)
        assert (answer.stack, answer.host) == (name, host or "epyc-a100")


def test_hosts_of_a_launching_stack_begin_with_the_devices_own() -> None:
    device = load_hardware("h100-sxm-80gb")
    found = likely(MODEL, device, parse_decomposition([], MODEL), [Workload.decode(16, stack="transformers")])
    assert [each.host for each in found] == ["xeon-h100", "epyc-a100", "desktop"]
    seconds = [each.phases[0][1].latency_s for each in found]
    assert seconds[0] < seconds[2] < seconds[1]  # as slow as their launches


def test_nothing_is_likelier_than_what_was_asked_of_a_cpu_or_of_a_calibration() -> None:
    dense, works = parse_decomposition([], MODEL), [Workload.prefill(16)]
    assert likely(MODEL, load_hardware("amd-epyc-2t"), dense, works) == ()
    assert likely(MODEL, A100, dense, []) == ()
    assert likely(MODEL, A100, dense, works, calibration="none") == ()
    assert likely(MODEL, A100, dense, works, calibration="auto") == likely(MODEL, A100, dense, works) != ()


def test_a_likely_answer_says_its_interval_where_there_is_one() -> None:
    (phase,) = estimate(MODEL, A100, parse_decomposition(["rank=8"], MODEL), [Workload.prefill(16)]).phases
    dense = replace(phase.dense, latency_s=4e-3)
    known = replace(phase.decomposed, latency_s=3e-3, latency_p05_s=2e-3, latency_p95_s=5e-3)
    answer = Likely(stack="s", host="h", phases=(("prefill", dense, known), ("decode", dense, known)))
    one = "prefill 3 ms (2 ms to 5 ms), saves 25.0 %"
    assert answer.text(plain=False) == f"s on h: {one}; {one.replace('prefill', 'decode')}"
    assert answer.to_json()["phases"][1] == {
        "phase": "decode",
        "dense_latency_s": 4e-3,
        "latency_s": 3e-3,
        "latency_p05_s": 2e-3,
        "latency_p95_s": 5e-3,
        "saved_pct": 25.0,
    }
    for missing in ({"latency_p05_s": None}, {"latency_p95_s": None}):
        unsure = Likely(stack="s", host="h", phases=(("prefill", dense, replace(known, **missing)),))
        assert unsure.text(plain=True) == "s on h: prefill 3 ms"


def test_the_floor_of_a_kernel_is_assumed_where_nothing_was_measured() -> None:
    works = [Workload.decode(17)]
    dense = parse_decomposition([], MODEL)
    measured = find_calibration("auto", A100, works[0].dtype, works[0].runtime)
    floor = f"each kernel takes {A100.kernel_floor_s * 1e6:g} us beyond its roofline time (either way)"
    assert floor in estimate(MODEL, A100, dense, works).assumptions
    assert floor not in estimate(MODEL, A100, dense, works, calibration=measured).assumptions
