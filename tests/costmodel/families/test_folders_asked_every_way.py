"""A factored folder has one price, whoever asks: commands, Python, by path or object, alone or compared, as a point."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

import costmodel as cm
from costmodel.cli import cli, run
from costmodel.decomposition.held import held
from costmodel.show.layer_graph import layer_graphs
from costmodel.show.roofline_chart import RooflineChart

SIZES: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
}
LLAMA: dict[str, Any] = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **SIZES}
MIXTRAL: dict[str, Any] = {
    "model_type": "mixtral",
    "architectures": ["MixtralForCausalLM"],
    **SIZES,
    "num_local_experts": 4,
    "num_experts_per_tok": 2,
    "num_key_value_heads": 4,
}
BERT: dict[str, Any] = {"model_type": "bert", "architectures": ["BertModel"], **SIZES}
TWO, THREE = {"form": "svd", "rank": [8, 8]}, {"form": "tucker", "rank": [6, 4]}
FOLDERS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "two factors": (LLAMA, {"modules": {"0.self_attn.q_proj": TWO, "2.mlp.down_proj": TWO}}),
    "three factors and a layer less": (LLAMA, {"modules": {"2.mlp.up_proj": THREE}, "drop": [1]}),
    "int8": (LLAMA, {"modules": {"1.mlp.gate_proj": TWO}, "weight_dtype": "int8"}),
    "experts": (MIXTRAL, {"modules": {"0.self_attn.o_proj": TWO}, "drop": [2]}),
    "an encoder": (BERT, {"modules": {"1.intermediate.dense": TWO}, "layers": "encoder.layer"}),
}
QUESTIONS: list[dict[str, Any]] = [
    {"hw": "l4"},
    {"hw": "t4", "phase": "prefill", "batch": 4, "seq_len": 40},
    {"hw": "a100-sxm-80gb", "phase": "decode", "kv_len": 65, "runtime": "graph"},
    {"hw": "h100-sxm-80gb", "phase": "decode", "stack": "vllm", "batch": 8},
    {"hw": "amd-epyc-2t", "calibration": "none", "dtype": "fp32"},
]
"""What is asked, in the words of the API."""


def folder_of(place: Path, name: str) -> Path:
    """A folder of a factored model, as its config.json says it."""
    config, entry = FOLDERS[name]
    usual = {"quant_method": "low_rank", "layers": "model.layers", "num_layers": 3, "drop": [], "weight_dtype": None}
    place.mkdir()
    content = {**config, "quantization_config": {**usual, "int8": [], "shards": 1, **entry}}
    (place / "config.json").write_text(json.dumps(content))
    return place


def asked(question: dict[str, Any]) -> list[str]:
    return [word for name, value in question.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def said(capsys: pytest.CaptureFixture[str], *words: str) -> Any:
    """The JSON that a command prints, which has nothing to warn of."""
    assert run(cli, [*words, "--format", "json"]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return json.loads(printed.out)


def plain(answer: object) -> Any:
    return json.loads(json.dumps(answer))


@pytest.mark.parametrize(
    ("name", "question"),
    [
        (name, {**each, "phase": "prefill"} if name == "an encoder" else each)
        for name in FOLDERS
        for each in QUESTIONS
        if name != "an encoder" or each.get("phase") != "decode"
    ],
    ids=str,
)
def test_every_question_has_one_answer(
    name: str, question: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path / "factored", name)
    spec, words = cm.load_model(folder), ["--model", str(folder), *asked(question)]
    own = held(spec)
    assert own is not None
    options = {key: value for key, value in question.items() if key != "hw"}
    alone = cm.estimate(folder, question["hw"], **options)
    told = said(capsys, "estimate", *words)
    told.pop("likely")
    assert plain(alone.to_dict()) == told
    assert told["decomposition"] == plain(own.to_json())
    for model, specs in ((spec, ()), (spec, own), (str(folder), "")):
        again = plain(cm.estimate(model, question["hw"], specs, **options).to_dict())
        assert again["phases"] == told["phases"]
    several = cm.compare(spec, [question["hw"], "l40s"], **options)
    assert several.results[0].phases == alone.phases
    compared = said(capsys, "estimate", *words[:2], "--hw", f"{question['hw']},l40s", *asked(options))
    assert plain(several.to_dict()) == compared
    chart = said(capsys, "roofline", *words)
    assert chart["panels"] == plain(RooflineChart.of(alone).to_json())["panels"]
    _, graphs = layer_graphs(alone)
    drawn = said(capsys, "graph", *words)
    assert [graph["latency_s"] for graph in drawn["graphs"]] == [graph.latency_s for graph in graphs]
    shown = said(capsys, "models", "show", str(folder))
    assert shown["params"] == spec.num_params == told["phases"][0]["dense"]["params"]
    assert shown["factored"]["params"] == told["phases"][0]["decomposed"]["params"] < shown["params"]


@pytest.mark.parametrize("name", FOLDERS)
@pytest.mark.parametrize(("hw", "stack"), [("l4", "eager"), ("a100-sxm-80gb", "vllm")])
def test_a_point_is_the_estimate_of_its_stack(name: str, hw: str, stack: str, tmp_path: Path) -> None:
    from validate.replay.points import predict_points, read_points

    folder = folder_of(tmp_path / "factored", name)
    phases = ["prefill"] if name == "an encoder" else ["prefill", "decode"]
    row = {"model_config": "factored/config.json", "dtype": "fp16", "batch": 2, "seq": 64, "measured": 1, "hw": hw}
    rows = [{**row, "phase": phase, "kind": kind, "stack": stack} for phase in phases for kind in ("time", "ratio")]
    with (tmp_path / "points.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    found = predict_points(read_points(tmp_path / "points.csv"), tmp_path)
    for number, phase in enumerate(phases):
        length = {"seq_len": 64} if phase == "prefill" else {"kv_len": 64}
        costs = cm.estimate(folder, hw, phase=phase, stack=stack, dtype="fp16", batch=2, **length).phases[0]
        time, ratio = found[2 * number : 2 * number + 2]
        assert time.prediction.value == pytest.approx(1e3 * costs.decomposed.latency_s, rel=1e-12)
        assert ratio.prediction.value == pytest.approx(costs.decomposed.latency_s / costs.dense.latency_s, rel=1e-12)


def test_the_dense_model_of_a_folder_is_asked_for_by_one_word(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = folder_of(tmp_path / "factored", "three factors and a layer less")
    assert run(cli, ["estimate", "--model", str(folder), "--hw", "l4", "--decompose", "dense", "--format", "json"]) == 0
    printed = capsys.readouterr()
    told = json.loads(printed.out)
    assert printed.err.startswith("warning: the folder of factored holds factors already")
    with pytest.warns(UserWarning, match="holds factors already"):
        found = cm.estimate(folder, "l4", "dense")
    assert plain(found.to_dict())["phases"] == told["phases"]
    assert [phase["saved"]["params_pct"] for phase in told["phases"]] == [0, 0]
