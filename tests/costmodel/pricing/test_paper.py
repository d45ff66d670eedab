"""Parameter savings printed in arXiv 2405.06626: Llama 2 7B, rank 1 in three factors, all seven tensors of a layer."""

from __future__ import annotations

import pytest

from costmodel.decomposition.factors import Decomposition, LowRank, Tucker, break_even_rank
from costmodel.decomposition.text import parse_decomposition
from costmodel.families.load import load_model
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import load_hardware
from costmodel.model import ModelSpec
from costmodel.pricing.estimate import estimate

PAPER = [
    (6.004292, "2,29"),
    (9.006438, "2,17,31"),
    (15.010730, "2,8,14,20,26"),
    (21.015023, "4-28:4"),
    (33.023607, "2-29:3,31"),
    (48.034337, "0-30:2"),
    (60.042922, "1-9:2,10-18,20-30:2"),
    (75.053652, "1-9:2,10-29"),
    (84.060091, "0-8:2,9-31"),
    (96.068675, "all"),
]
LAYERS = {
    "2-29:3,31": "2 5 8 11 14 17 20 23 26 29 31",
    "1-9:2,10-18,20-30:2": "1 3 5 7 9 10 11 12 13 14 15 16 17 18 20 22 24 26 28 30",
    "1-9:2,10-29": "1 3 5 7 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29",
    "0-8:2,9-31": "0 2 4 6 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31",
}
"""The sets above that are hard to read, as printed."""


@pytest.fixture(scope="module")
def llama() -> ModelSpec:
    return load_model("llama2-7b")


def saved_params_pct(llama: ModelSpec, spec: str) -> float:
    hardware = load_hardware("a100-sxm-80gb")
    answer = estimate(llama, hardware, parse_decomposition([spec], llama), [Workload.prefill(128)])
    saved = answer.phases[0].saved["params_pct"]
    assert saved is not None
    return saved


@pytest.mark.parametrize(("percent", "layers"), PAPER)
def test_saved_parameters(llama: ModelSpec, percent: float, layers: str) -> None:
    decomposition = parse_decomposition([f"layers={layers} rank=1 form=tucker"], llama)
    if layers in LAYERS:
        assert sorted({site.layer for site in decomposition.factors}) == [int(each) for each in LAYERS[layers].split()]
    assert round(saved_params_pct(llama, f"layers={layers} tensors=all rank=1 form=tucker"), 6) == percent


def test_parameters_of_a_layer(llama: ModelSpec) -> None:
    assert llama.num_params == 6_738_415_616
    assert sum(tensor.params for tensor in llama.tensors) == 202_375_168
    left = [Tucker(1, 1).weight_params(tensor.out_features, tensor.in_features) for tensor in llama.tensors]
    assert sum(left) == 78_087


@pytest.mark.parametrize(("rank", "percent"), [(1, 3.0021), (250, 2.7071), (500, 2.3980)])
def test_one_layer(llama: ModelSpec, rank: int, percent: float) -> None:
    assert round(saved_params_pct(llama, f"layers=7 rank={rank} form=tucker"), 4) == percent


@pytest.mark.parametrize(
    ("shape", "tucker", "svd"),
    [((4096, 4096), 1696, 2048), ((4096, 11008), 2553, 2985), ((768, 768), 318, 384), ((768, 3072), 538, 614)],
)
def test_break_even_ranks(shape: tuple[int, int], tucker: int, svd: int) -> None:
    assert break_even_rank(*shape, "tucker") == break_even_rank(*reversed(shape), "tucker") == tucker
    assert break_even_rank(*shape, "svd") == svd


def test_equal_cost_at_break_even(llama: ModelSpec) -> None:
    q = llama.tensor("q_proj")
    assert LowRank(2048).weight_params(q.out_features, q.in_features) == q.weight_params
    assert saved_params_pct(llama, "tensors=attn rank=2048") == 0
    assert Decomposition().above_break_even(llama) == []
