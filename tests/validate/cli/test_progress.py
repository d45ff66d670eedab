"""Bars of long work: one home for them, and nothing drawn where no terminal is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from validate.cli.progress import RunProgress, WorkBar

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
def test_nothing_is_drawn_without_a_terminal(
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
