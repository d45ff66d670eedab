"""Plans: seeded, balanced, extendable; given configurations in every form that the tools write."""

from __future__ import annotations

import collections
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from validating import FAMILIES, LLAMA, tiny_spec

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import parse_decomposition
from costmodel.errors import DecompositionError
from costmodel.families.load import load_model
from costmodel.forward.workload import Phase
from costmodel.units import DType
from validate.plans.case import RANK_CLASSES, params_of, rank_class, strata_of
from validate.plans.configs_file import load_configs
from validate.plans.sampling import WorkloadChoice, aligned_rank, given_cases, sample_cases

CHOICE = WorkloadChoice(
    phases=(Phase.PREFILL, Phase.DECODE),
    batches=(1, 2, 4, 8),
    seq_lens=(16, 32, 64, 128),
    kv_lens=(64, 128, 256, 512),
    max_tokens=256,
    options=({"dtype": DType.FP32},),
)
ENCODER = WorkloadChoice(
    phases=(Phase.PREFILL,),
    batches=(1, 2),
    seq_lens=(16, 32),
    kv_lens=(),
    max_tokens=64,
    options=({"dtype": DType.FP32},),
)


def test_a_plan_is_seeded_and_a_longer_one_starts_with_it() -> None:
    spec = load_model("llama-70m")
    short, long = sample_cases(spec, 20, 3, CHOICE), sample_cases(spec, 60, 3, CHOICE)
    assert [case.id for case in long[:20]] == [case.id for case in short]
    assert [case.index for case in long] == list(range(60))
    assert len({case.id for case in long}) == 60
    assert {case.id for case in sample_cases(spec, 20, 4, CHOICE)} != {case.id for case in short}


@pytest.mark.parametrize("seed", range(5))
def test_twenty_samples_cover_every_stratum(seed: int) -> None:
    cases = sample_cases(load_model("llama-70m"), 20, seed, CHOICE)
    assert [case.strata.form for case in cases[:2]] == ["dense", "dense"]
    assert {case.work.phase for case in cases[:2]} == set(Phase)
    count = {
        "phase": collections.Counter(case.work.phase for case in cases),
        "batch": collections.Counter(case.work.batch for case in cases),
        "form": collections.Counter(case.strata.form for case in cases),
        "rank": collections.Counter(case.strata.rank_class for case in cases),
        "layers": collections.Counter(case.strata.layers for case in cases),
    }
    assert set(count["phase"].values()) == {10}
    assert set(count["batch"].values()) == {5}
    assert set(count["form"]) == {"dense", "svd", "tucker", "drop"}
    assert set(count["rank"]) >= {1, 2, 8, 16, 64}
    assert set(count["layers"]) >= {0, 1, 5, 10}
    assert sum(case.repeat for case in cases) == 3
    assert not any(case.repeat for case in cases[:2])
    assert all(case.work.tokens <= 256 for case in cases)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_case_fits_its_model(family: str) -> None:
    spec = tiny_spec(FAMILIES[family])
    for case in sample_cases(spec, 40, 0, ENCODER if spec.is_encoder else CHOICE):
        case.decomposition.check(spec)
        assert case.work.kv_len <= spec.max_positions
        assert len(case.decomposition.dropped) < spec.num_layers


def test_a_space_smaller_than_the_plan_ends() -> None:
    spec = tiny_spec(
        {
            **LLAMA,
            "num_hidden_layers": 1,
            "hidden_size": 4,
            "num_attention_heads": 1,
            "num_key_value_heads": 1,
            "intermediate_size": 2,
        }
    )
    cases = sample_cases(spec, 5000, 0, ENCODER)
    assert 5 < len(cases) < 5000


@given(st.floats(0.1, 5000), st.sampled_from(RANK_CLASSES), st.integers(1, 4096))
def test_aligned_ranks(target: float, size: int, limit: int) -> None:
    rank = aligned_rank(target, size, limit)
    assert 1 <= rank <= limit
    assert rank_class([rank]) == size or limit < 2 * size


def test_strata() -> None:
    spec = tiny_spec(LLAMA)
    mixed = parse_decomposition(["rank=8", "layers=1 tensors=q_proj rank=3 form=tucker", "layers=2 form=drop"], spec)
    strata = strata_of(spec, mixed)
    assert (strata.form, strata.rank_class, strata.layers, strata.tensors) == ("drop+svd+tucker", 1, 3, "all")
    assert strata_of(spec, parse_decomposition(["tensors=mlp rank=16"], spec)).tensors == "mlp"
    assert strata_of(spec, parse_decomposition(["tensors=mlp rank=16"], spec)).rank_class == 16
    dense = strata_of(spec, Decomposition())
    assert (dense.form, dense.rank_class, dense.layers, dense.param_ratio) == ("dense", 0, 0, 1.0)
    from validating import predictor, workloads

    counts = predictor().counts(spec, mixed, workloads(spec)[0])
    assert params_of(spec, mixed) == counts["params"]


def test_given_configurations_run_beside_dense_in_every_workload() -> None:
    spec = tiny_spec(LLAMA)
    given_ones = [parse_decomposition([f"rank={rank}"], spec) for rank in (2, 3)]
    cases = given_cases(spec, [*given_ones, given_ones[0], Decomposition()], CHOICE)
    assert len({case.id for case in cases}) == len(cases)
    per_work = collections.Counter(json.dumps(case.work.to_json()) for case in cases)
    assert set(per_work.values()) == {3}
    assert [case.index for case in cases] == list(range(len(cases)))


ONE = {"form": "svd", "ranks": {"layers.0.q_proj": 3}, "drop": []}
TWO = {"form": "tucker", "ranks": {"layers.1.up_proj": 4}, "drop": [0]}


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (ONE, 1),
        ([ONE, TWO], 2),
        ([ONE, ONE], 1),
        ({"frontier": [{"objectives": {}, "config": ONE}], "top": []}, 1),
        ({"top": [{"config": TWO}, {"config": ONE}], "frontier": [{"config": ONE}], "distribution": {}}, 2),
        ({"configs": [ONE, TWO]}, 2),
    ],
)
def test_configs_files(tmp_path: Path, content: Any, count: int) -> None:
    (tmp_path / "configs.json").write_text(json.dumps(content))
    assert len(load_configs(tmp_path / "configs.json", tiny_spec(LLAMA))) == count


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("[]", "no configurations"),
        ("3", "no configurations"),
        ('{"frontier": 3}', "no conf"),
        ('{"ranks": {"layers.9.q_proj": 3}}', "layer out of range"),
        ('[{"config": {"rank": 3}}]', "unknown key"),
        ('{"a": 1}', "unknown key"),
    ],
)
def test_bad_configs_files(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "configs.json").write_text(content)
    with pytest.raises(DecompositionError, match=message):
        load_configs(tmp_path / "configs.json", tiny_spec(LLAMA))
    with pytest.raises(DecompositionError, match="cannot read configurations"):
        load_configs(tmp_path / "missing.json", tiny_spec(LLAMA))
