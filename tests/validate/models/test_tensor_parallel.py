"""What the cost model says of one of several devices, against a Llama that processes really share out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sharded
import sharded_experts

from costmodel.decomposition.factors import Decomposition, LowRank, Site
from costmodel.families.registry import spec_from_config
from costmodel.forward.workload import Way, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.configurations import Configurations
from costmodel.pricing.estimate import pricer
from costmodel.units import DType

BATCH, LENGTH = 2, 5
SIZES = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 4,
    "vocab_size": 64,
    "tie_word_embeddings": False,
    "max_position_embeddings": 64,
}
EVERYWHERE = {f"{layer}.{name}": 4 for layer in (0, 1) for name in (*sharded.COLUMNS, *sharded.ROWS)}
Case = tuple[dict[str, int], Way, Way]
ExpertCase = tuple[dict[str, int], str, Way, Way]
CASES: list[Case] = [
    ({}, "replicate", "reduce-rank"),
    (EVERYWHERE, "replicate", "reduce-rank"),
    (EVERYWHERE, "gather", "scatter"),
    ({"0.q_proj": 8, "0.down_proj": 12, "1.o_proj": 4, "1.up_proj": 20}, "gather", "reduce-hidden"),
    ({"1.k_proj": 3, "1.down_proj": 5}, "replicate", "reduce-rank"),
]


def ran(case: Case) -> dict[str, Any]:
    ranks, rows, columns = case
    ways = {**dict.fromkeys(sharded.COLUMNS, rows), **dict.fromkeys(sharded.ROWS, columns)}
    return {"config": SIZES, "ranks": ranks, "ways": ways, "batch": BATCH, "seq_len": LENGTH}


EXPERTS = {
    **SIZES,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "sliding_window": None,
}
STACKS = {f"1.{name}": 4 for name in sharded_experts.STACKS}
EXPERT_CASES: list[ExpertCase] = [
    ({}, "tp", "replicate", "reduce-rank"),
    (STACKS, "tp", "replicate", "reduce-rank"),
    (STACKS, "tp", "gather", "scatter"),
    ({"0.down_proj": 8}, "tp", "gather", "reduce-hidden"),
    ({}, "ep", "replicate", "reduce-rank"),
    (STACKS, "ep", "replicate", "reduce-rank"),
]


def ran_experts(case: ExpertCase) -> dict[str, Any]:
    ranks, parallel, rows, columns = case
    ways = {"gate_proj": rows, "up_proj": rows, "down_proj": columns}
    shape = {"config": EXPERTS, "batch": 4, "seq_len": LENGTH, "run": sharded_experts.run_case}
    return {**shape, "ranks": ranks, "ways": ways, "parallel": parallel}


FEW = (CASES[3:4], [EXPERT_CASES[3], EXPERT_CASES[-1]])
"""Factored weights and dense ones, and experts shared out in both ways."""
ALL = (CASES, EXPERT_CASES)


@pytest.mark.parametrize(
    ("devices", "cases"),
    [(2, FEW), *(pytest.param(count, ALL, marks=pytest.mark.slow) for count in (2, 4))],
    ids=["2-few", "2", "4"],
)
def test_params_flops_and_messages_of_every_device_are_those_of_a_real_run(
    devices: int, cases: tuple[list[Case], list[ExpertCase]], tmp_path: Path
) -> None:
    by_rank = sharded.run(devices, tmp_path, [*map(ran, cases[0]), *map(ran_experts, cases[1])])
    model = spec_from_config({"model_type": "llama", **SIZES}, name="tiny", source="test")
    hardware = load_hardware("a100-sxm-80gb")
    for number, (ranks, rows, columns) in enumerate(cases[0]):
        sites = {(int(place[0]), place[2:]): rank for place, rank in ranks.items()}
        configuration = Decomposition({Site(*site): LowRank(rank) for site, rank in sites.items()})
        work = Workload.prefill(LENGTH, batch=BATCH, dtype=DType.FP32, tp=devices, ways=(rows, columns))
        priced = pricer(model, hardware, work)
        costs = priced.costs(Configurations.of(model, configuration))
        sent = [[op.kind, op.cost.message_bytes] for op in priced.ops(configuration) if op.cost.message_bytes]
        for rank in by_rank:
            real = rank[number]
            assert real["error"] < 1e-5, "the devices together compute another model"
            assert int(costs.params) == real["params"]
            assert int(costs.flops) == real["flops"]
            assert sorted(sent) == sorted(real["sent"])
    _hold_experts([rank[len(cases[0]) :] for rank in by_rank], devices, cases[1])


def _hold_experts(by_rank: list[list[dict[str, Any]]], devices: int, cases: list[ExpertCase]) -> None:
    """Of experts that are dealt out rows go where a router sends them: what devices do is held together."""
    model = spec_from_config({"model_type": "mixtral", **EXPERTS}, name="tiny", source="test")
    hardware = load_hardware("a100-sxm-80gb")
    for number, (ranks, parallel, rows, columns) in enumerate(cases):
        sites = {Site(int(place[0]), f"experts.{place[2:]}"): LowRank(rank) for place, rank in ranks.items()}
        configuration = Decomposition(sites)
        work = Workload.prefill(LENGTH, batch=4, dtype=DType.FP32, ways=(rows, columns), **{parallel: devices})
        priced = pricer(model, hardware, work)
        costs = priced.costs(Configurations.of(model, configuration))
        sent = [(op.kind, op.cost.message_bytes) for op in priced.ops(configuration) if op.cost.message_bytes]
        reals = [rank[number] for rank in by_rank]
        for real in reals:
            assert real["error"] < 1e-5, "the devices together compute another model"
            assert int(costs.params) == real["params"]
        assert devices * int(costs.flops) == sum(real["flops"] for real in reals)
        if parallel == "tp":
            assert all(sorted(map(tuple, real["sent"])) == sorted(sent) for real in reals)
            assert all(int(costs.flops) == real["flops"] for real in reals)
        else:
            assert {kind for kind, _ in sent} == {"alltoall"}
            whole = sum(size for real in reals for _, size in real["sent"])
            assert devices * sum(size for _, size in sent) == whole
