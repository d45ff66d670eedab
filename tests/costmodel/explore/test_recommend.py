"""Recommendations: a yes holds at the pessimistic end, with the least damage there is; a no says why."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from costmodel.cli import cli, run
from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.recipe import load_recipe
from costmodel.decomposition.sites import site_mask
from costmodel.decomposition.text import parse_decomposition
from costmodel.errors import InputError
from costmodel.explore.goal import Goal
from costmodel.explore.recommend import recommend
from costmodel.families.load import load_model
from costmodel.pricing.estimate import estimate
from costmodel.pricing.setup import WorkloadSettings
from studies.models.prior import prior_damage
from validate.plans.configs_file import load_configs

JSON = ["--format", "json"]
NEWCOMER = ["--hw", "l4,h100-sxm-80gb,amd-epyc-2t", "--batch", "1,32", "--phase", "decode", "--faster", "20%"]


@pytest.fixture(name="ask")
def _ask(capsys: pytest.CaptureFixture[str]) -> Any:
    def ask(*arguments: str, code: int = 0) -> str:
        assert run(cli, list(arguments)) == code
        done = capsys.readouterr()
        return done.err if code else done.out

    return ask


@pytest.mark.parametrize("model", ["qwen2.5-1.5b", "smollm2-135m"])
def test_the_newcomers_table_is_one_command(model: str, ask: Any) -> None:
    found = json.loads(ask("recommend", "--model", model, *NEWCOMER, "--format", "json"))
    places = [(row["hardware"], row["workload"]["batch"]) for row in found["rows"]]
    assert places == [(device, batch) for device in ("l4", "h100-sxm-80gb", "amd-epyc-2t") for batch in (1, 32)]
    for row in found["rows"]:
        if row["verdict"]["code"] == "yes":
            assert row["saved_p05_pct"] >= 20
            assert row["saved_p05_pct"] <= row["saved_pct"] <= row["saved_p95_pct"]
            assert row["saved_pct"] <= row["most_saved_pct"] + 1e-9
        else:
            assert row["config"] is None
            assert row["verdict"]["reason"] in ("launch-bound", "compute-bound", "floor", "damage", "uncertain")
            assert row["verdict"]["text"]
        assert {each["weight_dtype"] for each in row["quantised"]} == {"int8", "fp8"}
        assert row["next"].startswith("costmodel ")
    assert any(row["verdict"]["code"] == "yes" for row in found["rows"]) == (model == "qwen2.5-1.5b")


def test_a_yes_is_what_estimate_says_of_the_configuration() -> None:
    setup = WorkloadSettings(model="qwen2.5-1.5b", hw="amd-epyc-2t", phase="decode").setup()
    (work,) = setup.workloads
    row = recommend(setup.model, setup.hardware, work, Goal.of(faster="20%"), calibration=setup.calibration)
    assert row.config is not None
    priced = estimate(setup.model, setup.hardware, row.config, [work], calibration=setup.calibration).phases[0]
    assert priced.saved["latency_pct"] == pytest.approx(row.saved_pct)
    assert priced.saved["latency_p05_pct"] == pytest.approx(row.saved_p05_pct)
    assert prior_damage(row.config, setup.model) == pytest.approx(row.damage)


def test_nothing_that_was_sampled_reaches_the_goal_with_less_damage() -> None:
    setup = WorkloadSettings(model="gpt2", hw="amd-epyc-2t", phase="decode", batch=32).setup()
    (work,) = setup.workloads
    goal = Goal.of(faster="5%")
    row = recommend(setup.model, setup.hardware, work, goal, calibration=setup.calibration, max_damage=9.0)
    assert row.damage is not None
    rng = np.random.default_rng(0)
    shares = rng.choice([10, 30, 50, 70, 90], size=40)
    for share, last in zip(shares, rng.integers(2, 12, size=40), strict=True):
        group = rng.choice(["all", "attn", "mlp", "c_fc", "mlp_proj"])
        specs = [f"layers=1-{last} tensors={group} rank={share}%"]
        other = parse_decomposition(specs, setup.model)
        priced = estimate(setup.model, setup.hardware, other, [work], calibration=setup.calibration).phases[0]
        end = priced.saved["latency_p05_pct"]
        assert end is not None
        assert end < 5 or prior_damage(other, setup.model) >= row.damage * 0.9


def test_smaller_and_fits_count_bytes_and_dense_may_do() -> None:
    setup = WorkloadSettings(model="smollm2-135m", hw="l4", phase="decode").setup()
    (work,) = setup.workloads

    def ask(**goal: str) -> Any:
        return recommend(setup.model, setup.hardware, work, Goal.of(**goal), calibration=setup.calibration)

    small = ask(smaller="25%")
    assert small.verdict.code == "yes"
    assert small.saved_pct >= 25
    assert small.saved_pct == small.saved_p05_pct
    assert ask(smaller="95%").verdict.reason == "floor"
    assert ask(fits="24GB").config == Decomposition()
    fitted = ask(fits="240MB")
    priced = estimate(setup.model, setup.hardware, fitted.config, [work]).phases[0]
    assert priced.decomposed.peak_memory_bytes <= 240e6 < priced.dense.peak_memory_bytes


def test_a_goal_must_be_one_and_in_range(ask: Any) -> None:
    question = ["recommend", "--model", "gpt2", "--hw", "l4", "--phase", "decode"]
    assert "what must it reach" in ask(*question, code=2)
    assert "what must it reach" in ask(*question, "--faster", "20%", "--fits", "1GB", code=2)
    assert "out of range" in ask(*question, "--faster", "120%", code=2)
    assert "not a unit" in ask(*question, "--faster", "20GB", code=2)
    for option, number, hint in (
        ("--faster", "0.2", "write 20% or 0.2%"),
        ("--smaller", ".5", "write 50% or 0.5%"),
        ("--fits", "24", "write 24GB or 24B"),
        ("--fits", "24000", "write 24000GB or 24000B"),
    ):
        assert hint in ask(*question, option, number, code=2)
    assert Goal.of(faster="0.2%") == Goal.of(faster="0.2 %") == Goal(kind="faster", amount=0.2)
    assert Goal.of(smaller=25) == Goal.of(smaller="25%")
    assert Goal.of(fits=24e9) == Goal.of(fits="24GB") == Goal.of(fits="24G")
    with pytest.raises(InputError, match="write 24GB"):
        Goal.of(fits=24)
    for damage in ("-1", "nan"):
        assert "allowed: a number from 0" in ask(*question, "--faster", "20%", "--max-damage", damage, code=2)


def test_without_a_calibration_no_yes_is_given() -> None:
    setup = WorkloadSettings(model="qwen2.5-1.5b", hw="l4", phase="decode", runtime=None, calibration="none").setup()
    row = recommend(setup.model, setup.hardware, setup.workloads[0], Goal.of(faster="5%"))
    assert row.verdict.code == "no"
    assert row.saved_p05_pct is None


def test_recipes_and_presets_are_written_and_read(ask: Any, tmp_path: Path) -> None:
    recipe, found = tmp_path / "recipe.toml", tmp_path / "found.json"
    question = ["--model", "smollm2-135m", "--hw", "l4", "--phase", "decode"]
    text = ask("recommend", *question, "--smaller", "25%", "--save-recipe", str(recipe), "--format", "json")
    found.write_text(text)
    (row,) = json.loads(text)["rows"]
    again = json.loads(ask("estimate", *question, "--recipe", str(recipe), "--format", "json"))
    assert again["decomposition"] == row["config"]
    model = load_model("smollm2-135m")
    assert load_configs(recipe, model) == load_configs(found, model)
    judged = json.loads(ask("recommend", *question, "--smaller", "25%", "--recipe", str(recipe), "--format", "json"))
    assert judged["rows"][0]["config"] == row["config"]
    explored = [
        "explore",
        *question,
        "--ranks",
        "64",
        "--objectives",
        "decode.latency_s,params",
        "--recipe",
        str(recipe),
    ]
    beside = json.loads(ask(*explored, "--limit", "saved.params_pct>=99%", "--format", "json"))["recipe"]
    costs = again["phases"][0]["decomposed"]
    assert beside["objectives"] == {"decode.latency_s": costs["latency_s"], "params": costs["params"]}
    assert (beside["config"], beside["within"]) == (row["config"], False)
    assert beside["damage"] == pytest.approx(row["damage"])
    assert sum(line.startswith(" recipe ") for line in ask(*explored).splitlines()) == 1
    assert "recipe" in {line["list"] for line in csv.DictReader(io.StringIO(ask(*explored, "--format", "csv")))}
    assert "one question" in ask(*explored, "--batch", "1,2", code=2)
    saved = ask("estimate", *question, "--preset", "keep-ends", "--save-recipe", str(recipe), "--format", "csv")
    configurations = {line["configuration"] for line in csv.DictReader(io.StringIO(saved))}
    assert len(configurations) == 2
    assert load_configs(recipe, model) == [parse_decomposition(["layers=1-28 rank=50%"], model)]
    recipe.write_text("schema = 2\ndecompose = []\n")
    assert "schema" in ask("estimate", *question, "--recipe", str(recipe), code=2)


def test_the_table_markdown_and_csv_have_a_row_each(ask: Any) -> None:
    question = ["recommend", "--model", "gpt2", "--hw", "l4,t4", "--phase", "decode", "--faster", "10%"]
    table = ask(*question)
    assert sum(line.startswith((" l4 ", " t4 ")) for line in table.splitlines()) == 2
    assert ask(*question, "--format", "markdown").count("\n| ") == 4
    assert len(list(csv.DictReader(io.StringIO(ask(*question, "--format", "csv"))))) == 2


def test_layers_of_different_tensors_are_answered_as_estimate_prices_them() -> None:
    setup = WorkloadSettings(model="deepseek-v3", hw="b200-sxm", phase="decode", tp=8).setup()
    (work,), model = setup.workloads, setup.model
    assert not site_mask(model).all()
    row = recommend(model, setup.hardware, work, Goal.of(smaller="20%"))
    assert row.verdict.code == "yes"
    assert row.config is not None
    priced = estimate(model, setup.hardware, row.config, [work]).phases[0]
    assert priced.saved["weight_bytes_pct"] == pytest.approx(row.saved_pct)
    assert parse_decomposition(str(row.spec).split(" + "), model) == row.config


def test_the_next_command_asks_the_same_question(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    how = ["--runtime", "graph", "--dtype", "fp16", "--seq-len", "64"]
    asked = ["recommend", "--model", "gpt2", "--hw", "l4", "--phase", "decode", *how, "--smaller", "20%"]
    assert run(cli, [*asked, "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    estimate, _, measure = row["next"].partition(" && ")
    words = shlex.split(estimate)[1:]
    words[words.index("--save-recipe") + 1] = str(tmp_path / "recipe.toml")
    assert run(cli, [*words, "--format", "json"]) == 0
    (phase,) = json.loads(capsys.readouterr().out)["phases"]
    assert phase["dense"] == row["dense"]
    assert {"--runtime graph", "--dtype fp16"} <= {f"{a} {b}" for a, b in itertools.pairwise(shlex.split(measure))}


def test_the_next_command_takes_the_recipe_that_was_saved(ask: Any, tmp_path: Path) -> None:
    recipe = str(tmp_path / "own recipe.toml")
    question = ["recommend", "--model", "gpt2", "--phase", "decode", "--smaller", "20%", "--save-recipe", recipe]
    first, second = json.loads(ask(*question, "--hw", "l4,t4", "--format", "json"))["rows"]
    words = shlex.split(first["next"])
    assert words[0] == "validate"
    assert words[-2:] == ["--configs", recipe]
    assert "--save-recipe recipe.toml && validate" in second["next"]  # a row that was not saved
    assert parse_decomposition(load_recipe(recipe), load_model("gpt2")).to_json() == first["config"]
    (unfit,) = json.loads(ask(*question[:1], "--model", "llama2-70b", *question[3:], "--hw", "a100-sxm-80gb", *JSON))[
        "rows"
    ]
    assert shlex.split(unfit["next"])[:2] == ["costmodel", "estimate"]  # which no validate follows
    assert shlex.split(unfit["next"])[-2:] == ["--recipe", recipe]
    text = ask(*question, "--hw", "l4")
    assert f"wrote {recipe}" in text
    assert "--save-recipe" not in text


def test_what_is_asked_for_instead_says_when_damage_binds_it(ask: Any) -> None:
    question = ["recommend", "--model", "qwen2.5-0.5b", "--hw", "l4", "--stack", "vllm", "--phase", "decode", *JSON]
    told = {}
    for damage in ("0", "1", "100"):
        (row,) = json.loads(ask(*question, "--faster", "42%", "--max-damage", damage))["rows"]
        assert row["verdict"]["reason"] == "uncertain"
        told[damage] = row["verdict"]["text"].partition("pessimistic end of that; ")[2]
    assert told["0"] == "within a damage of 0 none is sure"
    bound = re.fullmatch(r"within a damage of 1 ask for --faster ([0-9.]+)% at most", told["1"])
    free = re.fullmatch(r"ask for --faster ([0-9.]+)% at most", told["100"])
    assert bound
    assert free
    assert 0 < float(bound[1]) < float(free[1]) < 42


def test_what_no_device_holds_is_no_yes_and_what_several_hold_is(ask: Any) -> None:
    question = ["recommend", "--model", "llama2-70b", "--phase", "decode", "--smaller", "20%", "--format", "json"]
    unfit, fitted = json.loads(ask(*question, "--hw", "t4,a100-sxm-80gb"))["rows"]
    assert unfit["verdict"]["reason"] == "does-not-fit"
    assert unfit["config"] is None
    peak = fitted["dense"]["peak_memory_bytes"]
    assert peak > 80e9 >= peak * (1 - fitted["saved_pct"] / 100)
    assert "dense does not fit" in fitted["verdict"]["text"]
    assert "validate" not in fitted["next"]


def test_of_several_devices_validate_follows_on_one_where_one_holds_the_model(ask: Any) -> None:
    question = ["recommend", "--model", "gpt2", "--hw", "l4", "--phase", "decode", "--tp", "2", "--smaller", "20%"]
    (row,) = json.loads(ask(*question, "--format", "json"))["rows"]
    estimate, _, measure = row["next"].partition(" && ")
    assert "--tp 2" in estimate
    assert measure.startswith("validate ")
    assert "--tp" not in measure
    assert "validate measures on one device" in ask(*question)


@pytest.mark.parametrize("measured", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_the_next_commands_run_as_they_are_printed(
    measured: bool, ask: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sizes = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4}
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128, **sizes}
    (tmp_path / "my model.json").write_text(json.dumps(config))
    question = ["recommend", "--model", "my model.json", "--hw", "amd-epyc-2t,l4", "--kv-len", "9", "--phase", "decode"]
    ran = []
    for goal in (["--smaller", "20%"], ["--faster", "99%"], ["--smaller", "20%", "--tp", "2", "--stack", "vllm"]):
        for row in json.loads(ask(*question, *goal, "--format", "json"))["rows"]:
            for command in (row["next"] or "").split(" && "):
                words = shlex.split(command)
                ran += words[:2]
                if words[:1] == ["costmodel"]:
                    ask(*words[1:])
                elif measured and "amd-epyc-2t" in words:
                    pytest.importorskip("torch")
                    from validate.cli import cli as measuring

                    assert run(measuring, words[1:]) == 0
    assert {"estimate", "roofline", "validate"} <= set(ran)


@pytest.mark.parametrize("preset", ["uniform-50", "mlp-only"])
def test_a_preset_alone_is_what_a_no_speaks_of(preset: str, ask: Any) -> None:
    question = ["recommend", "--model", "gpt2", "--hw", "l4", "--phase", "decode", "--faster", "20%"]
    (row,) = json.loads(ask(*question, "--preset", preset, "--format", "json"))["rows"]
    assert row["verdict"]["code"] == "no"
    assert "this configuration saves" in row["verdict"]["text"]
    (row,) = json.loads(ask(*question, "--format", "json"))["rows"]
    assert "this configuration" not in row["verdict"]["text"]


def test_a_ceiling_in_nats_is_of_the_prior_and_a_stand_in_has_its_own_unit(ask: Any) -> None:
    question = ["recommend", "--model", "gpt2", "--hw", "l4", "--phase", "decode", "--smaller", "25%"]
    question += ["--quality", "standin:params", "--format", "json"]
    (row,) = json.loads(ask(*question))["rows"]
    assert row["verdict"]["code"] == "yes"
    assert row["damage"] > 1
    (row,) = json.loads(ask(*question, "--max-damage", "1"))["rows"]
    assert row["verdict"]["reason"] == "damage"
    assert "parameters removed in %" in row["verdict"]["text"]
    assert "nats" not in row["verdict"]["text"]


def test_where_the_damage_is_too_much_the_reason_says_what_to_ask_for(ask: Any, tmp_path: Path) -> None:
    tiny = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 3,
        "vocab_size": 128,
    }
    (tmp_path / "config.json").write_text(json.dumps({**tiny, "num_attention_heads": 4}))
    question = ["recommend", "--model", str(tmp_path), "--hw", "l4", "--phase", "decode", "--format", "json"]
    (row,) = json.loads(ask(*question, "--smaller", "40%"))["rows"]
    told = row["verdict"]["text"]
    assert row["verdict"]["reason"] == "damage"
    assert told.endswith("or allow more with --max-damage, or give what was measured (--quality FILE)")
    less = re.search(r"ask for --smaller ([0-9.]+%) at most", told)
    assert less is not None
    for more in (["--smaller", less[1]], ["--smaller", "40%", "--max-damage", "9"]):
        assert json.loads(ask(*question, *more))["rows"][0]["verdict"]["code"] == "yes"
    (row,) = json.loads(ask(*question, "--smaller", "40%", "--quality", "standin:params", "--max-damage", "1e-9"))[
        "rows"
    ]
    assert "ask for" not in row["verdict"]["text"]  # nothing keeps that but dense


def test_what_is_too_uncertain_is_told_what_to_ask_for(ask: Any) -> None:
    question = ["recommend", "--model", "llama2-7b", "--hw", "a100-sxm-80gb", "--batch", "32", "--phase", "decode"]
    (row,) = json.loads(ask(*question, "--faster", "20%", "--format", "json"))["rows"]
    assert row["verdict"]["reason"] == "uncertain"
    less = re.search(r"ask for --faster ([0-9.]+%) at most$", row["verdict"]["text"])
    assert less is not None
    (row,) = json.loads(ask(*question, "--faster", less[1], "--format", "json"))["rows"]
    assert row["verdict"]["code"] == "yes"


def test_a_reason_of_several_rows_is_said_once(ask: Any) -> None:
    question = ["recommend", "--model", "gpt2", "--hw", "a100-sxm-80gb,l4", "--phase", "decode", "--faster", "20%"]
    assert "\nall: launch-bound: " in ask(*question)
    printed = " ".join(ask(*question, "--batch", "1,32").split())
    assert printed.count("launch-bound: the host's launches") == 1
    assert "a100-sxm-80gb, decode, batch 32; l4, decode, batch 1: launch-bound: " in printed


def test_a_reason_says_which_of_several_questions_it_answers(ask: Any) -> None:
    question = ["recommend", "--model", "gpt2", "--hw", "l4", "--phase", "decode", "--faster", "90%"]
    text = " ".join(ask(*question, "--tp", "1,2", "--stack", "graph,vllm", "--kv-len", "64,128").split())
    reasons = set(re.findall(r"l4, (?:graph|vllm), . devices?, decode, batch 1, \d+ tokens(?=; l4|: )", text))
    assert len(reasons) == 8


def test_of_several_rows_the_table_says_where_the_other_commands_are(ask: Any) -> None:
    question = ["recommend", "--model", "gpt2", "--hw", "l4,t4", "--phase", "decode", "--smaller", "20%"]
    assert "next, of the other rows: --format json or csv" in ask(*question)


def test_an_answer_without_a_configuration_is_printed_before_the_recipe_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ["recommend", "--model", "gpt2", "--hw", "l4", "--phase", "decode", "--faster", "90%"]
    assert run(cli, [*asked, "--save-recipe", str(tmp_path / "recipe.toml")]) == 2
    printed = capsys.readouterr()
    assert "no: " in printed.out
    assert printed.err.startswith("error: nothing is recommended")
    assert not list(tmp_path.iterdir())


def test_where_dense_fits_it_is_said_once(ask: Any) -> None:
    out = ask("recommend", "--model", "gpt2", "--hw", "l4", "--phase", "decode", "--fits", "24GB")
    assert "dense as it is\n" in out
    assert ": dense" not in out.replace(": dense as it is", "")
