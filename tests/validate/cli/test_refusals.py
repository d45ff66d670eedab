"""Options that say nothing about what is asked for are refused in one line, before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("torch")

from costmodel.cli import run
from validate.cli import cli


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["apply", "--model", "x", "--decompose", "rank=1", "--length", "64"], "--length is of a calibration text"),
        (["apply", "--model", "x", "--decompose", "rank=1", "--blocks", "9"], "--blocks is of a calibration text"),
        *(
            (["quality", "--model", "x", *more], f"{more[0]} without {of} says nothing; leave it out, or give {of}")
            for more, of in (
                (["--limit", "3", "--text", "x"], "--tasks"),
                (["--shots", "3", "--text", "x"], "--tasks"),
                (["--blocks", "3", "--tasks", "x.jsonl"], "--text"),
                (["--length", "30", "--tasks", "x.jsonl"], "--text"),
                (["--calibration-blocks", "3", "--text", "x"], "--calibration-text"),
            )
        ),
        *(
            (["sensitivity", "--model", "x", "--text", "x", *more], f"{more[0]} without --as-quality says nothing")
            for more in (["--ranks", "1"], ["--rank-multiple", "8"], ["--form", "tucker"], ["--factors", "whitened"])
        ),
        (["probe", "--plan", "ranks", "--points", "300"], "--points is of the plan `device`"),
    ],
)
def test_an_unused_option_is_refused(
    arguments: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(cli, [*arguments, "--out", str(out)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {told}")
    assert error.count("\n") == 1
    assert not out.exists()
