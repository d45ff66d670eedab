"""A stack's figures do to a pass what they say, on every way of asking."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

import costmodel as cm
from costmodel.cli import cli, run
from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import parse_decomposition
from costmodel.families.load import load_model
from costmodel.forward.workload import Cache, Runtime, Workload
from costmodel.hardware import stack as stacks
from costmodel.hardware.profile import load_hardware, profile_folder
from costmodel.hardware.stack import CLASSES, Stack, load_stack
from costmodel.pricing.estimate import estimate, pricer
from costmodel.pricing.phase import PhaseCosts
from costmodel.timing.calibration.load import find_calibration, load_calibration
from costmodel.timing.columns import Z90, OpColumns

MODEL, DEVICE = load_model("llama-70m"), load_hardware("a100-sxm-80gb")
WORK = Workload.decode(600, batch=4, runtime=Runtime.GRAPH)


def toy(monkeypatch: pytest.MonkeyPatch, name: str, **figures: object) -> str:
    """A stack that changes nothing but what is given, known by a name of its own."""
    plain = replace(load_stack("eager"), name=name, **figures)
    known = stacks._builtin

    def builtin(asked: str) -> Stack:
        return plain if asked == name else known(asked)

    monkeypatch.setattr(stacks, "_builtin", builtin)
    monkeypatch.setattr(stacks, "builtin_stacks", lambda: ("eager", name))
    pricer.cache_clear()
    return name


def dense(stack: str | None, **options: object) -> PhaseCosts:
    work = Workload.decode(600, batch=4, stack=stack, **options)
    return estimate(MODEL, DEVICE, Decomposition(), [work]).phases[0].dense


def by_class(**given: float) -> MappingProxyType[str, float]:
    return MappingProxyType({name: given.get(name, 1.0) for name in CLASSES})


def test_a_stack_that_changes_nothing_prices_the_bare_kernels(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = dense(None, runtime=Runtime.GRAPH)
    same = dense(toy(monkeypatch, "same"), runtime=Runtime.GRAPH)
    assert same.latency_s == bare.latency_s
    assert same.peak_memory_bytes == bare.peak_memory_bytes


def test_factors_times_add_up_over_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = dense(None, runtime=Runtime.GRAPH).device_s
    more = 0.0
    for name in CLASSES:
        slow = dense(toy(monkeypatch, f"slow-{name}", time=by_class(**{name: 3.0})), runtime=Runtime.GRAPH).device_s
        assert slow > bare
        more += slow - bare
    fixed = estimate(MODEL, DEVICE, Decomposition(), [WORK]).phases[0].ops("dense")[1].overhead_s.sum()
    assert more == pytest.approx(2 * (bare - fixed), rel=1e-9)


def test_fixed_times_follow_the_kernels_that_the_stack_launches(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = dense(None, runtime=Runtime.GRAPH).device_s
    few = dense(toy(monkeypatch, "few", launches=dict.fromkeys(CLASSES, 0.0)), runtime=Runtime.GRAPH).device_s
    fixed = estimate(MODEL, DEVICE, Decomposition(), [WORK]).phases[0].ops("dense")[1].overhead_s.sum()
    assert few == pytest.approx(bare - fixed, rel=1e-9)


def test_merged_products_are_priced_as_the_one_product_that_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    name = toy(monkeypatch, "merging", merges=True)
    phase = estimate(MODEL, DEVICE, Decomposition(), [replace(WORK, stack=name)]).phases[0]
    ops, times = phase.ops("dense")
    seconds = {op.name: time for op, time in zip(ops, times.latency_s, strict=True)}
    layer = "model.layers.0.self_attn."
    parts = sum(seconds[f"{layer}{each}_proj"] for each in "qkv")
    width = MODEL.q_size + 2 * MODEL.kv_size
    whole = OpColumns.of([ops[[op.name for op in ops].index(f"{layer}q_proj")]._replace(merged_n=0)])
    moved = 2 * (width * MODEL.hidden_size + 4 * (width + MODEL.hidden_size))
    whole = replace(
        whole,
        n=np.array([width]),
        executed_flops=np.array([2 * 4 * width * MODEL.hidden_size]),
        hbm_bytes=np.array([moved]),
    )
    device = estimate(MODEL, DEVICE, Decomposition(), [WORK]).phases[0].pricer.time_model
    assert parts == pytest.approx(float(device.times(whole).latency_s[0]), rel=1e-9)


def test_a_factored_member_of_a_merged_product_loses_the_merge(monkeypatch: pytest.MonkeyPatch) -> None:
    factored = parse_decomposition(["tensors=k_proj rank=8"], MODEL, Decomposition())

    def saved(stack: str | None) -> float:
        phase = estimate(MODEL, DEVICE, factored, [replace(WORK, stack=stack)]).phases[0]
        return phase.dense.device_s - phase.decomposed.device_s

    assert saved(toy(monkeypatch, "merging", merges=True)) < saved(toy(monkeypatch, "single"))


def test_the_host_launches_what_the_stack_leaves_unmerged(monkeypatch: pytest.MonkeyPatch) -> None:
    name = toy(monkeypatch, "host", launch_s=1e-3, launches=by_class(gemm=0.5, other=0.0, cache=0.0, attention=0.0))
    costs = dense(name)
    gemms = 7 * MODEL.num_layers + 1
    assert costs.host_s == pytest.approx(gemms * 0.5 * 1e-3)
    assert costs.latency_s == costs.host_s


def test_a_probed_host_serves_every_stack_that_it_launches_unless_a_class_is_named(tmp_path: Path) -> None:
    content = json.loads((profile_folder() / "calibrations" / "a100-sxm-80gb.json").read_text())
    half_s = (load_stack("transformers").launch_s or 0) / 2
    (tmp_path / "probed.json").write_text(json.dumps({**content, "module_launch_s": half_s}))
    probed = load_calibration(tmp_path / "probed.json")
    for stack in ("transformers", "transformers-4.35", "torchscript", "fastertransformer", "vllm", "eager"):
        runtime = Runtime(load_stack(stack).runtime)
        shipped = find_calibration("auto", DEVICE, WORK.dtype, runtime)
        work = Workload.decode(600, stack=stack, runtime=runtime)
        before, after, named = (
            pricer(MODEL, DEVICE, each, calibration).time_model.host_launch_s
            for each, calibration in ((work, shipped), (work, probed), (replace(work, host="epyc-a100"), probed))
        )
        assert after == pytest.approx(before if stack in ("vllm", "eager") else before / 2)
        assert named == before


def test_products_take_no_less_than_the_stack_s_kernels_need_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def seconds(bytes_per_cycle: float | None) -> tuple[Any, Any]:
        name = toy(monkeypatch, f"reads-{bytes_per_cycle}", gemm_bytes_per_cycle=bytes_per_cycle)
        ops, times = estimate(MODEL, DEVICE, Decomposition(), [replace(WORK, stack=name)]).phases[0].ops("dense")
        return ops, times

    ops, free = seconds(None)
    gemms = np.array([op.kind == "gemm" for op in ops])
    moved = np.array([sum(op.cost[3:6]) for op in ops])
    assert np.array_equal(seconds(1e4)[1].table, free.table)
    slow = seconds(0.5)[1]
    read_s = moved / (0.5 * 108 * 1.41e9)
    assert (read_s[gemms] > free.latency_s[gemms]).all()
    assert slow.latency_s[gemms] == pytest.approx(read_s[gemms] + free.overhead_s[gemms], rel=2e-3)
    assert np.array_equal(slow.table[:, ~gemms], free.table[:, ~gemms])
    assert (slow.lower_s <= slow.latency_s).all()
    assert (slow.latency_s <= slow.upper_s).all()
    assert set(np.array(slow.bound())[gemms]) == {"memory"}


def test_an_a100_under_llama_cpp_reads_at_the_rate_of_its_kernels_and_an_a40_at_that_of_its_memory() -> None:
    limit = load_stack("llama.cpp-cuda").gemm_bytes_per_cycle
    assert limit is not None
    rates = {name: load_hardware(name) for name in ("a100-sxm-80gb", "a40", "rtx-4090")}
    held = {name: limit * each.core_cycles_per_s / each.memory_bytes_per_s for name, each in rates.items()}
    assert held["a100-sxm-80gb"] < 0.6
    assert held["a40"] > 1
    assert held["rtx-4090"] > 1
    how: dict[str, Any] = {"phase": "decode", "kv_len": 64, "dtype": "fp16"}
    faster = {
        name: cm.estimate("llama2-7b", name, stack="graph", **how).phases[0].dense.latency_s
        / cm.estimate("llama2-7b", name, stack="llama.cpp-cuda", **how).phases[0].dense.latency_s
        for name in ("a100-sxm-80gb", "a40")
    }
    assert faster["a100-sxm-80gb"] < 0.85 * faster["a40"]


def test_a_step_adds_its_time_to_every_pass_and_steps_of_a_request(monkeypatch: pytest.MonkeyPatch) -> None:
    name = toy(monkeypatch, "server", step_s=0.25)
    plain, served = (
        estimate(MODEL, DEVICE, Decomposition(), [Workload.prefill(64, stack=stack)], new_tokens=5)
        for stack in (None, name)
    )
    assert plain.request is not None
    assert served.request is not None
    assert plain.phases[0].dense.host_s > plain.phases[0].dense.device_s
    assert served.phases[0].dense.latency_s == pytest.approx(plain.phases[0].dense.latency_s + 0.25)
    assert served.request.dense.latency_s > 5 * 0.25


def test_the_spread_of_passes_and_the_kernels_intervals_add_up_in_quadrature(monkeypatch: pytest.MonkeyPatch) -> None:
    def reach(spread: float) -> tuple[float, float]:
        work = replace(WORK, stack=toy(monkeypatch, f"wide-{spread}", spread=spread))
        measured = find_calibration("auto", DEVICE, work.dtype, work.runtime)
        costs = estimate(MODEL, DEVICE, Decomposition(), [work], calibration=measured).phases[0].dense
        assert costs.latency_p05_s is not None
        assert costs.latency_p95_s is not None
        return float(np.log(costs.latency_s / costs.latency_p05_s)), float(
            np.log(costs.latency_p95_s / costs.latency_s)
        )

    nearly = reach(1e-9)
    for alone, both in zip(nearly, reach(0.2), strict=True):
        assert 0.02 < alone < 0.3
        assert both == pytest.approx(np.hypot(alone, Z90 * 0.2), rel=0.02)
        assert both < alone + Z90 * 0.2


def test_a_server_s_step_has_the_spread_too(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = dense(toy(monkeypatch, "server", step_s=100.0, spread=0.2), runtime=Runtime.GRAPH)
    assert costs.latency_p05_s == pytest.approx(costs.latency_s * np.exp(-Z90 * 0.2), rel=1e-3)
    assert costs.latency_p95_s == pytest.approx(costs.latency_s * np.exp(Z90 * 0.2), rel=1e-3)


def test_a_growing_cache_is_copied_at_every_step_and_held_twice() -> None:
    static, growing = (dense(None, runtime=Runtime.GRAPH, cache=cache) for cache in (Cache.STATIC, Cache.GROWING))
    row = 2 * MODEL.num_layers * 4 * MODEL.num_heads * MODEL.head_dim * 2
    new = 2 * 2 * MODEL.num_layers * 4 * MODEL.num_kv_heads * MODEL.head_dim * 2
    assert growing.hbm_bytes - static.hbm_bytes == row * 2 * 600 - new
    assert growing.peak_memory_bytes - static.peak_memory_bytes == static.kv_cache_bytes


@pytest.mark.parametrize("stack", ["transformers-4.35", "vllm", "llama.cpp-cuda"])
def test_explore_and_estimate_agree_under_a_stack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], stack: str
) -> None:
    asked = ["--model", "llama-70m", "--hw", "a100-sxm-80gb", "--phase", "decode", "--kv-len", "700", "--batch", "64"]
    asked += ["--stack", stack, "--format", "json"]
    assert run(cli, ["explore", *asked, "--ranks", "16,64", "--objectives", "decode.latency_s", "--top", "3"]) == 0
    for row in json.loads(capsys.readouterr().out)["top"]:
        (tmp_path / "config.json").write_text(json.dumps(row["config"]))
        assert run(cli, ["estimate", *asked, "--config", str(tmp_path / "config.json")]) == 0
        phase = json.loads(capsys.readouterr().out)["phases"][0]
        assert phase["workload"]["stack"] == stack
        assert phase["workload"].get("cache", "static") == load_stack(stack).cache
        assert row["objectives"]["decode.latency_s"] == pytest.approx(phase["decomposed"]["latency_s"], rel=1e-9)


def without_names(answer: Any) -> Any:
    """An answer but for the stack's name, what other stacks say where none was named, and how long it took."""
    if isinstance(answer, dict):
        return {
            key: without_names(value)
            for key, value in answer.items()
            if key not in ("stack", "likely", "elapsed_s", "next")
        }
    return [without_names(each) for each in answer] if isinstance(answer, list) else answer


DEVICES = ("a100-sxm-80gb", "h100-sxm-80gb", "l4", "amd-epyc-2t")
"""Calibrated, calibrated and launch-bound, not calibrated, a CPU."""


@pytest.mark.parametrize("way", ["eager", "graph"])
@pytest.mark.parametrize("device", DEVICES)
def test_a_runtime_named_as_a_stack_has_one_answer(device: str, way: str) -> None:
    if way == "graph" and device == DEVICES[-1]:
        return  # a CPU replays none
    how: dict[str, Any] = {"batch": 2, "seq_len": 64}
    ways: list[dict[str, Any]] = [{"runtime": way}, {"stack": way}]
    for calibration in ("auto", "none"):
        for model in ("llama-70m", "minilm-l6"):
            one, other = (
                cm.estimate(model, device, "layers=0 rank=10%", calibration=calibration, **how, **named)
                for named in ways
            )
            assert without_names(one.to_dict()) == without_names(other.to_dict())
    answers = [cm.explore("llama-70m", device, ranks="64", **how, **named) for named in ways]
    assert without_names(answers[0].to_dict()) == without_names(answers[1].to_dict())
    rows = [cm.recommend("llama-70m", device, phase="decode", faster="5%", **how, **named) for named in ways]
    assert without_names(rows[0].to_dict()) == without_names(rows[1].to_dict())


def test_latent_attention_of_a_runtime_named_as_a_stack_is_that_of_the_modules() -> None:
    one, other = (cm.estimate("deepseek-v3", "h200-sxm", phase="decode", **named) for named in ({}, {"stack": "eager"}))
    assert one.phases[0].dense.latency_s == other.phases[0].dense.latency_s


def test_a_stack_without_a_launch_of_its_own_pays_the_one_of_bare_kernels() -> None:
    how: dict[str, Any] = {"phase": "decode", "kv_len": 513}
    bare = cm.estimate("llama-70m", "h100-sxm-80gb", **how).phases[0].dense
    other = cm.estimate("llama-70m", "h100-sxm-80gb", stack="llama.cpp-cpu", **how).phases[0].dense
    assert bare.host_s > bare.device_s
    assert other.host_s == pytest.approx(bare.host_s, rel=1e-12)
    assert cm.estimate("llama-70m", "amd-epyc-2t", stack="llama.cpp-cpu", **how).phases[0].dense.host_s == 0
