"""Every command has a help text with an example, and the example runs as it is printed."""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from costmodel.cli import cli, run

ROOT = Path(__file__).resolve().parents[1]


def commands(group: click.Group, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The words of every command, groups included."""
    yield above
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*above, name))
        else:
            yield (*above, name)


ALL = list(commands(cli))


def examples(text: str) -> list[str]:
    """The command lines after `Example:` in a help text, continued lines joined."""
    found = re.findall(r"Examples?:\s+(.*?)(?:\n\s*\n|\Z)", text, re.DOTALL)
    joined = [re.sub(r"\\?\n\s*(?!costmodel )", " ", each) for each in found]
    return [line.strip() for each in joined for line in each.splitlines()]


def test_every_command_is_found() -> None:
    assert {(), ("estimate",), ("hw", "check"), ("models", "show")} <= set(ALL)


@pytest.mark.parametrize("words", ALL, ids=lambda words: " ".join(words) or "costmodel")
@pytest.mark.parametrize("columns", ["80", "200"])
def test_the_examples_in_the_help_run(
    words: tuple[str, ...],
    columns: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert run(cli, [*words, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    if columns == "80":
        assert all(len(line) <= 80 for line in out.splitlines())
    lines = examples(out)
    assert lines, "a help text needs a line `Example: costmodel ...`"
    # The files that examples name, as a user would have them.
    (tmp_path / "my-model").mkdir()
    (tmp_path / "my-model" / "config.json").write_text((ROOT / "costmodel/families/configs/gpt2.json").read_text())
    (tmp_path / "my-device.toml").write_text((ROOT / "hw_profiles/l4.toml").read_text())
    (tmp_path / "my-stack.toml").write_text((ROOT / "hw_profiles/stacks/vllm.toml").read_text())
    (tmp_path / "shapes.csv").write_text("m,n,k\n1,4096,4096\n512,4096,11008\n")
    monkeypatch.chdir(tmp_path)
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "costmodel"
        assert arguments[: len(words)] == list(words)
        if columns == "200":  # the same commands at any width: run them once
            continue
        assert run(cli, arguments) == 0, line
        out, err = capsys.readouterr()
        assert out, line
        assert err == "", line


@pytest.mark.parametrize("words", ALL, ids=lambda words: " ".join(words) or "costmodel")
def test_help_names_every_option_with_a_text(words: tuple[str, ...]) -> None:
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.help.endswith((".", "]")), parameter.help


@pytest.mark.parametrize("program", ["costmodel", "validate"])
def test_every_help_has_an_example_and_is_not_cut(program: str, capsys: pytest.CaptureFixture[str]) -> None:
    group = importlib.import_module(f"{program}.cli").cli
    for words in commands(group):
        assert run(group, [*words, "--help"]) == 0
        out = capsys.readouterr().out
        assert re.search(rf"Examples?:\s+(\$ )?(pip install .*\s+)?{program} ", out), words
        assert "..." not in out.partition("Commands:")[2], words


def test_examples_are_cut_out_of_a_text() -> None:
    text = "Do.\n\n  Example:\n    costmodel a \\\n      --b c\n\n  More.\n\n  Example: costmodel d --e\n  f\n"
    assert examples(text) == ["costmodel a  --b c", "costmodel d --e f"]


def test_the_shell_can_complete_an_option(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("_COSTMODEL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "costmodel estimate --run")
    monkeypatch.setenv("COMP_CWORD", "2")
    with pytest.raises(SystemExit):
        cli.main(args=[], prog_name="costmodel")
    assert capsys.readouterr().out.strip() == "plain,--runtime"


def test_every_extra_is_asked_for_by_one_command() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    files = [path for room in ("costmodel", "validate", "docs") for path in (ROOT / room).rglob("*.[pm][yd]")]
    asked = [each for path in files for each in re.findall(r"pip install [^\n`]*\[[\w,]+\]", path.read_text())]
    assert len(asked) > 8
    for command in asked:
        names = re.fullmatch(r"pip install -c constraints\.txt '\.\[([\w,]+)\]", command)
        assert names, command
        assert set(names[1].split(",")) <= set(extras)
