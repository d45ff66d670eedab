"""Several devices, stacks, batches and lengths in one call: a comparison, each answer as if it were asked alone."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.cli import cli, run

ESTIMATE = ["estimate", "--model", "smollm2-135m", "--phase", "decode", "--decompose", "rank=50%"]


@pytest.fixture(name="ask")
def _ask(capsys: pytest.CaptureFixture[str]) -> Any:
    def ask(*arguments: str, code: int = 0) -> str:
        assert run(cli, list(arguments)) == code
        done = capsys.readouterr()
        return done.err if code else done.out

    return ask


def test_each_answer_of_a_comparison_is_the_one_that_is_given_alone(ask: Any) -> None:
    several = json.loads(ask(*ESTIMATE, "--hw", "l4,t4", "--batch", "1", "--batch", "8", "--format", "json"))
    assert several["hardware"] == ["l4", "t4"]
    places = [(entry["workload"]["hardware"], entry["workload"]["batch"]) for entry in several["phases"]]
    assert places == [("l4", 1), ("l4", 8), ("t4", 1), ("t4", 8)]
    for entry, (device, batch) in zip(several["phases"], places, strict=True):
        alone = json.loads(ask(*ESTIMATE, "--hw", device, "--batch", str(batch), "--format", "json"))
        assert alone["hardware"] == device
        (phase,) = alone["phases"]
        assert {key: value for key, value in entry.items() if key != "workload"} == {
            key: value for key, value in phase.items() if key != "workload"
        }
        assert entry["workload"] == {**phase["workload"], "hardware": device, "stack": None}


def test_a_request_of_each_is_told_with_its_place(ask: Any) -> None:
    several = json.loads(ask("estimate", "--model", "gpt2", "--hw", "l4,t4", "--new-tokens", "4", "--format", "json"))
    assert [entry["workload"]["hardware"] for entry in several["request"]] == ["l4", "t4"]


def test_csv_has_a_row_for_each_variant_and_the_stack_where_one_is_named(ask: Any) -> None:
    text = ask(*ESTIMATE, "--hw", "l4", "--stack", "vllm,eager", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [(row["stack"], row["variant"]) for row in rows] == [
        (stack, variant) for stack in ("vllm", "eager") for variant in ("dense", "decomposed")
    ]


def test_the_table_names_what_differs_in_columns_and_the_rest_once(ask: Any) -> None:
    lines = ask(*ESTIMATE, "--hw", "l4,t4", "--kv-len", "100,200").splitlines()
    assert "decode" in lines[0]
    assert "batch 1" in lines[0]
    (header,) = [line for line in lines if "factored" in line]
    assert header.split()[:2] == ["device", "tokens"]
    assert sum(line.startswith((" l4 ", " t4 ")) for line in lines) == 4


def test_markdown_is_a_table_for_one_answer_too(ask: Any) -> None:
    lines = ask(*ESTIMATE, "--hw", "l4", "--format", "markdown").splitlines()
    assert [line.count("|") for line in lines[2:5]] == [lines[2].count("|")] * 3
    assert lines[4].startswith("| l4 |")


def test_explorations_and_rooflines_compare_too(ask: Any) -> None:
    question = ["--model", "bert-base", "--hw", "l4,t4", "--phase", "prefill", "--format", "json"]
    for command in (["explore", *question, "--ranks", "64"], ["roofline", *question]):
        answer = json.loads(ask(*command))
        assert [entry["workload"]["hardware"] for entry in answer["phases"]] == ["l4", "t4"]
    alone = json.loads(ask("explore", "--model", "bert-base", "--hw", "t4", "--ranks", "64", "--format", "json"))
    first = json.loads(ask("explore", *question, "--ranks", "64"))["phases"][1]
    assert {**alone, "elapsed_s": 0} == {**{k: v for k, v in first.items() if k != "workload"}, "elapsed_s": 0}


@pytest.mark.parametrize(("most_params", "fewest"), [(50_000_000, 1), (30_000_000, 2), (20_000_000, 4), (1, None)])
def test_the_fewest_devices_within_the_limits_are_named(ask: Any, most_params: int, fewest: int | None) -> None:
    question = ["explore", "--model", "gpt2", "--hw", "a100-sxm-80gb", "--phase", "decode", "--ranks", "64"]
    limited = [*question, "--tp", "4,1,2", "--limit", f"params<={most_params}"]
    answer = json.loads(ask(*limited, "--format", "json"))
    assert [entry["workload"].get("tp", 1) for entry in answer["phases"]] == [4, 1, 2]
    (machine,) = answer["machines"]
    assert (machine["tp"], machine["fewest"]) == ([1, 2, 4], fewest)
    told = f"the fewest within the limits: {fewest or 'none'} of 1, 2, 4 devices"
    assert told in " ".join(ask(*limited).split())


def test_stages_and_experts_are_compared_as_devices_are(ask: Any) -> None:
    question = ["--model", "mixtral-8x7b", "--hw", "h100-sxm-80gb", "--phase", "decode", "--batch", "2", "--ep", "1,2"]
    rows = json.loads(ask("estimate", *question, "--pp", "1,2", "--format", "json"))["phases"]
    split = [(row["workload"].get("ep", 1), row["workload"].get("pp", 1)) for row in rows]
    assert split == [(1, 1), (1, 2), (2, 1), (2, 2)]
    few = ["explore", "--model", "gpt2", "--hw", "l4", "--phase", "decode", "--ranks", "64", "--tp", "2", "--pp", "2,1"]
    (machine,) = json.loads(ask(*few, "--limit", "params<=1e9", "--format", "json"))["machines"]
    assert (machine["tp"], machine["pp"], machine["fewest"]) == ([2, 2], [1, 2], 2)
    told = " ".join(ask(*few, "--limit", "params<=1e9").split())
    assert "within the limits: 2 of 2, 4 (tp 2, pp 2) devices" in told


def test_each_number_of_devices_is_answered_as_if_alone(ask: Any) -> None:
    question = ["explore", "--model", "gpt2", "--hw", "a100-sxm-80gb", "--phase", "decode", "--ranks", "64"]
    alone = json.loads(ask(*question, "--tp", "2", "--format", "json"))
    both = json.loads(ask(*question, "--tp", "1,2", "--format", "json"))
    assert alone["frontier"] == both["phases"][1]["frontier"]
    assert "machines" not in alone
    assert "does not divide num_heads 12 of gpt2" in ask(*question, "--tp", "5,7", code=2)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("estimate", ["--decompose", "rank=50%"]),
        ("roofline", []),
        ("explore", ["--ranks", "64"]),
        ("recommend", ["--smaller", "20%"]),
    ],
)
@pytest.mark.parametrize(
    ("devices", "how", "why"),
    [
        ("amd-epyc-2t,l4", ["--stack", "vllm"], "replays no graph"),
        ("t4,l4", ["--dtype", "bf16"], "no matrix rate"),
    ],
)
def test_a_row_that_cannot_be_answered_says_why_and_the_others_are_answered(
    command: str, words: list[str], devices: str, how: list[str], why: str, ask: Any
) -> None:
    question = [command, "--model", "gpt2", "--phase", "decode", *words, *how]
    answer = json.loads(ask(*question, "--hw", devices, "--format", "json"))
    rows = answer["rows" if command == "recommend" else "phases"]
    assert [row["workload"]["hardware"] for row in rows] == devices.split(",")
    refused, answered = rows
    assert why in json.dumps(refused["verdict"])
    assert set(answered) <= set(refused)
    alone = json.loads(ask(*question, "--hw", "l4,l40", "--format", "json"))
    one = alone["rows" if command == "recommend" else "phases"][0]
    assert {**answered, "elapsed_s": 0} == {**one, "elapsed_s": 0}
    table = " ".join(ask(*question, "--hw", devices).split())
    assert "impossible" in table
    assert why in table
    assert why in ask(*question, "--hw", devices, "--format", "csv")
    assert "impossible" in ask(*question, "--hw", devices, "--format", "markdown")
    assert why in ask(*question, "--hw", devices.partition(",")[0], code=2)


def test_a_picture_of_several_and_a_bad_value_among_them_are_refused(ask: Any) -> None:
    assert "one question" in ask("roofline", "--model", "gpt2", "--hw", "l4,t4", "-o", "x.png", code=2)
    assert "'x' is not a valid integer" in ask(*ESTIMATE, "--hw", "l4", "--batch", "1,x", code=2)
    assert "unknown hardware" in ask(*ESTIMATE, "--hw", "l4,nothing", code=2)


@pytest.mark.parametrize(
    ("command", "options"),
    [
        ("estimate", {"--save-recipe": "e.toml", "--plot": "e.svg"}),
        ("explore", {"--save-recipe": "x.toml", "--report": "x.html", "--plot": "x.svg"}),
        ("roofline", {"-o": "r.html"}),
    ],
)
def test_the_files_that_are_asked_for_are_written_beside_markdown_too(
    ask: Any, tmp_path: Path, command: str, options: dict[str, str]
) -> None:
    pytest.importorskip("matplotlib")
    files = [word for name, file in options.items() for word in (name, str(tmp_path / file))]
    extra = {"explore": ["--ranks", "64", "--objectives", "latency_s,params"]}.get(command, [])
    text = ask(command, "--model", "gpt2", "--hw", "l4", "--phase", "decode", *extra, *files, "--format", "markdown")
    assert "| " in text
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(options.values())


def test_several_questions_share_a_recipe_and_a_failed_one_leaves_none(ask: Any, tmp_path: Path) -> None:
    recipe = tmp_path / "e.toml"
    assert "unknown hardware" in ask(*ESTIMATE, "--hw", "l4,nothing", "--save-recipe", str(recipe), code=2)
    assert not recipe.exists()
    ask(*ESTIMATE, "--hw", "l4,t4", "--save-recipe", str(recipe))
    assert recipe.exists()


def test_explorations_over_lengths_of_the_prompt_are_told_apart(ask: Any) -> None:
    question = ["explore", "--model", "gpt2", "--hw", "l4", "--ranks", "64", "--top", "1"]
    lengths = ["--phase", "both", "--seq-len", "16,32", "--kv-len", "64"]
    rows = list(csv.DictReader(io.StringIO(ask(*question, *lengths, "--format", "csv"))))
    assert {(row["q_len"], row["kv_len"]) for row in rows} == {("16", "64"), ("32", "64")}
    phases = json.loads(ask(*question, *lengths, "--format", "json"))["phases"]
    assert [entry["workload"]["q_len"] for entry in phases] == [16, 32]


@pytest.mark.parametrize("command", ["estimate", "roofline"])
def test_a_phase_is_answered_once_for_each_of_its_own_questions(command: str, ask: Any) -> None:
    lengths = ["--seq-len", "8,16", "--kv-len", "30,40"]
    answer = json.loads(ask(command, "--model", "gpt2", "--hw", "l4", *lengths, "--format", "json"))
    works = [phase["workload"] for phase in answer["phases"]]
    assert sorted(
        (work["phase"], work["q_len"] * (work["phase"] == "prefill") or work["kv_len"]) for work in works
    ) == [
        ("decode", 30),
        ("decode", 40),
        ("prefill", 8),
        ("prefill", 16),
    ]


@pytest.mark.parametrize("values", ["l4,", ",l4", "l4,,t4"])
def test_a_comma_without_a_name_beside_it_is_said(values: str, ask: Any) -> None:
    assert "missing beside a comma" in ask("estimate", "--model", "gpt2", "--hw", values, code=2)


def test_a_graph_of_several_devices_is_refused_as_such(ask: Any) -> None:
    assert "a graph is of one device" in ask("graph", "--model", "gpt2", "--hw", "l4,t4", code=2)


@pytest.mark.parametrize("wrong", [["--host", "foo"], ["--tp", "2", "--tp-ways", "foo"]])
def test_what_is_allowed_is_listed_once(wrong: list[str], ask: Any) -> None:
    error = ask("estimate", "--model", "gpt2", "--hw", "l4", *wrong, code=2)
    assert "allowed: " in error
    assert "known: " not in error


@pytest.mark.parametrize("command", ["estimate", "explore", "recommend"])
def test_a_recipe_is_written_into_a_toml_file_alone(command: str, ask: Any, tmp_path: Path) -> None:
    question = [command, "--model", "gpt2", "--hw", "l4", "--phase", "decode"]
    question += ["--smaller", "20%"] if command == "recommend" else []
    assert "allowed: .toml" in ask(*question, "--save-recipe", str(tmp_path / "x.json"), code=2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", ["estimate", "roofline", "graph", "recommend", "explore"])
def test_a_recipe_of_another_model_is_warned_of_and_beside_a_preset_refused(
    command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    recipe = tmp_path / "recipe.toml"
    question = [command, "--model", "gpt2", "--hw", "l4", "--phase", "decode", "--recipe", str(recipe)]
    question += ["--smaller", "20%"] if command == "recommend" else []
    for model, warnings in (("llama2-7b", 1), ("gpt2", 0)):
        recipe.write_text(f'schema = 1\nmodel = "{model}"\ndecompose = ["layers=all rank=50%"]\n')
        assert run(cli, question) == 0
        assert capsys.readouterr().err.count("warning: ") == warnings
    if command == "explore":  # which has no presets
        return
    assert run(cli, [*question, "--preset", "mlp-only"]) == 2
    assert "--preset and --recipe" in capsys.readouterr().err
