"""-q leaves out what a table rests on, -v says how long it took; neither changes a number."""

from __future__ import annotations

import gc

import pytest

from costmodel.cli import cli, main, run

QUESTION = ["estimate", "--model", "gpt2", "--hw", "l4", "--phase", "decode"]


def test_quiet_leaves_out_assumptions_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, QUESTION) == 0
    plain = capsys.readouterr().out
    assert run(cli, ["-q", *QUESTION]) == 0
    quiet = capsys.readouterr().out
    assert "assumption: " in plain
    assert "assumption: " not in quiet
    assert set(quiet.splitlines()) <= set(plain.splitlines())


def test_verbose_says_the_time_on_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, [*QUESTION, "--format", "json"]) == 0
    plain = capsys.readouterr()
    assert run(cli, ["-v", *QUESTION, "--format", "json"]) == 0
    verbose = capsys.readouterr()
    assert verbose.out == plain.out
    assert plain.err == ""
    assert verbose.err.startswith("costmodel ")
    assert run(cli, ["-v", "-q", *QUESTION]) == 2


@pytest.mark.parametrize(
    ("more", "warned"),
    [
        (["--phase", "prefill", "--phase", "decode"], "--phase is given 3 times, the last counts"),
        (["--dtype", "fp16", "--dtype=fp16"], "--dtype is given 2 times, the last counts"),
        (["--hw", "t4"], None),
    ],
)
def test_an_option_given_twice_that_counts_once_is_said(
    more: list[str], warned: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(cli, [*QUESTION, *more, "--format", "json"]) == 0
    assert capsys.readouterr().err == (f"warning: {warned}\n" if warned else "")


def test_what_is_refused_says_nothing_of_options_given_twice(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, [*QUESTION, "--dtype", "fp16", "--dtype", "fp15"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_an_ending_command_leaves_nothing_to_search_for_cycles() -> None:
    gc.unfreeze()
    with pytest.raises(SystemExit):
        main(["--version"])
    assert gc.get_freeze_count() > 0
