"""Bars of long work: one home for them, and where no terminal is a line now and then, not under -q."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from quality_cases import checkpoint

from costmodel._version import __version__
from costmodel.cli import run
from costmodel.cli.common import say
from costmodel.errors import InputError
from validate.cli import cli, main
from validate.cli.progress import EVERY_S, LOADING, Lines, RunProgress, WorkBar

pytest.importorskip("rich")
ROOT = Path(__file__).resolve().parents[3]


def test_bars_have_one_home() -> None:
    files = [*(ROOT / "validate").rglob("*.py"), *(ROOT / "scripts").glob("*.py")]
    makers = [
        path.relative_to(ROOT).as_posix()
        for path in files
        if re.search(r"(?<!class )\bProgress\(\*?", path.read_text())
    ]
    assert makers == ["validate/cli/progress.py"]


@pytest.mark.parametrize("terminal", [False, True])
def test_no_bar_is_drawn_without_a_terminal(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    with WorkBar() as work:
        work.status("reading")
        work.count(1, 4)
        work.count(2, 8)
        work.show("writing", 3, 0)
    with RunProgress() as progress:
        progress.start(10, 3)
    found = capsys.readouterr()
    assert found.out == ""
    assert bool(found.err) == terminal


@pytest.mark.parametrize("text", ["[/bold] \x1b[2J", "[bold]x", "shape [1, 2]"])
def test_what_is_said_is_neither_markup_nor_obeyed(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with RunProgress() as progress:
        progress.status(text)
        progress.note(text)
    told = capsys.readouterr().err
    assert text.replace("\x1b", r"\x1b") in told
    assert "\x1b[2J" not in told


def test_without_a_terminal_a_line_is_said_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    lines = Lines(lambda: now[0])
    for second in range(0, 3 * int(EVERY_S) + 1, 15):
        now[0] = second
        lines.tell("measuring", second, 400)
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.splitlines() == [f"progress: measuring, {at * EVERY_S:.0f} of 400" for at in (1, 2, 3)]
    now[0] += EVERY_S
    lines.tell("writing", 0.25, 1)
    now[0] += EVERY_S
    lines.tell("reading", 0, None)
    assert capsys.readouterr().err == "progress: writing, 25 %\nprogress: reading\n"


def test_loading_is_said_before_it_begins_and_not_where_it_is_behind(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "torch", sys)
    with WorkBar() as bar:
        bar.status(LOADING)
    assert capsys.readouterr().err == ""
    monkeypatch.delitem(sys.modules, "torch")
    with WorkBar() as bar:
        bar.status("reading")
        bar.status(LOADING)
        bar.status("writing")
    assert capsys.readouterr().err == f"progress: {LOADING}\n"


COMMANDS = {
    "validate": ["--model", "llama-70m", "--samples", "1", "--out"],
    "sensitivity": ["--model", "none", "--text", __file__, "--out"],
    "quality": ["--model", "MODEL", "--text", __file__, "--blocks", "2", "--length", "8", "--samples", "1", "--out"],
    "choose": ["--model", "MODEL", "--text", __file__, "--calibration-text", __file__, "--hw", "amd-epyc-2t", "--out"],
    "apply": ["--model", "none", "--decompose", "rank=1", "--out"],
    "heal": ["none", "--dense", "none", "--text", __file__, "--judge-text", __file__, "--out"],
    "export": ["onnx", "none", "--out"],
    "import": ["gguf", "none", "--out"],
}
"""Every command that loads torch, and words with which it comes to that; MODEL is a checkpoint."""
WITHOUT_TORCH = """
import sys
from validate.cli import main

class Torch:
    def find_spec(name, path=None, target=None):
        if name == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name=name)

sys.meta_path.insert(0, Torch)
main()
"""
"""The command where torch cannot be loaded: what it says came before that."""


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_says_at_once_that_it_loads(name: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model") if "MODEL" in COMMANDS[name] else tmp_path
    words = [str(folder) if word == "MODEL" else word for word in COMMANDS[name]]
    out = tmp_path / ("x.onnx" if name == "export" else "out")
    argv = [*([] if name == "validate" else [name]), *words, str(out)]
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH, *argv], capture_output=True, text=True, cwd=ROOT)
    missing = "error: a library that measuring needs is missing: got 'torch'"
    lines = [line for line in done.stderr.splitlines() if not line.startswith("note: ")]
    assert lines[0] == f"progress: {LOADING}"
    assert [line.partition(";")[0] for line in lines[1:]] == [missing]


@pytest.mark.parametrize("make", [WorkBar, RunProgress])
def test_every_bar_says_its_lines(
    make: type[WorkBar] | type[RunProgress], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("validate.cli.progress.EVERY_S", 0.0)
    with make() as bar:
        bar.status("reading the text")
    assert capsys.readouterr().err == "progress: reading the text\n"


@pytest.mark.parametrize(
    ("words", "work", "said"),
    [
        (["export", "onnx", "folder", "--out", "x.onnx"], "validate.runtimes.folder.export_folder", "exporting folder"),
        (["import", "gguf", "x.gguf", "--out", "out"], "validate.checkpoint.gguf.import_gguf", "reading x.gguf"),
    ],
)
def test_work_of_one_piece_says_its_lines(
    words: list[str],
    work: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    told: list[str] = []

    def waited_for(text: str) -> None:
        began = time.monotonic()
        while not any(line.startswith(f"progress: {text}, ") for line in told):
            assert time.monotonic() - began < 30, told
            time.sleep(0.001)

    def slow(*args: object) -> None:
        waited_for(said)
        status = args[-1]
        assert callable(status)
        status("writing")
        waited_for("writing")
        raise InputError("enough")

    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(work, slow)
    monkeypatch.setattr("validate.runtimes.export.require_onnx", lambda: None)
    monkeypatch.setattr("costmodel.cli.progress.EVERY_S", 0.001)
    monkeypatch.setattr("costmodel.cli.progress.say", lambda line, err: told.append(line))
    assert run(cli, words) == 2
    assert capsys.readouterr().err == "error: enough\n"


def test_quiet_and_verbose_stand_before_a_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused = ["report", str(tmp_path / "none")]
    assert run(cli, ["-v", *refused]) == 2
    version, error = sorted(capsys.readouterr().err.splitlines(), reverse=True)
    assert re.fullmatch(rf"validate {re.escape(__version__)}: \d+\.\d\d s", version)
    assert error.startswith("error: cannot read records")
    assert run(cli, ["-q", *refused]) == 2
    assert capsys.readouterr().err.splitlines() == [error]
    assert run(cli, ["-q", "-v", *refused]) == 2
    assert "leave one out" in capsys.readouterr().err


def test_quiet_leaves_out_notes_and_lines_and_keeps_warnings(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("validate.cli.progress.EVERY_S", 0.0)
    with cli.make_context("validate", ["-q", "report", "x"]):
        say("note: one", err=True)
        say("warning: two", err=True)
        with RunProgress() as progress:
            progress.status("measuring")
            progress.note("note: three")
            progress.note("warning: four")
    assert capsys.readouterr().err == "warning: two\nwarning: four\n"


@pytest.mark.parametrize(("words", "offline"), [(["-q", "apply"], None), (["apply"], None), (["-v", "report"], "1")])
def test_flags_before_a_command_do_not_keep_it_from_the_hub(
    words: list[str], offline: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("validate.cli.run_and_exit", lambda group, argv: None)
    monkeypatch.setattr("os.environ", {})
    main(words)
    assert os.environ.get("HF_HUB_OFFLINE") == offline
