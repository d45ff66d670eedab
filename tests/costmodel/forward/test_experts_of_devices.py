"""Layers of experts, latent and linear attention on several devices."""

from __future__ import annotations

import shlex

import pytest

from costmodel.cli import cli, run
from costmodel.decomposition.factors import Decomposition, LowRank, Site
from costmodel.errors import InputError
from costmodel.families.load import load_model
from costmodel.families.registry import spec_from_config
from costmodel.forward.sharding import rank_of
from costmodel.forward.workload import Routing, Runtime, Way, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import estimate
from costmodel.pricing.phase_estimate import PhaseEstimate
from costmodel.timing.calibration.load import find_calibration

H100 = load_hardware("h100-sxm-80gb")
SIZES = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 8, "vocab_size": 96}
KINDS = {
    "mamba2": {"model_type": "mamba2", **SIZES, "num_heads": 16, "head_dim": 8, "state_size": 16, "n_groups": 2},
    "lfm2": {
        "model_type": "lfm2",
        **SIZES,
        "num_key_value_heads": 4,
        "intermediate_size": 96,
        "layer_types": ["conv", "full_attention"],
    },
    "qwen3_next": {
        "model_type": "qwen3_next",
        **SIZES,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 96,
        "linear_num_key_heads": 4,
        "linear_num_value_heads": 8,
        "num_experts": 8,
        "layer_types": ["linear_attention", "full_attention"],
    },
}


def _first(name: str, work: Workload, rank: int = 16) -> PhaseEstimate:
    model = load_model(name) if name not in KINDS else spec_from_config(KINDS[name], name=name, source="test")
    sites = {
        Site(1, t.name): LowRank(rank) for t in model.kind_of(1).tensors if min(t.out_features, t.in_features) > rank
    }
    return estimate(model, H100, Decomposition(sites), [work]).phases[0]


@pytest.mark.parametrize("name", ["mixtral-8x7b", "gpt-oss-20b", "deepseek-v3", *KINDS])
@pytest.mark.parametrize(("tp", "ep"), [(2, 1), (1, 2), (2, 2)])
def test_arrays_cost_what_the_operations_of_a_device_cost(name: str, tp: int, ep: int) -> None:
    if ep > 1 and name in ("mamba2", "lfm2"):
        pytest.skip("has no experts")
    phase = _first(name, Workload.prefill(16, batch=2, tp=tp, ep=ep))
    ops, timings = phase.ops()
    assert phase.decomposed.flops == sum(op.cost.flops for op in ops)
    assert phase.decomposed.hbm_bytes == sum(op.cost.hbm_bytes for op in ops)
    assert phase.decomposed.kernels == sum(op.cost.kernels for op in ops)
    counted, _ = phase.counted_ops("decomposed")
    assert sum(many * op.cost.flops for op, many in counted) == phase.decomposed.flops
    assert phase.decomposed.device_s == pytest.approx(timings.latency_s.sum(), rel=1e-12)


@pytest.mark.parametrize("name", ["mixtral-8x7b", "deepseek-v3"])
def test_what_is_split_adds_up_to_the_whole(name: str) -> None:
    model = load_model(name)
    for tp, ep in ((4, 1), (1, 4), (2, 2)):
        for part, whole in zip(rank_of(model, tp, ep).tensors, model.tensors, strict=True):
            shares = (tp if part.split else 1) * (ep if part.experts else 1)
            assert shares * part.weight_params == whole.weight_params


def test_latent_vectors_are_cached_on_every_device_and_heads_are_not() -> None:
    one, four = (_first("deepseek-v3", Workload.decode(128, tp=tp)).dense for tp in (1, 4))
    assert four.kv_cache_bytes == one.kv_cache_bytes
    assert four.flops < 0.4 * one.flops


def test_every_row_goes_to_its_expert_and_back() -> None:
    work = Workload.decode(128, batch=64, ep=4)
    ops, _ = _first("mixtral-8x7b", work).ops("dense")
    sent = [op.cost.message_bytes for op in ops if op.kind == "alltoall"]
    assert sent == [16 * 2 * 4096 * 2] * (2 * 32)


def test_experts_results_are_summed_once_for_each_token() -> None:
    ops, _ = _first("mixtral-8x7b", Workload.decode(128, batch=8, tp=4)).ops("dense")
    summed = {op.cost.message_bytes for op in ops if op.site == "experts.down_proj" and op.kind == "all_reduce"}
    assert summed == {8 * 4096 * 2}


@pytest.mark.parametrize(
    ("way", "expected"),
    [
        ("gather", [("gate_proj.all_gather", 512), ("up_proj.all_gather", 512), ("down_proj.all_reduce", 512)]),
        ("reduce-rank", [("down_proj.all_reduce", 512)]),
        ("scatter", [("down_proj.reduce_scatter", 512), ("down_proj.all_reduce", 8 * 4096 * 2)]),
    ],
)
def test_factors_of_experts_exchange_all_their_rows_and_results_one_for_each_token(
    way: Way, expected: list[tuple[str, int]]
) -> None:
    """8 tokens pass 2 experts each: between factors of 16 columns stand 16 rows of 2 bytes, behind the last one 8."""
    ops, _ = _first("mixtral-8x7b", Workload.decode(128, batch=8, tp=4, ways=(way,))).ops("decomposed")
    own = [op for op in ops if "layers.1." in op.name and (op.site or "").startswith("experts")]
    sent = [(op.name.split("experts.")[1], op.cost.message_bytes) for op in own if op.cost.message_bytes]
    assert sent == expected


def test_layers_of_experts_take_by_their_own_form_what_their_operations_take() -> None:
    """On a device where layers of experts were measured: their linears, dense and factored, are known as theirs."""
    work = Workload.decode(128, batch=64, runtime=Runtime.GRAPH)
    calibration = find_calibration("auto", H100, work.dtype, work.runtime)
    model = load_model("mixtral-8x7b")
    configuration = Decomposition({Site(1, "experts.down_proj"): LowRank(64)})
    (phase,) = estimate(model, H100, configuration, [work], calibration=calibration).phases
    for which, costs in (("dense", phase.dense), ("decomposed", phase.decomposed)):
        ops, timings = phase.ops(which)  # type: ignore[arg-type]
        assert costs.device_s == pytest.approx(timings.latency_s.sum(), rel=1e-9)
        own = [op for op in ops if (op.site or "").startswith("experts")]
        assert all(op.experts for op in own)
        assert len(own) == 32 * 3 + (which == "decomposed")


def test_popular_experts_make_a_device_that_the_others_wait_for() -> None:
    even, uneven = (
        _first("mixtral-8x7b", Workload.prefill(256, batch=4, ep=4, routing=routing)).dense for routing in Routing
    )
    assert uneven.flops > even.flops
    assert uneven.communication_bytes > even.communication_bytes


def test_sequences_that_cannot_be_dealt_out_are_refused() -> None:
    with pytest.raises(InputError, match="a multiple of 4"):
        _first("mixtral-8x7b", Workload.decode(8, batch=6, ep=4))


@pytest.mark.parametrize(
    "options",
    [
        "--model mixtral-8x7b --ep 3 --batch 3",
        "--model llama2-7b --ep 2 --batch 2",
        "--model mixtral-8x7b --ep 2 --batch 3",
        "--model mixtral-8x7b --ep 8 --tp 2 --batch 8",
        "--model mixtral-8x7b --ep 0",
        "--model mixtral-8x7b --tp 2 --decompose 'tensors=experts.3.up_proj rank=8'",
    ],
)
def test_what_cannot_be_shared_out_is_one_line(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["estimate", "--hw", "h100-sxm-80gb", *shlex.split(options)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
