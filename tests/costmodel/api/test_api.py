"""The Python API: the command's numbers for the command's question, with strings or objects, and answers to look at."""

from __future__ import annotations

import csv
import inspect
import io
import json
import random
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import costmodel as cm
from costmodel.api.answers import Shown
from costmodel.cli import cli, run
from costmodel.decomposition.recipe import recipe_text
from costmodel.files.cells import cell
from costmodel.forward.workload import Phase

MODELS = ("smollm2-135m", "gpt2", "qwen2.5-0.5b", "bert-base", "opt-125m")
DEVICES = ("l4", "h100-sxm-80gb", "t4", "amd-epyc-2t", "a100-sxm-80gb")
SPECS = ((), ("rank=50%",), ("tensors=mlp rank=64",), ("layers=1-4 tensors=attn rank=25% form=tucker",))


def grid(count: int) -> list[tuple[str, str, tuple[str, ...], dict[str, Any]]]:
    """Questions drawn with a fixed seed."""
    rng = random.Random(7)
    found = []
    while len(found) < count:
        model, device = rng.choice(MODELS), rng.choice(DEVICES)
        options: dict[str, Any] = {"batch": rng.choice([1, 8, 32])}
        encoder = model == "bert-base"
        options["phase"] = "prefill" if encoder else rng.choice(["prefill", "decode", "both"])
        if options["phase"] == "decode":
            options["kv_len"] = rng.choice([65, 500])
        else:
            options["seq_len"] = rng.choice([32, 300])
        if device != "amd-epyc-2t":
            options["runtime"] = rng.choice(["eager", "graph"])
        options["calibration"] = rng.choice(["auto", "auto", "none"])
        if options["phase"] == "both" and rng.random() < 0.5:
            options["new_tokens"] = 8
        found.append((model, device, rng.choice(SPECS), options))
    return found


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(cli, [*arguments, "--format", "json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def flags(options: dict[str, Any]) -> list[str]:
    return [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.mark.parametrize("count", [10, pytest.param(200, marks=pytest.mark.slow)])
def test_an_estimate_is_the_commands(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    for model, device, specs, options in grid(count):
        words = [word for spec in specs for word in ("--decompose", spec)]
        command = said(capsys, "estimate", "--model", model, "--hw", device, *words, *flags(options))
        command.pop("likely")
        answer = cm.estimate(model, device, specs, **options).to_dict()
        assert json.loads(json.dumps(answer)) == command, (model, device, specs, options)


def test_the_other_questions_are_the_commands_too(capsys: pytest.CaptureFixture[str]) -> None:
    question = ["--model", "gpt2", "--hw", "l4,t4", "--batch", "1,8", "--phase", "decode"]
    command = said(capsys, "estimate", *question, "--decompose", "rank=50%")
    assert cm.compare("gpt2", ["l4", "t4"], "rank=50%", batch=[1, 8], phase="decode").to_dict() == command
    command = said(capsys, "recommend", *question, "--faster", "5%")
    answer = cm.recommend("gpt2", ["l4", "t4"], faster="5%", batch=[1, 8], phase="decode")
    assert json.loads(json.dumps(answer.to_dict())) == command
    asked = ["--model", "bert-base", "--hw", "l4", "--ranks", "64", "--limit", "saved.params_pct>=20%"]
    explored = said(capsys, "explore", *asked)
    found = cm.explore("bert-base", "l4", ranks="64", limits="saved.params_pct>=20%")
    assert {**json.loads(json.dumps(found.to_dict())), "elapsed_s": 0} == {**explored, "elapsed_s": 0}


@pytest.mark.parametrize(
    ("decompose", "words"),
    [
        ("keep-ends", ["--preset", "keep-ends"]),
        (["uniform-50", "layers=0 form=dense"], ["--preset", "uniform-50", "--decompose", "layers=0 form=dense"]),
        (["{recipe}", "layers=1 rank=8"], ["--recipe", "{recipe}", "--decompose", "layers=1 rank=8"]),
    ],
)
def test_what_names_a_configuration_may_stand_before_specs(
    decompose: str | list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(recipe_text(cm.parse_decomposition(["rank=16"], cm.load_model("gpt2")), cm.load_model("gpt2")))
    named = [text.format(recipe=recipe) for text in ([decompose] if isinstance(decompose, str) else decompose)]
    command = said(capsys, "estimate", "--model", "gpt2", "--hw", "l4", *(word.format(recipe=recipe) for word in words))
    command.pop("likely")
    assert json.loads(json.dumps(cm.estimate("gpt2", "l4", named).to_dict())) == command


def test_lists_stand_where_the_commands_options_repeat(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--hw", "h100-sxm-80gb,t4", "--tp", "1,2", "--batch", "1,8", "--kv-len", "64,512", "--phase", "decode"]
    several: dict[str, Any] = {"tp": [1, 2], "batch": [1, 8], "kv_len": (64, 512), "phase": "decode", "dtype": "fp16"}
    command = said(capsys, "estimate", "--model", "gpt2", *asked, "--dtype", "fp16")
    found = cm.compare("gpt2", ["h100-sxm-80gb", "t4"], **several)
    assert len(found.answers) == 16
    assert json.loads(json.dumps(found.to_dict())) == command
    command = said(capsys, "recommend", "--model", "gpt2", *asked, "--dtype", "fp16", "--smaller", "25%")
    wanted = cm.recommend("gpt2", ["h100-sxm-80gb", "t4"], smaller="25%", **several)
    assert json.loads(json.dumps(wanted.to_dict())) == command
    with pytest.raises(cm.InputError, match=r"one kv_len is asked of here: got \[64, 512\]"):
        cm.estimate("gpt2", "l4", kv_len=[64, 512])  # type: ignore[call-overload]


def test_what_cannot_be_answered_is_refused_as_the_command_does(capsys: pytest.CaptureFixture[str]) -> None:
    question = ["--model", "gpt2", "--hw", "amd-epyc-2t,l4", "--phase", "decode", "--stack", "vllm"]
    devices = ["amd-epyc-2t", "l4"]
    several = cm.compare("gpt2", devices, phase="decode", stack="vllm")
    assert json.loads(json.dumps(several.to_dict())) == said(capsys, "estimate", *question)
    wanted = cm.recommend("gpt2", devices, faster="5%", phase="decode", stack="vllm")
    assert json.loads(json.dumps(wanted.to_dict())) == said(capsys, "recommend", *question, "--faster", "5%")
    for answer in (several, wanted):
        assert (len(answer), len(answer.refused)) == (1, 1)
        assert "replays no graph" in answer.refused[0].text
        assert "impossible" in repr(answer)
    with pytest.raises(cm.HardwareError, match="replays no graph"):
        cm.compare("gpt2", "amd-epyc-2t", phase="decode", stack="vllm")


def test_objects_and_files_ask_the_same_question(tmp_path: Path) -> None:
    model, device = cm.load_model("gpt2"), cm.load_hardware("l4")
    config = cm.parse_decomposition(["tensors=mlp rank=64"], model)
    recipe, file = tmp_path / "recipe.toml", tmp_path / "config.json"
    recipe.write_text(recipe_text(config, model))
    file.write_text(json.dumps(config.to_json()))
    expected = cm.estimate("gpt2", "l4", "tensors=mlp rank=64", phase="decode").to_dict()
    for specs in (config, recipe, file, ["tensors=mlp rank=64"]):
        assert cm.estimate(model, device, specs, phase="decode").to_dict() == expected
    assert cm.estimate(model, device, config, [cm.Workload.decode(513)]).to_dict() == expected
    again = cm.estimate(model, device, config, [cm.Workload.decode(513)], calibration=None)
    assert again.level == cm.estimate("gpt2", "l4", config, phase="decode", calibration="none").level == "datasheet"


def test_a_recipe_is_read_by_its_path_as_text_too(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('schema = 1\nmodel = "llama2-7b"\ndecompose = ["layers=3 rank=64"]\n')
    assert cm.estimate("llama2-7b", "l4", str(recipe)) == cm.estimate("llama2-7b", "l4", "layers=3 rank=64")
    with pytest.raises(cm.CostModelError, match="cannot read"):
        cm.estimate("llama2-7b", "l4", str(tmp_path / "missing.toml"))


def test_a_recipe_of_another_model_is_warned_of(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text('schema = 1\nmodel = "llama2-7b"\ndecompose = ["rank=64"]\n')
    with pytest.warns(UserWarning, match="was written for llama2-7b and is applied to gpt2"):
        cm.estimate("gpt2", "l4", recipe, phase="decode")


def test_answers_show_themselves() -> None:
    answer = cm.estimate("gpt2", "l4", "rank=50%", phase="decode")
    assert len(repr(answer)) < 400
    assert "gpt2" in repr(answer)
    assert answer._repr_html_().startswith("<table>")
    assert isinstance(answer, cm.Estimate)
    several = cm.compare("gpt2", ["l4", "t4"], phase="decode")
    assert len(several) == len(list(several)) == 2
    assert several[1].hardware.name == "t4"
    assert "t4" in several._repr_html_()
    recommended = cm.recommend("gpt2", "l4", smaller="10%", phase="decode")
    assert "verdict" in repr(recommended)
    assert str(recommended[0].spec) in " ".join(repr(recommended).split())
    assert max(map(len, repr(recommended).splitlines())) <= 120


def test_an_answer_draws_itself() -> None:
    pytest.importorskip("matplotlib")
    assert cm.estimate("gpt2", "l4", "rank=50%", phase="decode").plot().axes
    assert cm.explore("bert-base", "l4", ranks="64", objectives="latency_s,params").plot().axes


def test_an_answer_that_cannot_show_itself_cannot_be_made() -> None:
    class Silent(Shown):
        def plot(self) -> Any:
            return None

    with pytest.raises(TypeError, match="abstract"):
        Silent()  # type: ignore[abstract]


def test_a_frame_needs_pandas_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(cm.InputError, match="pip install pandas"):
        cm.estimate("gpt2", "l4", phase="decode").to_frame()


def test_bad_words_are_told_in_a_line() -> None:
    with pytest.raises(cm.InputError, match="did you mean batch"):
        cm.estimate("gpt2", "l4", bacth=3)  # type: ignore[call-overload]
    with pytest.raises(cm.InputError, match="eager, graph"):
        cm.estimate("gpt2", "l4", runtime="fast")
    with pytest.raises(cm.InputError, match="leave the options out"):
        cm.estimate("gpt2", "l4", (), [cm.Workload.decode(9)], batch=2)  # type: ignore[call-overload]
    with pytest.raises(cm.HardwareError, match="unknown hardware"):
        cm.explore("gpt2", "nothing")


def test_the_package_of_explorations_stays_a_package() -> None:
    from costmodel.explore import explore

    assert cm.explore.explore is explore  # type: ignore[attr-defined]


@pytest.mark.parametrize("phase", ["decod", "decode ", None, "", 3])
def test_an_unknown_phase_is_not_taken_for_both(phase: Any) -> None:
    with pytest.raises(cm.InputError, match="prefill, decode, both"):
        cm.estimate("gpt2", "l4", phase=phase)


@pytest.mark.parametrize(
    "ask",
    [
        lambda: cm.compare("gpt2", []),
        lambda: cm.compare("gpt2", "l4", batch=[]),
        lambda: cm.compare("gpt2", "l4", stack=[]),
        lambda: cm.compare("gpt2", "l4", batch="4"),  # type: ignore[arg-type]
        lambda: cm.compare("gpt2", "l4", batch=None),  # type: ignore[arg-type]
        lambda: cm.recommend("gpt2", [], faster="20%"),
        lambda: cm.recommend("gpt2", "l4", faster=[20]),  # type: ignore[arg-type]
        lambda: cm.recommend("gpt2", "l4", smaller=float("nan")),
        lambda: cm.explore("gpt2", "l4", ranks=[]),
        lambda: cm.explore("gpt2", "l4", ranks=[0.5]),  # type: ignore[list-item]
        lambda: cm.explore("gpt2", "l4", keep=3),  # type: ignore[arg-type]
        lambda: cm.explore("gpt2", "l4", top="3"),  # type: ignore[arg-type]
        lambda: cm.explore("gpt2", "l4", quality=3),  # type: ignore[arg-type]
        lambda: cm.recommend("gpt2", "l4", faster=20, max_damage="x"),  # type: ignore[arg-type]
        lambda: cm.estimate("gpt2", "l4", (), ["decode"]),  # type: ignore[list-item]
        lambda: cm.estimate("gpt2", None),  # type: ignore[call-overload]
        lambda: cm.estimate(None, "l4"),  # type: ignore[call-overload]
        lambda: cm.estimate("gpt2", "l4", 3),  # type: ignore[call-overload]
        lambda: cm.estimate("gpt2", "l4", kv_dtype=3),  # type: ignore[call-overload]
        lambda: cm.estimate("gpt2", "l4", kv_dtype=0),  # type: ignore[call-overload]
        lambda: cm.estimate("gpt2", "l4", runtime=0),  # type: ignore[call-overload]
        lambda: cm.estimate("gpt2", "l4", seq_len=True),
    ],
)
def test_a_value_of_the_wrong_kind_is_told_in_a_line(ask: Callable[[], object]) -> None:
    with pytest.raises(cm.CostModelError) as told:
        ask()
    assert "\n" not in str(told.value)


def test_numbers_and_single_texts_mean_what_the_text_of_the_command_means() -> None:
    def explored(**options: Any) -> Any:
        answer = cm.explore("gpt2", "l4", phase="decode", **options).to_dict()
        return {**answer, "elapsed_s": 0}

    assert explored(ranks=[32, 64]) == explored(ranks="32,64")
    assert explored(ranks=32, keep="layers=0") == explored(ranks="32", keep=["layers=0"])
    for number, text in (({"faster": 20}, {"faster": "20%"}), ({"fits": 2e8}, {"fits": "200MB"})):
        assert cm.recommend("gpt2", "l4", phase="decode", **number).to_dict() == (  # type: ignore[arg-type]
            cm.recommend("gpt2", "l4", phase="decode", **text).to_dict()  # type: ignore[arg-type]
        )
    assert cm.estimate("gpt2", "l4", phase=Phase.DECODE) == cm.estimate("gpt2", "l4", phase="decode")


def test_the_rows_of_a_frame_are_those_of_the_commands_csv(capsys: pytest.CaptureFixture[str]) -> None:
    question = ["--model", "gpt2", "--hw", "l4", "--phase", "decode", "--format", "csv"]
    answers: list[tuple[list[str], Any]] = [
        (["explore", "--ranks", "64"], cm.explore("gpt2", "l4", phase="decode", ranks=64)),
        (["recommend", "--faster", "20%"], cm.recommend("gpt2", "l4", phase="decode", faster=20)),
        (["estimate"], cm.estimate("gpt2", "l4", phase="decode")),
    ]
    for words, answer in answers:
        assert run(cli, [*words, *question]) == 0
        printed = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
        rows = [{name: cell(value) for name, value in row.items() if name != "next"} for row in answer._rows()]
        assert [{name: "" if value is None else str(value) for name, value in row.items()} for row in rows] == [
            {name: text for name, text in row.items() if name != "next"} for row in printed
        ]


def test_explore_has_the_signature_of_its_question() -> None:
    from costmodel.api import asking

    assert inspect.signature(cm.explore) == inspect.signature(asking.explore)
    asked = set(inspect.signature(asking.explore).parameters)
    assert asked - {"options"} <= set(re.findall(r"[a-z_]+", str(asking.explore.__doc__)))


@pytest.mark.parametrize(
    ("ask", "hint"),
    [
        (lambda: cm.explore("gpt2", "l4", limit="params<=5"), "did you mean limits?"),  # type: ignore[call-arg]
        (lambda: cm.explore("gpt2", "l4", objectivs="params"), "did you mean objectives?"),  # type: ignore[call-arg]
        (lambda: cm.recommend("gpt2", "l4", fater="20%"), "did you mean faster or"),  # type: ignore[call-arg]
        (lambda: cm.estimate("gpt2", "l4", batch_size=3), "did you mean batch?"),  # type: ignore[call-overload]
        (lambda: cm.compare("gpt2", "l4", spec="rank=50%"), "did you mean decompose?"),  # type: ignore[call-arg]
        (lambda: cm.estimate("gpt2", "l4", preset="mlp-only"), "did you mean decompose?"),  # type: ignore[call-overload]
        (lambda: cm.estimate("gpt2", ["l4", "t4"]), "lists to compare"),  # type: ignore[call-overload]
        (lambda: cm.estimate("gpt2", "l4,t4"), "lists to compare"),
        (lambda: cm.estimate("gpt2", "l4", batch=[1, 2]), "lists to compare"),  # type: ignore[call-overload]
        (lambda: cm.estimate("gpt2", "cpu"), "auto is this machine"),
    ],
)
def test_a_near_miss_is_told_what_was_meant(ask: Callable[[], object], hint: str) -> None:
    with pytest.raises(cm.CostModelError) as told:
        ask()
    assert hint in str(told.value)


@pytest.mark.parametrize(
    ("words", "ask"),
    [
        (["estimate", "--hw", "l5"], lambda: cm.estimate("gpt2", "l5")),
        (["estimate", "--hw", "cpu"], lambda: cm.estimate("gpt2", "cpu")),
        (["estimate", "--hw", "l4", "--batch", "0"], lambda: cm.estimate("gpt2", "l4", batch=0)),
        (["estimate", "--hw", "l4", "--tp", "5"], lambda: cm.estimate("gpt2", "l4", tp=5)),
        (["estimate", "--hw", "l4", "--stack", "vlm"], lambda: cm.estimate("gpt2", "l4", stack="vlm")),
        (["estimate", "--hw", "l4", "--decompose", "rank=x"], lambda: cm.estimate("gpt2", "l4", "rank=x")),
        (["explore", "--hw", "l4", "--limit", "parms<=5"], lambda: cm.explore("gpt2", "l4", limits="parms<=5")),
        (["recommend", "--hw", "l4", "--faster", "0.2"], lambda: cm.recommend("gpt2", "l4", faster="0.2")),
    ],
)
def test_an_error_is_the_commands_line(
    words: list[str], ask: Callable[[], object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cli, [*words, "--model", "gpt2"]) == 2
    printed = capsys.readouterr().err
    with pytest.raises(cm.CostModelError) as told:
        ask()
    assert printed == f"error: {told.value}\n"


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"model": "gpt3"}, ["--model", "gpt3"]),
        ({"hw": "l5"}, ["--hw", "l5"]),
        ({"decompose": "tensors=nope rank=1"}, ["--decompose", "tensors=nope rank=1"]),
        ({"decompose": "rank=99999"}, ["--decompose", "rank=99999"]),
        ({"decompose": "none.toml"}, ["--recipe", "none.toml"]),
        ({"batch": 0}, ["--batch", "0"]),
        ({"kv_len": 0}, ["--kv-len", "0"]),
        ({"stack": "vlm"}, ["--stack", "vlm"]),
        ({"host": "mainframe"}, ["--host", "mainframe"]),
        ({"weight_dtype": "int3"}, ["--weight-dtype", "int3"]),
        ({"microbatches": 4}, ["--microbatches", "4"]),
        ({"tp": 5}, ["--tp", "5"]),
        ({"calibration": "none.json"}, ["--calibration", "none.json"]),
    ],
    ids=str,
)
def test_what_is_refused_is_refused_in_the_commands_words(
    question: dict[str, Any], words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(cm.CostModelError) as refused:
        cm.estimate(**{"model": "gpt2", "hw": "l4", "decompose": (), **question})
    assert run(cli, ["estimate", "--model", "gpt2", "--hw", "l4", *words]) == 2
    first = capsys.readouterr().err.splitlines()[-1]
    assert first == f"error: {refused.value}"
