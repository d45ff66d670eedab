"""Names of files and folders may hold anything; what is printed, drawn and written holds no more than text."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest

from costmodel.cli import cli, run
from costmodel.cli.common import print_table, say, write_csv
from costmodel.files.cells import cell, cells, not_finite, plain, shown

ODD = [
    "\x1b[31mred",
    "a\rb",
    "\x07",
    "\x9b2J",
    "\u202egnp",
    "$\\frac{",
    "$x$ $",
    "[bold]x[/bold]",
    "[/]",
    "<b>&",
    "=1+1",
]
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]")
TINY = {
    "model_type": "gpt2",
    "n_embd": 64,
    "n_head": 4,
    "n_layer": 2,
    "vocab_size": 128,
}


@pytest.mark.parametrize("name", ODD)
def test_a_folder_of_any_name_is_a_model(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    name = name.replace("/", "\u2215")
    folder = tmp_path / name
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY))
    question = ["estimate", "--model", str(folder), "--hw", "l4", "--phase", "prefill", "--seq-len", "8"]
    for fmt in ("table", "json", "csv"):
        assert run(cli, [*question, "--format", fmt]) == 0
        out, err = capsys.readouterr()
        assert err == ""
        assert not OBEYED.search(out)
        if fmt == "table":
            assert out.startswith(f"{shown(name)} on l4")
        elif fmt == "json":
            assert json.loads(out)["model"] == name
        else:
            assert next(csv.DictReader(io.StringIO(out)))["model"] == cell(name)


def test_a_picture_and_a_page_of_any_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A formula that is none, letters that the font lacks, an escape and a script in one name."""
    pytest.importorskip("matplotlib")
    folder = tmp_path / "$\\frac{$ \u6a21\u578b \x1b[31mred <script>alert(1)<\u2215script>"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(TINY))
    for kind in ("svg", "html"):
        out = tmp_path / f"out.{kind}"
        question = ["roofline", "--model", str(folder), "--hw", "l4", "--phase", "prefill", "-o", str(out)]
        assert run(cli, question) == 0, capsys.readouterr().err
        text = out.read_text(encoding="utf-8")
        assert not OBEYED.search(text)
        assert "<script>alert" not in text


def test_tables_and_lines_show_markup_and_escapes_as_text(capsys: pytest.CaptureFixture[str]) -> None:
    print_table("\x1b[1m[red]title", ["[/]", "b"], [["[bold]x", "\x1b[2J"]], left=2, caption="[/caption]")
    say("a\x1b[0mb")
    out = capsys.readouterr().out
    assert not OBEYED.search(out)
    for part in (r"\x1b[1m[red]title", "[/]", "[bold]x", r"\x1b[2J", "[/caption]", r"a\x1b[0mb"):
        assert part in out


def test_cells_of_spreadsheets() -> None:
    stream = io.StringIO()
    write_csv([{"a": "=cmd", "b": -1.5, "c": None, "d": "-1.5", "e": "- x"}], stream)
    assert stream.getvalue() == "a,b,c,d,e\n'=cmd,-1.5,,-1.5,'- x\n"
    whole = ["a", "b"]
    assert cells(whole) is whole
    assert cells(["a", "@x", "\tb"]) == ["a", "'@x", "\tb"]
    assert cells([1, None, 2.5]) == [1, None, 2.5]
    assert not_finite(["nan", "1", "banana", float("inf")]) == 2
    assert plain({"a": [float("nan"), b"x", (1,)]}) == {"a": [None, "b'x'", [1]]}
