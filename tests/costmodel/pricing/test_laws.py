"""Laws that the costs obey whatever the model: monotone, equal at break-even, decode of one token = prefill of one.

Additivity is in test_pricing.py, where the totals are compared with sums over the graph.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from cases import MODEL_TYPES, random_config, random_decomposition, random_factor, random_workload, spec_of
from hypothesis import assume, given
from hypothesis import strategies as st

from costmodel.decomposition.factors import Decomposition, Factor, LowRank, Site, Tucker, break_even_rank
from costmodel.families.load import load_model
from costmodel.forward.workload import Phase, Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.model import ModelSpec
from costmodel.pricing.configurations import SVD, TUCKER
from costmodel.pricing.costs import COUNTS
from costmodel.pricing.estimate import estimate, pricer
from costmodel.pricing.phase import PhaseCosts
from costmodel.units import DType

DECODERS = tuple(name for name in MODEL_TYPES if name not in ("bert", "roberta"))
GROWING = (
    "params",
    "weight_bytes",
    "flops",
    "vector_flops",
    "hbm_bytes",
    "kernels",
    "kv_cache_bytes",
    "peak_memory_bytes",
    "device_s",
    "host_s",
    "latency_s",
    "latency_lower_s",
    "latency_upper_s",
    "energy_j",
)
seeds = st.integers(0, 1 << 32).map(random.Random)
sides = st.integers(2, 20_000)


def price(model: ModelSpec, decomposition: Decomposition, work: Workload, device: str = "a100-sxm-80gb") -> PhaseCosts:
    return estimate(model, load_hardware(device), decomposition, [work]).phases[0].decomposed


def assert_no_less(more: PhaseCosts, less: PhaseCosts) -> None:
    for name in GROWING:
        assert getattr(more, name) >= getattr(less, name) * (1 - 1e-12), name


# --- Monotone -------------------------------------------------------------------------------------------------------


@given(seeds)
def test_monotone_in_rank(rng: random.Random) -> None:
    model = spec_of(random_config(rng, rng.choice(MODEL_TYPES)))
    decomposition, work = random_decomposition(rng, model), random_workload(rng, model)
    kept = sorted(set(range(model.num_layers)) - decomposition.dropped)
    site, tensor = Site(rng.choice(kept), ""), rng.choice(model.tensors)
    site = site._replace(tensor=tensor.name)
    limit = min(tensor.out_features, tensor.in_features)
    low, high = sorted([rng.randint(1, limit), rng.randint(1, limit)])
    for small, large in (
        (LowRank(low), LowRank(high)),
        (Tucker(low, 1), Tucker(high, 1)),
        (Tucker(1, low), Tucker(1, high)),
        (LowRank(high), Tucker(high, high)),
    ):
        less = price(model, replace(decomposition, factors={**decomposition.factors, site: small}), work)
        more = price(model, replace(decomposition, factors={**decomposition.factors, site: large}), work)
        assert_no_less(more, less)


@given(seeds)
def test_monotone_in_batch_and_length(rng: random.Random) -> None:
    model = spec_of(random_config(rng, rng.choice(MODEL_TYPES)))
    decomposition = random_decomposition(rng, model)
    work = replace(random_workload(rng, model), dtype=rng.choice([DType.BF16, DType.FP32]))
    here = price(model, decomposition, work)
    assert_no_less(price(model, decomposition, replace(work, batch=work.batch + rng.randint(1, 5))), here)
    more = work.kv_len + rng.randint(1, 40)
    longer = replace(work, kv_len=more, q_len=more if work.phase is Phase.PREFILL else 1)
    assert_no_less(price(model, decomposition, longer), here)


@given(seeds)
def test_dropping_a_layer_saves(rng: random.Random) -> None:
    model = spec_of(random_config(rng, rng.choice(MODEL_TYPES)))
    work, layer = random_workload(rng, model), rng.randrange(model.num_layers)
    dense, dropped = price(model, Decomposition(), work), price(model, Decomposition({}, frozenset([layer])), work)
    assert_no_less(dense, dropped)
    assert dense.params - dropped.params == model.params_per_layer
    assert dropped.flops < dense.flops


# --- Break-even -----------------------------------------------------------------------------------------------------


def site_counts(n: int, k: int, rows: int, factors: Sequence[Factor | None]) -> list[dict[str, int]]:
    """Counts of an n x k weight under several factors (None: dense), from the pricer of a model of one layer."""
    config = {"model_type": "gpt2", "n_embd": k, "n_inner": n, "n_layer": 1, "n_head": 1, "vocab_size": 2}
    priced = pricer(spec_of(config), load_hardware("a100-sxm-80gb"), Workload.prefill(rows))
    column = [tensor.name for tensor in priced.model.tensors].index("c_fc")
    arrays = np.zeros((3, len(factors), len(priced.model.tensors)), dtype=np.int64)
    for row, factor in enumerate(factors):
        if factor is not None:
            arrays[:, row, column] = SVD if isinstance(factor, LowRank) else TUCKER, *factor.ranks
    sites = priced.linears.costs(*arrays)
    return [{name: int(sites.count(name)[row, column]) for name in COUNTS} for row in range(len(factors))]


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(1, 100))
def test_svd_costs_the_dense_flops_at_a_whole_break_even_rank(a: int, b: int, scale: int, rows: int) -> None:
    n, k, rank = a * (a + b) * scale, b * (a + b) * scale, a * b * scale  # n k / (n + k) = a b scale
    assert break_even_rank(n, k, "svd") == rank
    dense, factored = site_counts(n, k, rows, [None, LowRank(rank)])
    for name in ("flops", "weight_bytes", "params"):
        assert factored[name] == dense[name]
    assert LowRank(rank).weight_params(n, k) == n * k


@given(sides, sides, st.integers(1, 100))
def test_below_break_even_saves_and_above_loses(n: int, k: int, rows: int) -> None:
    even = break_even_rank(n, k, "svd")
    assume(even)
    dense, below, above = site_counts(n, k, rows, [None, LowRank(even), LowRank(even + 1)])
    whole = n * k % (n + k) == 0
    assert below["flops"] == dense["flops"] if whole else below["flops"] < dense["flops"]
    assert below["weight_bytes"] <= dense["weight_bytes"] < above["weight_bytes"]
    assert above["flops"] > dense["flops"]
    assert LowRank(even).weight_params(n, k) <= n * k < LowRank(even + 1).weight_params(n, k)


@given(sides, sides, st.integers(1, 100))
def test_tucker_break_even(n: int, k: int, rows: int) -> None:
    even = break_even_rank(n, k, "tucker")
    assume(even)
    dense, below, above = site_counts(n, k, rows, [None, Tucker(even, even), Tucker(even + 1, even + 1)])
    assert below["flops"] <= dense["flops"] < above["flops"]
    assert Tucker(even, even).weight_params(n, k) <= n * k < Tucker(even + 1, even + 1).weight_params(n, k)
    assert even <= break_even_rank(n, k, "svd") < min(n, k)


def test_whole_model_at_break_even() -> None:
    """2,048 is the break-even rank of q, k, v and o exactly; 2,985 and 2,986 lie around that of the MLP's."""
    model, work = load_model("llama2-7b"), Workload.prefill(128)
    dense = price(model, Decomposition(), work)

    def at(rank: int, *names: str) -> PhaseCosts:
        return price(model, Decomposition({Site(i, name): LowRank(rank) for i in range(32) for name in names}), work)

    attention, mlp = model.groups["attn"], model.groups["mlp"]
    even = at(2048, *attention)
    assert (even.flops, even.params) == (dense.flops, dense.params)
    assert at(2985, *mlp).flops < dense.flops < at(2986, *mlp).flops
    assert at(2985, *mlp).params < dense.params < at(2986, *mlp).params


# --- Phases ---------------------------------------------------------------------------------------------------------


@given(seeds)
def test_decode_of_the_first_token_is_a_prefill_of_one(rng: random.Random) -> None:
    model = spec_of(random_config(rng, rng.choice(DECODERS)))
    decomposition = random_decomposition(rng, model)
    decode = replace(random_workload(rng, model), phase=Phase.DECODE, q_len=1, kv_len=1)
    prefill = replace(decode, phase=Phase.PREFILL)
    assert price(model, decomposition, decode) == price(model, decomposition, prefill)


@given(seeds, st.integers(1, 12), st.sampled_from(["a100-sxm-80gb", "epyc-9654"]))
def test_a_request_is_its_prefill_and_a_step_for_each_further_token(
    rng: random.Random, new_tokens: int, device: str
) -> None:
    model = spec_of(random_config(rng, rng.choice(DECODERS)))
    decomposition, hardware = random_decomposition(rng, model), load_hardware(device)
    runtime = rng.choice(list(Runtime)) if hardware.asynchronous else Runtime.EAGER
    work = replace(random_workload(rng, model), phase=Phase.PREFILL, runtime=runtime)
    prefill = replace(work, q_len=work.kv_len)
    request = estimate(model, hardware, decomposition, [prefill], new_tokens=new_tokens).request
    assert request is not None
    for costs, chosen in ((request.decomposed, decomposition), (request.dense, Decomposition())):
        first = price(model, chosen, prefill, device)
        steps = [
            price(model, chosen, replace(work, phase=Phase.DECODE, q_len=1, kv_len=work.kv_len + step), device)
            for step in range(1, new_tokens)
        ]
        spent = sum(step.latency_s for step in steps)
        assert costs.ttft_s == first.latency_s
        assert costs.latency_s == pytest.approx(first.latency_s + spent, rel=1e-9)
        assert costs.tpot_s == (pytest.approx(spent / (new_tokens - 1), rel=1e-9) if steps else None)
        assert costs.peak_memory_bytes == max(each.peak_memory_bytes for each in (first, *steps))
        energies = [each.energy_j for each in (first, *steps)]
        total = None if None in energies else pytest.approx(sum(energies), rel=1e-9)  # type: ignore[arg-type]
        assert costs.energy_j == total


# --- Configurations -------------------------------------------------------------------------------------------------


@given(seeds)
def test_json_round_trip(rng: random.Random) -> None:
    model = spec_of(random_config(rng, rng.choice(MODEL_TYPES)))
    decomposition = random_decomposition(rng, model)
    if rng.random() < 0.3:  # one form everywhere, which the file states once
        factors = {site: random_factor(rng, 20, 20) for site in decomposition.factors}
        square = rng.random() < 0.5
        decomposition = replace(
            decomposition,
            factors={
                site: Tucker(1, 1) if square else LowRank(min(factor.ranks[0], 1)) for site, factor in factors.items()
            },
        )
    read = Decomposition.from_json(json.loads(json.dumps(decomposition.to_json())), model)
    assert read == decomposition
    assert read.to_json() == decomposition.to_json()


@given(seeds)
def test_order_of_sites_does_not_matter(rng: random.Random) -> None:
    model = spec_of(random_config(rng, rng.choice(MODEL_TYPES)))
    decomposition, work = random_decomposition(rng, model), random_workload(rng, model)
    shuffled = list(decomposition.factors.items())
    rng.shuffle(shuffled)
    assert price(model, replace(decomposition, factors=dict(shuffled)), work) == price(model, decomposition, work)
