"""Tables in a narrow terminal: text folds, numbers stay whole."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from costmodel.cli import cli, common, run
from costmodel.cli.table import Table, folded

RECOMMEND = [
    *["recommend", "--model", "llama2-7b", "--hw", "a100-sxm-80gb,l4", "--batch", "1,32"],
    *["--phase", "decode", "--stack", "vllm", "--faster", "20%"],
]
COMMANDS = [
    ["explore", "--model", "llama2-7b", "--hw", "a100-sxm-80gb", "--ranks", "64"],
    ["hw", "list"],
    ["hw", "show", "a100-sxm-80gb"],
    ["models", "list"],
    ["models", "show", "llama2-7b"],
    ["roofline", "--model", "llama2-7b", "--hw", "l4", "--decompose", "rank=64"],
    ["space", "--ranks", "1,64"],
    RECOMMEND,
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=lambda arguments: " ".join(arguments[:2]))
def test_numbers_are_whole_in_a_narrow_terminal(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = {}
    for width in (400, 80):
        monkeypatch.setattr(common, "text_width", lambda width=width: width)
        assert run(cli, arguments) == 0
        text = re.sub(r"answered in .*", "", capsys.readouterr().out)
        shown[width] = sorted(re.findall(r"\d[\d.,]*\d(?: [A-Za-zμ%][\w/%]*)?(?=  |\n)", text))
    wide, narrow = (set(shown[width]) for width in (400, 80))
    numbers = {each for each in wide if "," in each or "." in each}
    assert numbers, "the tables of this command hold no numbers"
    assert numbers <= narrow


def test_a_comparison_stays_within_a_narrow_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "text_width", lambda: 80)
    assert run(cli, RECOMMEND) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(len(line) for line in lines if not line.startswith("next: costmodel ")) <= 80
    rows = [line for line in lines if line.startswith(" a100-sxm-80gb ")]
    assert len(rows) == 4
    assert "with both" in lines[lines.index(rows[2]) - 2]


def test_a_next_command_of_either_program_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(common, "text_width", lambda: 80)
    for words, start in (
        ([], "next: costmodel "),
        (["--save-recipe", str(tmp_path / "recipe.toml")], "next: validate "),
    ):
        assert run(cli, [*RECOMMEND[:3], "--hw", "l4", "--phase", "decode", "--faster", "20%", *words]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("next: ")]
        assert line.startswith(start)
        assert "recipe.toml" in line.split()[-1]


def test_text_folds_where_numbers_do_not(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "text_width", lambda: 40)
    common.print_table("title", ["name", "words", "figure"], [["one", "word " * 20, "123,456,789,012"]], left=2)
    lines = capsys.readouterr().out.splitlines()
    assert sum("word" in line for line in lines[3:]) > 1
    assert any(line.endswith(" 123,456,789,012") for line in lines)


def test_wide_letters_take_two_columns_and_marks_none() -> None:
    rows = [["模型", "1"], ["e\u0301tude", "22"], ["abcdef", "333"]]
    table = Table(columns=["name", "n"], rows=rows)
    assert list(table.lines(None)) == [
        "",
        " name       n",
        " ────────────",
        " 模型       1",
        " e\u0301tude     22",
        " abcdef   333",
        "",
    ]


def test_a_folded_name_of_a_column_stands_at_the_foot_and_a_folded_cell_at_the_head() -> None:
    names = ["device", "a rather long name of a column", "W"]
    lines = list(Table(columns=names, rows=[["t4", "short", "70"]], left=2, caption="a word " * 9).lines(30))
    assert [line.split() for line in lines[:5]] == [
        [],
        ["a", "rather", "long", "name", "of", "a"],
        ["device", "column", "W"],
        [lines[3].strip()],
        ["t4", "short", "70"],
    ]
    assert max(map(len, lines)) == len(lines[3]) + 1
    assert " ".join(" ".join(lines[6:]).split()) == ("a word " * 9).strip()


@pytest.mark.parametrize("width", [1, 3, 7, 30])
def test_folding_keeps_every_letter_and_no_line_is_too_long(width: int) -> None:
    text = "one extraordinarily/long-word, and short ones"
    lines = folded(text, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert max(map(len, lines)) <= width


@pytest.mark.parametrize("width", [24, 31, 40])
def test_a_list_is_folded_after_its_commas_so_that_no_name_is_broken(width: int) -> None:
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    lines = folded(f"layers=0-31 tensors={','.join(names)} rank=64 form=svd", width)
    assert all(len(line) <= width for line in lines)
    assert all(any(name in line for line in lines) for name in names)
