"""Options from a settings dataclass: names, types, defaults and help stand in one place."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Literal

import click
import pytest
from click.testing import CliRunner

from costmodel.cli.estimate import command as estimate_command
from costmodel.cli.explore import command as explore_command
from costmodel.cli.options import options_of
from costmodel.errors import InputError
from costmodel.pricing.setup import WorkloadSettings
from costmodel.space.settings import SpaceSettings


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    name: str = field(metadata={"help": "Of it.", "option": ("--name", "-n")})
    count: int = field(default=3, metadata={"help": "How many."})
    share: float | None = field(default=None, metadata={"metavar": "PCT"})
    kind: Literal["a", "b"] = "a"
    colour: Colour = Colour.RED
    dry_run: bool = False
    words: tuple[str, ...] = ()
    out: Path | None = None
    wait: float = field(default=5.5, metadata={"unit": "s", "low": 0.1, "high": 600})


@click.command()
@click.option("--other", default="x")
@options_of(Sample, "sample")
def command(sample: Sample, other: str) -> None:
    click.echo(f"{sample!r} {other}")


def printed(*arguments: str) -> str:
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    return done.output.strip()


def test_defaults_are_those_of_the_dataclass() -> None:
    assert printed("--name", "n") == f"{Sample(name='n')!r} x"


def test_every_kind_of_field_is_read() -> None:
    given = "-n n --count 5 --share 0.5 --kind b --colour blue --dry-run --words p --words q --out o --other y"
    whole = Sample(
        name="n", count=5, share=0.5, kind="b", colour=Colour.BLUE, dry_run=True, words=("p", "q"), out=Path("o")
    )
    assert printed(*given.split()) == f"{whole!r} y"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("", "Missing option '--name'"),
        ("-n n --count many", "'many' is not a valid integer"),
        ("-n n --kind c", "'c' is not one of 'a', 'b'"),
        ("-n n --colour green", "'green' is not one of 'red', 'blue'"),
    ],
)
def test_what_no_field_takes_is_refused(given: str, message: str) -> None:
    done = CliRunner().invoke(command, given.split())
    assert done.exit_code == 2
    assert message in done.output


def test_help_has_texts_defaults_and_order() -> None:
    lines = printed("--help").splitlines()
    assert any("--count INTEGER" in line and "How many." in line and "[default: 3]" in line for line in lines)
    assert any("-n, --name" in line and "[required]" in line for line in lines)
    names = [option.name for option in command.params]
    assert names == ["other", *(part.name for part in fields(Sample))]


def test_commands_take_every_setting_of_the_library() -> None:
    pairs = [(WorkloadSettings, [estimate_command, explore_command]), (SpaceSettings, [explore_command])]
    for shared, commands in pairs:
        for each in commands:
            assert {part.name for part in fields(shared)} <= {option.name for option in each.params}


@pytest.mark.parametrize(("text", "seconds"), [("90", 90.0), ("500ms", 0.5), ("2 S", 2.0), ("1.5min", 90.0)])
def test_a_number_may_be_written_with_its_unit(text: str, seconds: float) -> None:
    assert f"wait={seconds}" in printed("--name", "x", "--wait", text)


@pytest.mark.parametrize("text", ["0.01", "20min", "5GB", "nan"])
def test_a_number_out_of_range_or_of_another_unit_is_refused(text: str) -> None:
    told = CliRunner().invoke(command, ["--name", "x", "--wait", text])
    assert isinstance(told.exception, InputError)
    assert "--wait" in str(told.exception)
