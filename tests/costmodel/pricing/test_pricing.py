"""The vectorised path against the operations of the DAG: the same totals, for any configuration of any model."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from cases import MODEL_TYPES, random_config, random_decomposition, random_workload, spec_of
from hypothesis import given
from hypothesis import strategies as st
from liveness import build_graph, peak_live_bytes

from costmodel.decomposition.factors import Decomposition, Factor, LowRank, Site, Tucker
from costmodel.errors import DecompositionError, InputError
from costmodel.families.load import load_model
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import Cache, Runtime, Workload
from costmodel.hardware.profile import HardwareProfile, load_hardware
from costmodel.model import ModelSpec
from costmodel.pricing import count_bounds
from costmodel.pricing.configurations import Configurations
from costmodel.pricing.costs import PassCosts
from costmodel.pricing.estimate import estimate, pricer
from costmodel.pricing.pricer import PhasePricer, window_kv_bytes
from costmodel.timing.bare import BareKernels
from costmodel.timing.columns import OpColumns
from costmodel.timing.datasheet import energy_joules
from costmodel.units import DType
from costmodel.weights import WeightFormat

DEVICES = ("a100-sxm-80gb", "h100-pcie-80gb", "epyc-9654")


def random_case(rng: random.Random) -> tuple[ModelSpec, Decomposition, Workload, HardwareProfile]:
    model = spec_of(random_config(rng, rng.choice(MODEL_TYPES)))
    hardware = load_hardware(rng.choice(DEVICES))
    work = replace(
        random_workload(rng, model),
        dtype=rng.choice([DType.BF16, DType.FP32]),
        runtime=rng.choice(list(Runtime)) if hardware.asynchronous else Runtime.EAGER,
        weight_dtype=rng.choice([None, None, DType.INT8, DType.INT4]),
    )
    decomposition = random_decomposition(rng, model)
    if rng.random() < 0.05:
        decomposition = Decomposition({}, frozenset(range(model.num_layers)))
    return model, decomposition, work, hardware


@given(st.integers(0, 1 << 32).map(random.Random))
def test_totals_are_sums_over_the_graph(rng: random.Random) -> None:
    model, decomposition, work, hardware = random_case(rng)
    phase = estimate(model, hardware, decomposition, [work]).phases[0]
    priced, costs = phase.pricer, phase.decomposed
    graph = build_graph(model, decomposition, work)
    ops = [op for _, op in graph.nodes(data="op")]
    for name in ("flops", "vector_flops", "hbm_bytes", "kernels"):
        assert getattr(costs, name) == sum(getattr(op.cost, name) for op in ops), name
    live = costs.peak_memory_bytes - costs.weight_bytes - costs.kv_cache_bytes
    assert live == peak_live_bytes(graph)

    times = priced.time_model.times(OpColumns.of(ops))
    device, busy = float(times.latency_s.sum()), float(times.busy_s.sum())
    host = priced.time_model.host_launch_s * costs.kernels
    assert costs.device_s == pytest.approx(device, rel=1e-9)
    assert costs.latency_s == pytest.approx(max(device, host), rel=1e-9)
    assert costs.latency_lower_s == pytest.approx(max(times.lower_s.sum(), host), rel=1e-9)
    assert costs.latency_upper_s == pytest.approx(max(times.upper_s.sum(), host), rel=1e-9)
    energy = energy_joules(hardware, np.float64(costs.latency_s), np.float64(busy))
    assert costs.energy_j == (None if energy is None else pytest.approx(float(energy), rel=1e-9))
    assert costs.latency_lower_s <= costs.latency_s <= costs.latency_upper_s


@given(st.integers(0, 1 << 32).map(random.Random))
def test_resident_memory_by_hand(rng: random.Random) -> None:
    """Parameters, their bytes and the KV cache, layer by layer."""
    model, decomposition, work, hardware = random_case(rng)
    costs = estimate(model, hardware, decomposition, [work]).phases[0].decomposed
    size = work.act_bytes

    def held(n: int, k: int) -> int:
        """int4: half a byte, and a scale for each 128 of a row; int8: a byte, and a scale a row."""
        if work.site_dtype is DType.INT4:
            return math.ceil(n * k / 2) + n * math.ceil(k / 128) * size
        return n * k + n * size if work.site_dtype is DType.INT8 else n * k * size

    params = sum(model.outer_params.values())
    stored, cache = params * size, 0
    for layer in set(range(model.num_layers)) - decomposition.dropped:
        norms = model.params_per_layer - sum(tensor.params for tensor in model.tensors)
        params, stored = params + norms, stored + norms * size
        cache += window_kv_bytes(model, work, model.sliding_windows[layer])
        for tensor in model.tensors:
            factor = decomposition.factors.get((layer, tensor.name))  # type: ignore[call-overload]
            first, last = factor.ranks if factor else (0, 0)
            shapes = [(tensor.out_features, tensor.in_features)]
            if factor:
                shapes = [(first, tensor.in_features), (tensor.out_features, last)]
                shapes += [(last, first)] if factor.to_json()["form"] == "tucker" else []
            bias = tensor.out_features if tensor.bias else 0
            params += sum(n * k for n, k in shapes) + bias
            stored += sum(held(n, k) for n, k in shapes) + bias * size
    assert (costs.params, costs.weight_bytes, costs.kv_cache_bytes) == (params, stored, cache)


def test_weights_of_several_forms_by_hand() -> None:
    """A plain tensor, one in a form of its own, and others in the model's; factors in that of their weight."""
    four = WeightFormat(method="awq", dtype=DType.INT4, bits=4, group=128, zero_bits=4)
    eight = WeightFormat(method="awq", dtype=DType.INT8, bits=8)
    model = load_model("tinyllama-1.1b", num_layers=2)
    model = replace(model, weights=four, plain_tensors=frozenset({"k_proj"}), tensor_forms=(("down_proj", eight),))
    factored = Decomposition({Site(1, tensor.name): LowRank(32) for tensor in model.tensors})
    rest = 2 * (sum(model.outer_params.values()) + 2 * 2 * model.hidden_size)
    held = {"k_proj": lambda n, k: 2 * n * k, "down_proj": eight.matrix_bytes}
    dense = changed = 0
    for tensor in model.tensors:
        n, k, size = tensor.out_features, tensor.in_features, held.get(tensor.name, four.matrix_bytes)
        dense += size(n, k)
        changed += size(32, k) + size(n, 32)
    for which, expected in ((Decomposition(), 2 * dense), (factored, dense + changed)):
        (phase,) = estimate(model, load_hardware("a100-sxm-80gb"), which, [Workload.prefill(8)]).phases
        assert phase.decomposed.weight_bytes == rest + expected


@given(st.integers(0, 1 << 32).map(random.Random))
def test_a_batch_of_configurations_is_the_single_ones(rng: random.Random) -> None:
    model, first, work, hardware = random_case(rng)
    priced = pricer(model, hardware, work)
    several = [first, Decomposition(), random_decomposition(rng, model), random_decomposition(rng, model)]
    together = priced.costs(Configurations.stack([Configurations.of(model, each) for each in several]))
    for index, decomposition in enumerate(several):
        alone = priced.costs(Configurations.of(model, decomposition))
        for name in PassCosts.__slots__:
            one, many = getattr(alone, name), getattr(together, name)
            if one is None:
                assert many is None
            else:
                assert many[index] == pytest.approx(one, rel=1e-12), name


def test_configurations_are_checked() -> None:
    model = load_model("llama2-7b", num_layers=2)
    wrong = Decomposition.from_json({"ranks": {"layers.5.q_proj": 3}}, load_model("llama2-7b"))
    with pytest.raises(DecompositionError, match="layer out of range"):
        Configurations.of(model, wrong)


@pytest.mark.parametrize("factor", [LowRank(2.5), Tucker(2, 3.5), LowRank(0), LowRank(769)])  # type: ignore[arg-type]
def test_estimate_refuses_what_is_no_rank(factor: Factor) -> None:
    model, hardware = load_model("gpt2"), load_hardware("a100-sxm-80gb")
    with pytest.raises(DecompositionError, match="rank out of range"):
        estimate(model, hardware, Decomposition({Site(0, "c_fc"): factor}), [Workload.prefill(8)])


def test_counts_that_do_not_fit_are_refused() -> None:
    model, hardware = load_model("llama2-70b"), load_hardware("a100-sxm-80gb")
    with pytest.raises(InputError, match="batch x length is too large to count"):
        pricer(model, hardware, Workload.prefill(1 << 24, batch=1 << 20))
    huge = spec_of(
        {
            "model_type": "llama",
            "hidden_size": 1_000_000,
            "intermediate_size": 1_000_000,
            "num_hidden_layers": 1000,
            "num_attention_heads": 1000,
            "vocab_size": 100_000_000,
        }
    )
    with pytest.raises(InputError, match=r"llama is too large to count: got '7,.*parameters'; check the sizes in its"):
        pricer(huge, hardware, Workload.prefill(512))


@pytest.mark.parametrize("work", [Workload.prefill(24, batch=3), Workload.decode(24, cache=Cache.GROWING)])
def test_counts_are_refused_from_the_first_that_does_not_fit(work: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    """Factors may multiply any count by 3; a model that is too large for 2^16 tokens is to blame itself."""
    model = load_model("gpt2")

    def most(asked: Workload) -> int:
        costs = [op.cost for op in forward_ops(model, Decomposition(), asked)]
        return 3 * max(sum(getattr(cost, name) for cost in costs) for name in ("flops", "vector_flops", "hbm_bytes"))

    monkeypatch.setattr(count_bounds, "_LARGEST", most(work))
    count_bounds.check_counts(model, work)
    monkeypatch.setattr(count_bounds, "_LARGEST", most(work) - 1)
    with pytest.raises(InputError, match="gpt2 is too large"):
        count_bounds.check_counts(model, work)
    token = most(Workload.prefill(1, cache=work.cache))
    many = Workload.prefill(1 << 17, batch=1 << 10, cache=work.cache)
    monkeypatch.setattr(count_bounds, "_LARGEST", token << 16)
    with pytest.raises(InputError, match="batch x length is too large to count: got '1024 x 131072'"):
        count_bounds.check_counts(model, many)
    monkeypatch.setattr(count_bounds, "_LARGEST", (token << 16) - 1)
    with pytest.raises(InputError, match="gpt2 is too large to count: got '124,439,808 parameters'"):
        count_bounds.check_counts(model, many)


@pytest.mark.parametrize(
    ("name", "work"),
    [
        ("llama3-8b", Workload.prefill(1_000_000)),
        ("llama2-70b", Workload.prefill(32_768, batch=64)),
        ("llama2-70b", Workload.prefill(700_000, weight_dtype=DType.INT4)),
    ],
)
def test_long_contexts_count_exactly(name: str, work: Workload) -> None:
    """The highest counts that int64 holds, with the ranks that cost the most."""
    model, hardware = load_model(name), load_hardware("h200-sxm")
    full = Decomposition(
        {
            Site(layer, t.name): Tucker(*[min(t.out_features, t.in_features)] * 2)
            for layer in range(model.num_layers)
            for t in model.tensors
        }
    )
    costs = estimate(model, hardware, full, [work]).phases[0].decomposed
    ops = forward_ops(model, full, work)
    for name in ("flops", "vector_flops", "hbm_bytes", "kernels"):
        assert getattr(costs, name) == sum(getattr(op.cost, name) for op in ops), name
    assert costs.peak_memory_bytes > costs.weight_bytes + costs.kv_cache_bytes


def test_identical_layers_are_priced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pricer of 80 layers asks the time model about one of them."""
    model, hardware = load_model("llama2-70b"), load_hardware("a100-sxm-80gb")
    asked = []
    priced = pricer(model, hardware, Workload.prefill(64))

    class Counting(BareKernels):
        level, has_interval, host_launch_s, together = "datasheet", False, 0.0, 1.0

        def times(self, ops: OpColumns) -> object:
            asked.append(np.size(ops.m))
            return priced.time_model.times(ops)

    PhasePricer(model, priced.work, hardware, Counting())  # type: ignore[arg-type]
    per_layer = len(forward_ops(model, Decomposition(), priced.work)) / model.num_layers
    assert sum(asked) < 2 * per_layer
