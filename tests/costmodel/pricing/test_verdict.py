"""One code and one sentence per phase: gain, none, slower, does-not-fit."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from costmodel.decomposition.text import parse_decomposition
from costmodel.families.load import load_model
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing import verdict as verdict_module
from costmodel.pricing.estimate import estimate
from costmodel.pricing.phase import PhaseCosts
from costmodel.pricing.phase_estimate import PhaseEstimate
from costmodel.pricing.verdict import judge


def judged(model: str, hardware: str, work: Workload, *specs: str) -> PhaseEstimate:
    spec = load_model(model)
    return estimate(spec, load_hardware(hardware), parse_decomposition(specs, spec), [work]).phases[0]


def verdict(*arguments: Any) -> tuple[str, str]:
    found = judged(*arguments).verdict
    return found.code, found.text


PREFILL = Workload.prefill(512)
DECODE = Workload.decode(513)
GRAPH_DECODE = Workload.decode(513, runtime=Runtime.GRAPH)
POINT = "layers=2,17,31 rank=1 form=tucker"


def test_gain() -> None:
    phase = judged("llama2-7b", "a100-sxm-80gb", PREFILL, POINT)
    assert phase.verdict.code == "gain"
    assert phase.verdict.text == f"gain {phase.saved['latency_pct']:.1f} %"


def test_dense() -> None:
    assert verdict("llama2-7b", "a100-sxm-80gb", PREFILL) == ("none", "no gain: dense, nothing is decomposed")


def test_launch_bound() -> None:
    phase = judged("llama2-7b", "a100-sxm-80gb", DECODE, POINT)
    kernels = f"{phase.decomposed.kernels} kernels instead of {phase.dense.kernels}"
    assert phase.verdict.code == "none"
    assert kernels == "1343 kernels instead of 1301"
    assert phase.verdict.text == f"no gain: launch-bound at batch 1 in eager mode, {kernels}"
    fewer = judged("llama2-7b", "a100-sxm-80gb", DECODE, "layers=5 form=drop")  # 3.1 % fewer: no more than that
    assert (fewer.verdict.code, fewer.verdict.text) == (
        "none",
        "no gain: launch-bound at batch 1 in eager mode, 1261 kernels instead of 1301",
    )
    assert phase.decomposed.kernels > phase.dense.kernels


def test_the_same_configuration_gains_where_launches_cost_nothing() -> None:
    assert verdict("llama2-7b", "a100-sxm-80gb", GRAPH_DECODE, POINT)[0] == "gain"


def test_launch_bound_by_much_is_slower() -> None:
    phase = judged("llama2-7b", "a100-sxm-80gb", DECODE, "rank=1 form=tucker")
    longer = -phase.saved["latency_pct"]  # type: ignore[operator]
    assert longer > 5
    assert phase.verdict.code == "slower"
    assert re.fullmatch(
        rf"slower: launch-bound at batch 1 in eager mode, .* \({longer:.1f} % longer\)", phase.verdict.text
    )


@pytest.mark.parametrize(
    ("work", "expected"),
    [
        (PREFILL, ("slower", "slower: ranks above break-even in layers 0-3 (2.9 % longer)")),
        (DECODE, ("none", "no gain: ranks above break-even in layers 0-3")),  # 28 kernels more, 2.2 % longer
        (GRAPH_DECODE, ("slower", "slower: ranks above break-even in layers 0-3 (3.1 % longer)")),
    ],
)
def test_above_break_even_is_named_whatever_else_is_wrong(work: Workload, expected: tuple[str, str]) -> None:
    assert verdict("llama2-7b", "a100-sxm-80gb", work, "layers=0-3 rank=130%") == expected
    code, text = verdict("llama2-7b", "a100-sxm-80gb", work, "rank=130%")
    assert code == "slower"
    assert text.startswith("slower: ranks above break-even in layers 0-31 (")


def test_more_kernels_than_saved_work() -> None:
    code, text = verdict("gpt2", "a100-sxm-80gb", GRAPH_DECODE, "tensors=attn_proj rank=99% form=tucker")
    assert code == "slower"
    assert re.fullmatch(r"slower: \d+ kernels instead of \d+ cost more than the saved work \(\d+\.\d % longer\)", text)


def test_does_not_fit() -> None:
    for work in (PREFILL, DECODE):
        assert verdict("llama2-70b", "a100-sxm-80gb", work) == ("does-not-fit", "does not fit: 138 GB on 80 GB")
        assert verdict("llama2-70b", "a100-sxm-80gb", work, "layers=0 rank=1")[0] == "does-not-fit"


def test_a_model_that_fits_only_decomposed() -> None:
    code, text = verdict("llama2-70b", "a100-sxm-80gb", GRAPH_DECODE, "rank=30%")
    assert code == "gain"
    assert re.fullmatch(r"gain \d+\.\d %; dense does not fit: 138 GB on 80 GB", text)


def test_dropped_layers_gain() -> None:
    assert verdict("gpt2", "a100-sxm-80gb", DECODE, "layers=3,4 form=drop")[0] == "gain"


@pytest.mark.parametrize("percent", [1, 20, 50, 80, 95, 100, 110, 130])
@pytest.mark.parametrize("hardware", ["a100-sxm-80gb", "l4"])
@pytest.mark.parametrize("work", [PREFILL, DECODE, GRAPH_DECODE])
def test_code_agrees_with_latency(percent: int, hardware: str, work: Workload) -> None:
    phase = judged("tinyllama-1.1b", hardware, work, f"tensors=q_proj,o_proj,mlp rank={percent}%")
    gain = phase.saved["latency_pct"]
    assert gain is not None
    waiting = all(costs.host_s >= costs.device_s for costs in (phase.dense, phase.decomposed))
    limit = 5 if waiting else 1
    assert phase.verdict.code == ("gain" if gain >= limit else "slower" if gain <= -limit else "none")
    begins = {"gain": "gain ", "slower": "slower: ", "none": "no gain: "}
    assert phase.verdict.text.startswith(begins[phase.verdict.code])


SMALL = "layers=3 rank=1"


@pytest.mark.parametrize("share", [1.25, 1.0, 0.75])
@pytest.mark.parametrize("waiting", [(False, False), (True, False), (False, True), (True, True)])
def test_a_change_counts_from_its_threshold_on(
    waiting: tuple[bool, bool], share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thresholds that doubles hold exactly; the wider one where both passes wait for launches, as they do from the
    moment on at which the host takes as long as the device."""
    phase = judged("gpt2", "a100-sxm-80gb", GRAPH_DECODE, SMALL)
    passes = [
        replace(phase.dense, latency_s=seconds, device_s=1.0, host_s=1.0 if waits else 0.5)
        for seconds, waits in zip((1.0, share), waiting, strict=True)
    ]
    for least, wide in ((25.0, 50.0), (25.1, 50.0), (12.0, 25.0), (12.0, 25.1)):
        monkeypatch.setattr(verdict_module, "THRESHOLD_PCT", least)
        monkeypatch.setattr(verdict_module, "LAUNCH_THRESHOLD_PCT", wide)
        limit = wide if all(waiting) else least
        gain = 100 * (1 - share)
        expected = "gain" if gain >= limit else "slower" if gain <= -limit else "none"
        found = judge(phase.pricer, phase.configuration, *passes)
        assert found.code == expected
        assert found.to_json() == {"code": found.code, "text": found.text}


def test_reasons_are_told_in_the_order_in_which_they_limit() -> None:
    """Launches before collectives, those before more kernels, and those before work that is too little."""
    phase = judged("gpt2", "a100-sxm-80gb", replace(DECODE, tp=2), SMALL)
    free = replace(phase.dense, weight_bytes=0, host_s=0.0, device_s=1.0, communication_s=0.5, kernels=10)
    more = replace(free, kernels=11)

    def reason(costs: PhaseCosts, dense: PhaseCosts = free) -> str:
        return judge(phase.pricer, phase.configuration, dense, costs).text.removeprefix("no gain: ")

    assert reason(free) == "the saved work is too little to be seen"
    assert reason(more) == "11 kernels instead of 10 cost more than the saved work"
    sent = replace(more, communication_s=0.75)
    assert reason(sent) == "communication-bound: 75 % of the device's time goes into collectives of 2 devices"
    waits = replace(sent, host_s=1.0)
    assert reason(waits) == "launch-bound at batch 1 in eager mode, 11 kernels instead of 10"
    assert reason(replace(waits, weight_bytes=1)).startswith("launch-bound")  # heavier, but no rank above break-even


def test_a_stack_is_named_where_its_launches_set_the_pace() -> None:
    phase = judged("gpt2", "a100-sxm-80gb", Workload.decode(513, stack="transformers", batch=4), SMALL)
    assert phase.verdict.text.startswith("no gain: launch-bound at batch 4 under transformers, ")


def test_what_does_not_fit_is_told_before_all_else() -> None:
    phase = judged("gpt2", "a100-sxm-80gb", GRAPH_DECODE, SMALL)
    large = replace(phase.dense, fits=False, peak_memory_bytes=90 * 10**9)
    dense = judge(phase.pricer, parse_decomposition([], phase.pricer.model), large, large)
    assert (dense.code, dense.text) == ("does-not-fit", "does not fit: 90 GB on 80 GB")
    for share, told in ((0.5, "gain 50.0 %"), (1.0, "no gain: "), (2.0, "slower: ")):
        small = replace(phase.decomposed, latency_s=share * large.latency_s)
        found = judge(phase.pricer, phase.configuration, large, small)
        assert found.text.startswith(told)
        assert found.text.endswith("; dense does not fit: 90 GB on 80 GB")
