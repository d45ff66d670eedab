"""The GPU script's bookkeeping: what is done is not done again, what fails does not stop the rest."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "gpu_session.py"


@pytest.fixture(name="session")
def _session(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    spec = importlib.util.spec_from_file_location("gpu_session", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_session", module)
    spec.loader.exec_module(module)
    stages = (module.Stage(name="once", samples=None, arguments=("-c", "pass")), module.sampled("bert", 3, "bert-base"))
    monkeypatch.setattr(module, "STAGES", stages)
    return module


def call(session: types.ModuleType, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["gpu_session.py", *arguments])
    return int(session.main())


def test_calls_continue_where_the_last_one_ended(
    session: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commands: list[list[str]] = []

    def fake(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if "validate" in command:
            with (tmp_path / "bert" / "samples.jsonl").open("ab") as file:
                file.write(b"{}\n" * 2)
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(session.subprocess, "run", fake)
    assert call(session, monkeypatch, "--out", str(tmp_path), "--list") == 0
    assert capsys.readouterr().out.splitlines() == [
        "once: to do",
        "bert: to do, 0 of 3 samples",
        "left to do: once, bert",
    ]
    assert call(session, monkeypatch, "--out", str(tmp_path)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "left to do: bert"
    assert call(session, monkeypatch, "--out", str(tmp_path)) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "all done"
    assert ["-c" in command for command in commands] == [True, False, False]
    assert json.loads((tmp_path / "once" / "done.json").read_text())["code"] == 0
    measure = commands[-1]
    assert measure[measure.index("--out") + 1] == str(tmp_path / "bert")
    assert "--resume" in measure
    assert int(measure[measure.index("--stop-after") + 1]) <= 9 * 60


def test_a_failing_stage_is_reported_and_the_next_one_runs(
    session: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def fake(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        seen.append(command[1])
        if "validate" in command:
            raise subprocess.TimeoutExpired(command, 1)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(session.subprocess, "run", fake)
    assert call(session, monkeypatch, "--out", str(tmp_path)) == 1
    out, err = capsys.readouterr()
    assert seen == ["-c", "-m"]
    assert err == "failed: once (exit code 3)\n"
    assert out.splitlines()[-1] == "left to do: bert"


def test_no_time_left_starts_nothing(
    session: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session.subprocess, "run", lambda *a, **k: pytest.fail("started"))
    assert call(session, monkeypatch, "--out", str(tmp_path), "--minutes", "0.5") == 0
    assert capsys.readouterr().out == "left to do: once, bert\n"


def test_the_commands_are_ones_that_validate_takes() -> None:
    """The real stages' options parse, as far as an option can be checked without a GPU."""
    pytest.importorskip("torch")
    from validate.cli import cli

    text = SCRIPT.read_text()
    known = {option for parameter in cli.params for option in parameter.opts}
    assert {"--model", "--samples", "--device", "--budget", "--precision", "--stop-after", "--out", "--resume"} <= known
    assert "--stop-after" in text


def test_a_resumable_command_is_done_when_its_product_is_there(
    session: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(session, "STAGES", (session.probe("probe", "calibration.json", "--points", "300"),))
    commands: list[list[str]] = []

    def fake(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if len(commands) == 2:
            (tmp_path / "probe" / "calibration.json").write_text("{}")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(session.subprocess, "run", fake)
    for last in ("left to do: probe", "all done", "all done"):
        assert call(session, monkeypatch, "--out", str(tmp_path)) == 0
        assert capsys.readouterr().out.splitlines()[-1] == last
    assert len(commands) == 2
    assert commands[1][1:7] == ["-m", "validate", "probe", "--device", "cuda", "--points"]
    assert "--resume" in commands[1]
    assert not (tmp_path / "probe" / "done.json").exists()
