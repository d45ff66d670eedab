"""Work of one piece: a line now and then while it lasts, nothing where it is short or under -q."""

from __future__ import annotations

import time

import pytest

from costmodel.cli import cli, progress, run
from costmodel.cli.progress import EVERY_S, Working

QUESTIONS = [
    ["explore", "--model", "bert-base", "--hw", "l4,t4", "--ranks", "64"],
    ["recommend", "--model", "bert-base", "--hw", "l4,t4", "--faster", "20%"],
]


def test_long_work_says_what_it_is_at_and_for_how_long(capsys: pytest.CaptureFixture[str]) -> None:
    told = ""

    def waited_for(text: str) -> None:
        nonlocal told
        began = time.monotonic()
        while text not in told:
            assert time.monotonic() - began < 30
            time.sleep(0.001)
            told += capsys.readouterr().err

    with Working("reading \x1b[2J", every_s=0.001) as working:
        waited_for(r"progress: reading \x1b[2J, 0 s so far")
        working.status("writing")
        waited_for("progress: writing, ")
    capsys.readouterr()
    time.sleep(0.01)
    assert capsys.readouterr() == ("", "")


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert EVERY_S >= 30
    with Working("reading"):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question[0])
def test_a_question_says_its_progress_but_not_under_q(
    question: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY_S", 1e-3)
    assert run(cli, question) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith(f"progress: {question[0].rstrip('e')}ing")]
    assert all(line.startswith(("progress: ", "warning: ", "note: ")) for line in lines)
    assert run(cli, ["-q", *question]) == 0
    assert "progress: " not in capsys.readouterr().err
