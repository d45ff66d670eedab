"""Tables in a narrow terminal: text folds, numbers stay whole."""

from __future__ import annotations

import re

import pytest

from costmodel.cli import cli, common, run

COMMANDS = [
    ["explore", "--model", "llama2-7b", "--hw", "a100-sxm-80gb", "--ranks", "64"],
    ["hw", "list"],
    ["hw", "show", "a100-sxm-80gb"],
    ["models", "list"],
    ["models", "show", "llama2-7b"],
    ["roofline", "--model", "llama2-7b", "--hw", "l4", "--decompose", "rank=64"],
    ["space", "--ranks", "1,64"],
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


def test_text_folds_where_numbers_do_not(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(common, "text_width", lambda: 40)
    common.print_table("title", ["name", "words", "figure"], [["one", "word " * 20, "123,456,789,012"]], left=2)
    lines = capsys.readouterr().out.splitlines()
    assert sum("word" in line for line in lines[3:]) > 1
    assert any(line.endswith(" 123,456,789,012") for line in lines)
