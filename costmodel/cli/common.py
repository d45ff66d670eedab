"""What every command shares: the output formats and the writers for them."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click

from costmodel.cli.table import RULE, Table
from costmodel.errors import InputError, nearest
from costmodel.files.cells import cell, shown
from costmodel.files.indented import indented

if TYPE_CHECKING:
    from costmodel.decomposition.settings import DecompositionSettings
    from costmodel.model import ModelSpec

F = TypeVar("F", bound=Callable[..., Any])
_SOFT = ("assumption: ", "note: ")
"""How lines begin that -q leaves out."""
_COMMANDS = ("next: costmodel", "next: validate")
"""How lines begin that are commands to copy."""
_REPEATED = "costmodel.repeated"
"""Where a command keeps its warnings of options given twice until it is done."""


class NamingGroup(click.Group):
    """A group that offers the nearest names for a command that it lacks."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        known = self.list_commands(ctx)
        if args and args[0] not in known and not args[0].startswith("-"):
            raise InputError("unknown command", value=args[0], hint=nearest(args[0], known))
        name, command, rest = super().resolve_command(ctx, args)
        if command is not None and not isinstance(command, click.Group):
            _note_repeated(command, ctx, rest)
        return name, command, rest

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _note_repeated(self, ctx, args)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command, then say which of its options were given twice; what is refused says that alone."""
        result = super().invoke(ctx)
        for warning in ctx.meta.pop(_REPEATED, ()):
            click.echo(warning, err=True)
        return result

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Each command with the whole of its first sentence, where click cuts what is longer than a line."""
        commands = {name: self.get_command(ctx, name) for name in self.list_commands(ctx)}
        with formatter.section("Commands"):
            formatter.write_dl([(name, each.get_short_help_str(1000)) for name, each in commands.items() if each])


def _note_repeated(command: click.Command, ctx: click.Context, args: Sequence[str]) -> None:
    """Keep which options are given twice that count once: nothing that is asked for is replaced in silence."""
    parsing = click.Context(command, parent=ctx.parent if command is ctx.command else ctx, resilient_parsing=True)
    order = command.make_parser(parsing).parse_args(list(args))[2]
    for option in dict.fromkeys(order):
        once = isinstance(option, click.Option) and not (option.multiple or option.count or option.is_flag)
        if once and (times := order.count(option)) > 1:
            warning = f"warning: {option.opts[-1]} is given {times} times, the last counts"
            ctx.meta.setdefault(_REPEATED, []).append(warning)


def format_option(function: F) -> F:
    """Add `--format table|json|csv`."""
    return click.option(
        "--format",
        "fmt",
        type=click.Choice(["table", "json", "csv"]),
        default="table",
        show_default=True,
        help="How to print the result.",
    )(function)


def compare_format_option(function: F) -> F:
    """Add `--format table|json|csv|markdown`, where answers can stand side by side."""
    return click.option(
        "--format",
        "fmt",
        type=click.Choice(["table", "json", "csv", "markdown"]),
        default="table",
        show_default=True,
        help="How to print the result; markdown: a table, a row for each answer.",
    )(function)


def write_json(value: object) -> None:
    """Print `value` as JSON; NaN and infinities are refused, since JSON has none."""
    sys.stdout.write(f"{indented(value)}\n")


def write_csv(rows: Iterable[Mapping[str, object]], stream: IO[str] | None = None) -> None:
    """Print rows as CSV with a header line of all their keys; None is an empty cell, and no text is a formula."""
    import csv

    rows = list(rows)
    if not rows:
        return
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream or sys.stdout, fieldnames=names, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: cell(value) for name, value in row.items()} for row in rows)


def text_width() -> int:
    """Columns to print to: the terminal's, or 120 into a file or a pipe."""
    if not sys.stdout.isatty():
        return 120
    import shutil

    return shutil.get_terminal_size().columns


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    left: int = 1,
    caption: str = "",
    fold: bool = True,
    part: bool = False,
) -> None:
    """Print a title line and a table: `left` columns flush left, the rest flush right; None shows as a dash.

    Cells of text fold where the table is wider than the terminal, the first column's and those flush right never, since
    a number in two lines cannot be read: lines grow beyond the terminal instead. Without `fold` nothing folds.
    With `part` a table that is too wide becomes several, each with the columns flush left.
    """
    table = Table(
        columns=[shown(name) for name in columns],
        rows=[["-" if value is None else shown(str(value)) for value in row] for row in rows],
        left=left,
        caption=shown(caption),
    )
    click.echo(click.style(shown(title), bold=True))
    ascii_only = (sys.stdout.encoding or "utf-8").lower() in ("ascii", "us-ascii", "ansi_x3.4-1968")
    for number, piece in enumerate(table.parts(text_width()) if part else [table]):
        for line in list(piece.lines(text_width() if fold else None))[min(number, 1) :]:  # one empty line between two
            print(line.replace(RULE, "-") if ascii_only else line)


def print_markdown(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a title line and a table in Markdown, the first column flush left; None shows as a dash."""

    def line(values: Iterable[object]) -> str:
        texts = ("-" if value is None else shown(str(value)).replace("|", "\\|") for value in values)
        return f"| {' | '.join(texts)} |"

    print(f"**{shown(title)}**\n")
    print(line(columns))
    print(f"|{'|'.join([' :-- ', *[' --: '] * (len(columns) - 1)])}|")
    for row in rows:
        print(line(row))


def is_quiet() -> bool:
    """Whether the command line asks for less (-q)."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.find_root().params.get("quiet"))


def say(line: str, *, err: bool = False) -> None:
    """Print a line as it is, but for what a terminal would obey; a note on stderr not under -q."""
    if not (err and is_quiet() and line.startswith(_SOFT)):
        click.echo(shown(line), err=err)


def warn_of(configuration: DecompositionSettings, model: ModelSpec) -> None:
    """Print on stderr what a user should know of a configuration's names."""
    for text in configuration.warnings(model):
        say(f"warning: {text}", err=True)


def warn_of_search(named: DecompositionSettings, model: ModelSpec) -> None:
    """Print on stderr what a user should know of a configuration that is priced where others are sought, and of a model
    whose folder holds one."""
    from costmodel.decomposition.held import searched_dense

    for text in (*searched_dense(model), *(named.recipe_warnings(model))):
        say(f"warning: {text}", err=True)


def print_lines(lines: Iterable[str]) -> None:
    """Print plain lines, long ones wrapped and indented to the width of the terminal, but for commands to run, which
    are to be copied; quiet ones not under -q.
    """
    for line in lines:
        if is_quiet() and line.startswith(_SOFT):
            continue
        text, width = shown(line), text_width()
        if line.startswith(_COMMANDS):
            print(text)
            continue
        print(textwrap.fill(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False))
