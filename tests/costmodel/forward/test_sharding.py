"""Tensor parallelism: shares of a model, ways to split factors, and what they cost."""

from __future__ import annotations

import json

import numpy as np
import pytest

from costmodel.cli import cli, run
from costmodel.decomposition.factors import Decomposition, LowRank, Site, make_factor
from costmodel.errors import InputError
from costmodel.families.load import load_model
from costmodel.families.registry import spec_from_config
from costmodel.forward.frame import prologue
from costmodel.forward.sharding import WAYS, break_even, possible_devices, rank_of
from costmodel.forward.workload import WAY_NAMES, Way, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.configurations import Configurations
from costmodel.pricing.estimate import estimate, pricer

A100 = load_hardware("a100-sxm-80gb")


@pytest.mark.parametrize("name", ["llama2-7b", "qwen2.5-7b", "bert-base", "gpt2", "opt-6.7b"])
@pytest.mark.parametrize("devices", [2, 4])
def test_shares_of_split_weights_add_up_to_the_whole(name: str, devices: int) -> None:
    model = load_model(name)
    for part, whole in zip(rank_of(model, devices).tensors, model.tensors, strict=True):
        assert part.split
        assert devices * part.weight_params == whole.weight_params


def test_few_key_heads_are_held_by_several_devices() -> None:
    model = load_model("qwen2.5-7b")
    assert model.num_kv_heads == 4
    assert rank_of(model, 4).num_kv_heads == 1


@pytest.mark.parametrize("devices", [3, 5])
def test_heads_that_cannot_be_dealt_out_are_refused(devices: int) -> None:
    with pytest.raises(InputError, match="--tp"):
        rank_of(load_model("llama2-70b"), devices)


@pytest.mark.parametrize("name", ["llama2-70b", "qwen2.5-1.5b", "gpt2"])
def test_every_number_of_devices_that_is_offered_is_taken_and_no_other(name: str) -> None:
    model = load_model(name)
    offered = possible_devices(model)
    for devices in range(1, 17):
        if devices in offered:
            assert rank_of(model, devices).num_heads * devices == model.num_heads
        else:
            with pytest.raises(InputError, match=", ".join(map(str, offered))):
                rank_of(model, devices)


@pytest.mark.parametrize("form", ["svd", "tucker"])
@pytest.mark.parametrize("ways", [WAY_NAMES, ("gather", "scatter"), ("reduce-hidden",)])
def test_arrays_cost_what_the_operations_cost(form: str, ways: tuple[Way, ...]) -> None:
    model = load_model("llama2-7b")
    ranks = {Site(layer, t.name): 64 + 16 * layer + 3 for layer in range(3) for t in model.tensors}
    ranks |= {Site(5, t.name): 256 for t in model.tensors}
    configuration = Decomposition({site: make_factor(form, rank) for site, rank in ranks.items()}, frozenset({7}))  # type: ignore[arg-type]
    work = Workload.prefill(64, batch=2, tp=4, ways=ways)
    result = estimate(model, A100, configuration, [work]).phases[0]
    ops, timings = result.ops()
    assert result.decomposed.flops == sum(op.cost.flops for op in ops)
    assert result.decomposed.hbm_bytes == sum(op.cost.hbm_bytes for op in ops)
    assert result.decomposed.kernels == sum(op.cost.kernels for op in ops)
    assert result.decomposed.device_s == pytest.approx(timings.latency_s.sum(), rel=1e-12)


def test_the_fastest_way_is_taken_and_none_is_faster_than_all_together() -> None:
    model = load_model("llama2-7b")
    configuration = Decomposition({Site(0, t.name): LowRank(512) for t in model.tensors})

    def device_s(ways: tuple[Way, ...]) -> float:
        priced = pricer(model, A100, Workload.prefill(512, tp=4, ways=ways))
        return float(priced.costs(Configurations.of(model, configuration)).device_s)

    free = device_s(WAY_NAMES)
    pairs: list[tuple[Way, Way]] = [(rows, columns) for rows in WAYS["rows"] for columns in WAYS["columns"]]
    assert free == pytest.approx(min(device_s(pair) for pair in pairs), rel=1e-9)
    assert len({round(device_s(pair), 12) for pair in pairs}) == len(pairs)


@pytest.mark.parametrize("form", ["svd", "tucker"])
@pytest.mark.parametrize("way", WAY_NAMES)
def test_at_break_even_factors_hold_no_more_than_the_share_and_one_more_holds_more(form: str, way: Way) -> None:
    model = load_model("llama2-7b")
    rank = rank_of(model, 4)
    tensor = next(t for t in rank.tensors if way in WAYS[t.split])
    layer_params = {}
    limit = break_even(way, tensor, form, 4)  # type: ignore[arg-type]
    for shift in (0, 4 - limit % 4 or 4) if way in ("gather", "scatter") else (0, 1):
        r = limit - (limit % 4 if way in ("gather", "scatter") else 0) + shift
        configuration = Decomposition({Site(0, tensor.name): make_factor(form, r)})  # type: ignore[arg-type]
        priced = pricer(model, A100, Workload.prefill(8, tp=4, ways=(way,)))
        layer_params[shift] = int(priced.costs(Configurations.of(model, configuration)).params)
    dense = int(priced.costs(Configurations.of(model, Decomposition())).params)
    below, above = layer_params.values()
    assert below <= dense < above


def test_a_request_of_several_devices_grows_as_its_steps_do() -> None:
    model = load_model("llama2-7b")
    alone, shared = (
        estimate(model, A100, Decomposition(), [Workload.prefill(64, tp=tp)], new_tokens=4).request for tp in (1, 4)
    )
    assert alone is not None
    assert shared is not None
    step = pricer(model, A100, Workload.decode(65, tp=4)).costs(Configurations.of(model, Decomposition()))
    assert shared.dense.tpot_s == pytest.approx(float(step.latency_s), rel=0.05)
    assert shared.dense.peak_memory_bytes < alone.dense.peak_memory_bytes / 3


def test_the_answer_is_of_one_device_and_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    asked = "estimate --model llama2-70b --hw a100-sxm-80gb --tp 4 --decompose rank=512 --phase decode --format json"
    assert run(cli, asked.split()) == 0
    answer = json.loads(capsys.readouterr().out)["phases"][0]
    assert answer["dense"]["fits"]
    assert answer["workload"]["tp"] == 4
    whole = answer["devices"]["whole"]["dense"]
    assert whole["params"] == load_model("llama2-70b").num_params
    assert whole["flops"] == 4 * answer["dense"]["flops"]
    assert answer["devices"]["ways"]["down_proj"] == {"reduce-rank": 80}
    sent = [op for op in answer["ops"] if op["bound"] == "communication"]
    assert answer["decomposed"]["communication_s"] == pytest.approx(np.sum([op["latency_s"] for op in sent]))


@pytest.mark.parametrize("options", ["--tp 3", "--tp 16", "--tp 0", "--tp 2 --tp-ways all", "--tp-ways gather"])
def test_what_no_server_has_is_one_line(options: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, f"estimate --model llama2-70b --hw a100-sxm-80gb {options}".split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_logits_of_the_whole_vocabulary_are_gathered_before_what_follows_them() -> None:
    config = {
        "model_type": "gemma2",
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "head_dim": 8,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 96,
        "final_logit_softcapping": 30.0,
    }
    model = spec_from_config(config, name="tiny", source="test")
    one, four = (pricer(model, A100, Workload.prefill(8, tp=tp)).ops(Decomposition()) for tp in (1, 4))
    place = next(index for index, op in enumerate(four) if op.kind == "all_gather")
    assert four[place].cost.message_bytes == 96 * 2
    assert four[place - 1].gemm == (1, 24, 32)
    after = [op.out_bytes for op in four[place + 1 :]]
    assert after
    assert after == [op.out_bytes for op in one[-len(after) :]]


@pytest.mark.parametrize("name", ["llama2-7b", "gpt2", "opt-125m", "bert-base"])
def test_rows_of_the_token_table_are_summed_and_nothing_else_before_the_layers(name: str) -> None:
    """Each device looks up the rows that it holds: what follows takes the sum of all devices' rows."""
    model = load_model(name)
    one, two = (prologue(rank_of(model, tp), Workload.prefill(8, batch=3, tp=tp)) for tp in (1, 2))
    (summed,) = [op for op in two.ops if op.kind == "all_reduce"]
    words = next(op for op in one.ops if op.kind == "embedding")
    assert summed.inputs == (words.name,)
    assert summed.cost.message_bytes == 2 * 8 * 3 * model.embed_dim
    kept = [op for op in two.ops if op is not summed]
    assert [op.name for op in kept] == [op.name for op in one.ops]
    taken = {words.name: summed.name}
    for before, after in zip(one.ops, kept, strict=True):
        assert after.inputs == tuple(taken.get(each, each) for each in before.inputs)
        assert after.holds == tuple(taken.get(each, each) for each in before.holds)
    assert two.start.first == taken.get(one.start.first, one.start.first)
    assert two.start.carried == tuple(taken.get(each, each) for each in one.start.carried)


def test_a_masked_lm_shares_its_decoder_out() -> None:
    config = {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "vocab_size": 96,
    }
    model = spec_from_config(config, name="tiny", source="test")
    ops = pricer(model, A100, Workload.prefill(8, tp=4)).ops(Decomposition())
    gathered = next(op for op in ops if op.kind == "all_gather")
    assert gathered.cost.message_bytes == 8 * 96 * 2
    assert next(op for op in ops if op.name == gathered.inputs[0]).gemm == (8, 24, 32)
