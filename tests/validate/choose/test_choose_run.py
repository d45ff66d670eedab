"""The loop end to end on a tiny model: interrupted, continued, refused in one line, and reported from records alone."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import shutil
import signal
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("torch")

from quality_cases import OTHER_TEXT, TEXT, checkpoint
from schemas import checker

from costmodel.cli import run as run_command
from costmodel.families.load import load_model
from validate.choose.points import Plan, round_name
from validate.choose.results import read_results
from validate.choose.run import Loop
from validate.choose.settings import Settings
from validate.choose.stages import read_stages
from validate.cli import choose
from validate.errors import RunError
from validate.plans.configs_file import load_configs
from validate.quality.records import QUALITY

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(name="script")
def _script(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    for name in ("HF_HUB_OFFLINE", "TOKENIZERS_PARALLELISM"):
        monkeypatch.setenv(name, "1")  # what the script sets is taken back
    handler = signal.getsignal(signal.SIGTERM)
    yield choose
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def options(tmp_path: Path) -> list[str]:
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "calibration.txt").write_text(OTHER_TEXT)
    checkpoint(tmp_path / "llama")
    return [
        "--model",
        str(tmp_path / "llama"),
        "--text",
        str(tmp_path / "text.txt"),
        "--calibration-text",
        str(tmp_path / "calibration.txt"),
        "--hw",
        "epyc-9654",
        "--threads",
        "1",
        "--small",
        "--out",
        str(tmp_path / "out"),
    ]


@pytest.mark.slow
def test_from_a_checkpoint_to_a_choice(
    script: types.ModuleType,
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "out"
    given = tmp_path / "given.toml"
    given.write_text('schema = 1\ndecompose = ["layers=all tensors=mlp rank=50%"]\n')
    options += [
        "--recipe",
        str(given),
        "--rank-multiple",
        "4",
        "--accept",
        "100",
    ]  # the fastest is chosen, whatever random weights lose

    def killed(loop: Loop) -> str:
        raise KeyboardInterrupt

    whole = Loop._search
    monkeypatch.setattr(Loop, "_search", killed)
    assert run_command(script.command, options) == 130
    assert capsys.readouterr().err.strip().endswith("error: interrupted")
    done = {name for name, stage in read_stages(out).items() if stage.done}
    assert {"texts", "sensitivity", "samples", "fit", "layer dropping", "round 1, fit"} == done - {
        "round 1, search",
        "round 1, quality",
    }
    assert run_command(script.command, ["--out", str(out), "--report"]) == 2
    assert "cannot read plan" in capsys.readouterr().err
    assert not (out / "verify").exists()  # nothing is chosen by the other half
    kept = {name: (out / name).read_bytes() for name in ("quality.json", "quality1.json", "model.sensitivity")}
    before = (out / "search" / "quality.jsonl").read_bytes()

    monkeypatch.setattr(Loop, "_search", whole)
    assert run_command(script.command, options) == 0
    captured = capsys.readouterr()
    assert captured.out.count(": kept, ") == len(done)
    assert {name: (out / name).read_bytes() for name in kept} == kept
    assert (out / "search" / "quality.jsonl").read_bytes().startswith(before)
    spec = load_model(tmp_path / "llama")
    assert load_configs(out / "choice.json", spec)
    checker("choice").validate(json.loads((out / "choice.json").read_text()))
    found = [point for point in Plan.read(out).points if point.role == "frontier"]
    assert {rank % 4 for point in found for rank in point.config["ranks"].values()} <= {0}
    planned = {json.dumps(config.to_json()) for config in load_configs(out / "configs.json", spec)}
    for folder in ("search", "verify"):
        assert planned <= {json.dumps(record.config) for record in QUALITY.read(out / folder)}
    halves_differ(out)
    verdict = json.loads((out / "verdict.json").read_text())
    checker("verdict").validate(verdict)
    assert {each["axis"] for each in verdict["tallies"]} == {"prefill", "size"}
    assert verdict["choice_latency"]["prefill"]["again"]
    assert captured.out.count("at least as good as every baseline: ") == 1
    assert verdict["standing"]["sentence"] in captured.out
    assert "(timed again)" in captured.out
    next_line = next(line for line in captured.out.splitlines() if line.startswith("next: "))
    applied = shlex.split(next_line)[1:]
    assert applied[:2] == ["validate", "apply"]
    assert applied[applied.index("--choice") + 1] == str(out / "choice.json")
    assert {each["rule"] for each in verdict["duels"]} == {
        "random",
        "paper",
        "uniform",
        "late",
        "block",
        "greedy",
        "recipe",
    }
    assert load_configs(out / "recipe.toml", spec) == load_configs(out / "choice.json", spec)
    recipe = (out / "recipe.toml").read_bytes()

    page, records = (out / "report.html").read_bytes(), (out / "latency" / "samples.jsonl").read_bytes()
    assert 0 < page.index(b"The choice ") < page.index(b"At equal ")
    first, second = (json.loads((out / name).read_text())["predictor"] for name in ("quality.json", "quality1.json"))
    found = {point.key for point in Plan.read(out, round_name(1)).points if point.role != "baseline"}
    assert (first["points"], second["points"]) in ((0, 0), (0, len(found)))
    counts = re.search(rb"fitted to (\d+) configurations|as it is", page)
    assert counts is not None
    assert int(counts[1] or 0) == second["points"]
    assert b"43 random configurations measured beside" in page
    assert b"<script" not in page
    assert b"http-equiv" not in page
    assert b'src="http' not in page
    for gone in ("report.html", "verdict.json", "choice.json"):
        (out / gone).unlink()
    shutil.rmtree(tmp_path / "llama")  # from the records alone
    assert run_command(script.command, ["--out", str(out), "--report"]) == 0
    assert (out / "report.html").read_bytes() == page
    assert (out / "recipe.toml").read_bytes() == recipe
    assert (out / "latency" / "samples.jsonl").read_bytes() == records

    assert run_command(script.command, ["--out", str(out), "--report", "--accept", "0.5"]) == 0
    assert run_command(script.command, ["--out", str(out), "--report"]) == 0
    assert json.loads((out / "verdict.json").read_text())["accept"] == 0.5  # it is remembered

    checkpoint(tmp_path / "llama")
    capsys.readouterr()
    assert run_command(script.command, [*options, "--seed", "5"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: cannot resume with another seed")
    assert error.count("\n") == 1


def test_a_loop_goes_on_with_the_same_content_wherever_it_is(options: list[str], tmp_path: Path) -> None:
    profile = tmp_path / "here.toml"
    shutil.copy(ROOT / "hw_profiles" / "amd-epyc-2t.toml", profile)
    given = dict(zip(options[0::2], options[1::2], strict=False))
    settings = Settings(
        model=given["--model"], text=given["--text"], calibration_text=given["--calibration-text"], hw=str(profile)
    )
    kept = tmp_path / "kept"
    kept.mkdir()

    def keep(**changes: object) -> None:
        changed = replace(settings, **changes)
        changed.keep(kept, changed.setup())

    keep()
    keep(accept=0.2)
    assert Settings.read(kept).accept == 0.2
    Settings.read(kept).accepting(kept, 0.3)
    assert Settings.read(kept) == replace(settings, accept=0.3)
    (tmp_path / "there").mkdir()
    for name in ("llama", "text.txt", "here.toml"):
        shutil.move(tmp_path / name, tmp_path / "there" / name)
    there = {"model": str(tmp_path / "there" / "llama"), "text": str(tmp_path / "there" / "text.txt")}
    moved = str(tmp_path / "there" / "here.toml")
    keep(**there, hw=moved)
    shipped = (ROOT / "hw_profiles" / "calibrations" / "amd-epyc-2t.json").read_text()
    (tmp_path / "corrections.json").write_text(shipped)
    keep(**there, hw=moved, calibration=str(tmp_path / "corrections.json"))
    (tmp_path / "corrections.json").write_text(shipped + "\n")
    with pytest.raises(RunError, match="with another calibration: got "):
        keep(**there, hw=moved, calibration=str(tmp_path / "corrections.json"))
    text = Path(moved).read_text()
    Path(moved).write_text(text.replace("value = 73.2599", "value = 74.5", 1))
    assert Path(moved).read_text() != text
    with pytest.raises(RunError, match="with another hardware profile: got "):
        keep(**there, hw=moved)
    Path(moved).write_text(text)
    (tmp_path / "there" / "llama").rename(tmp_path / "there" / "other")
    with pytest.raises(RunError, match="with another model name: got 'other'; allowed: 'llama'"):
        keep(**{**there, "model": str(tmp_path / "there" / "other")}, hw=moved)


def test_default_ranks_begin_at_the_multiple_that_a_device_wants() -> None:
    settings = Settings(model="m", text="t", calibration_text="c", hw="h")
    on_gpu, named = replace(settings, device="cuda"), replace(settings, rank_multiple=4, ranks="8,50%")
    assert [each.multiple for each in (settings, on_gpu, named)] == [1, 8, 4]
    assert [each.rank_list[0].number for each in (settings, on_gpu, named)] == [1, 8, 8]
    assert on_gpu.rank_list[1:] == settings.rank_list[1:]


def halves_differ(out: Path) -> None:
    """Results take what was measured on each half from that half's records."""
    records = {
        name: {json.dumps(record.config, sort_keys=True): record for record in QUALITY.read(out / name)}
        for name in ("search", "verify")
    }
    for name, found in records.items():
        digest = hashlib.sha256((out / f"{name}.txt").read_bytes()).hexdigest()
        assert {record.text.source.sha256 for record in found.values() if record.text} == {digest}
    results = read_results(out)
    dense = results.dense.point.key
    for each in results.points:
        assert each.searched == records["search"][each.point.key].text
        assert each.verified == records["verify"][each.point.key].text
        for record, moved in ((each.searched, each.change_searched), (each.verified, each.change)):
            base = records["search" if record is each.searched else "verify"][dense].text
            assert base is not None
            assert moved.value == pytest.approx((sum(record.nll) - sum(base.nll)) / sum(base.tokens))
    assert any(each.change != each.change_searched for each in results.points)


def test_samples_may_grow_until_they_are_fitted(
    script: types.ModuleType,
    options: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out, words = tmp_path / "out", [*options, "--samples"]

    def killed(loop: Loop, name: str) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr(Loop, "_sensitivity", lambda loop: "")
    monkeypatch.setattr(Loop, "_fit", killed)
    assert run_command(script.command, [*words, "41"]) == 130
    assert [record.origin for record in QUALITY.read(out / "search")] == ["dense"] + ["sample"] * 40
    first = (out / "search" / "quality.jsonl").read_bytes()
    assert run_command(script.command, [*words, "44"]) == 130
    assert len(QUALITY.read(out / "search")) == 44
    assert (out / "search" / "quality.jsonl").read_bytes().startswith(first)
    capsys.readouterr()
    assert run_command(script.command, [*words, "43"]) == 1
    assert "cannot resume with another samples: got 43; allowed: 44" in capsys.readouterr().err
    stages = json.loads((out / "stages.json").read_text())
    (out / "stages.json").write_text(json.dumps({**stages, "fit": {**stages["fit"], "done": True}}))
    assert run_command(script.command, [*words, "50"]) == 1
    assert "cannot resume with another samples: got 50; allowed: 44" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--model", "none-such"], "no such checkpoint: got 'none-such'"),
        (["--hw", "abacus"], "abacus"),
        (["--text", "none-such.txt"], "--text: no such file: got 'none-such.txt'"),
        (["--ranks", "0"], "rank"),
        (["--ranks", "5000"], "5000"),
        (["--samples", "40"], "Invalid value for '--samples'"),
        (["--blocks", "4000"], "--text is too short: got "),
        (["--calibration-blocks", "4000"], "--calibration-text is too short: got "),
        (["--length", "4000"], "--length is beyond the model"),
        (["--phase", "training"], "--phase"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_before_anything_is_made(
    script: types.ModuleType,
    options: list[str],
    change: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_command(script.command, [*options, *change]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_missing_options_and_folders(
    script: types.ModuleType, options: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(script.command, ["--out", str(tmp_path / "out")]) == 2
    assert "--model is missing" in capsys.readouterr().err
    assert run_command(script.command, ["--out", str(tmp_path / "nothing"), "--report"]) == 2
    assert "no loop in this folder" in capsys.readouterr().err
    same = [*options, "--calibration-text", str(tmp_path / "text.txt")]
    assert run_command(script.command, same) == 2
    assert "is the text to predict" in capsys.readouterr().err
