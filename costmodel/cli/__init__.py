"""The `costmodel` command: arguments to library to report. Only this package prints or exits."""

from __future__ import annotations

import codecs
import contextlib
import gc
import importlib
import importlib.util
import io
import os
import sys
import time
from typing import NoReturn

import click

from costmodel._version import __version__
from costmodel.cli.common import NamingGroup
from costmodel.errors import CostModelError, InputError

_COMMANDS = {
    "estimate": "price one rank configuration of a model on a device",
    "space": "count the configurations of a model's design space",
    "recommend": "say which configuration reaches a goal, and why none does",
    "explore": "answer questions about every configuration of a design space",
    "objectives": "list every number that can be asked for, with its unit",
    "price": "price bare GEMM and attention shapes in bulk",
    "graph": "draw how data flows through the layers, dense beside factored",
    "roofline": "draw a model's operations on a device's roofline",
    "hw": "list, show and check hardware profiles",
    "stacks": "list, show and check what executes a model",
    "models": "list and show built-in models",
}
"""Command name (= module under `costmodel.cli`) and its line in `--help`; modules are imported on use."""
_MAX_MESSAGE = 400
"""Longer messages of click, which quotes arguments whole, are cut in the middle."""


_GOALS = {
    "--faster": "saved.latency_pct>=20%",
    "--smaller": "saved.params_pct>=20%",
    "--fits": "peak_memory_bytes<=24GB",
}
"""Goals of `recommend`, and the limit of `explore` that asks for as much."""


class LazyGroup(NamingGroup):
    """A group whose commands are imported only when they are called, to keep start-up short."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"costmodel.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="costmodel")
@click.option("-q", "--quiet", is_flag=True, help="Leave assumptions and notes out of tables; warnings stay.")
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr which version ran and how long it took.")
@click.pass_context
def cli(ctx: click.Context, quiet: bool, verbose: bool) -> None:
    """What happens to size, latency, memory and energy when transformer weights become low-rank factors.

    \b
    Example:
      costmodel estimate --model llama2-7b --hw a100-sxm-80gb \\
        --decompose "layers=2,17,31 rank=1 form=tucker"
    """
    say_more_or_less(ctx, "costmodel", quiet=quiet, verbose=verbose)


def say_more_or_less(ctx: click.Context, name: str, *, quiet: bool, verbose: bool) -> None:
    """What -v does: name, version and time on stderr in the end.

    Raises:
        InputError: when -q is given too.
    """
    if quiet and verbose:
        raise InputError("-q and -v ask for less and for more", hint="leave one out")
    if verbose:
        began = time.perf_counter()
        ctx.call_on_close(lambda: _say_time(name, began))


def _say_time(name: str, began: float) -> None:
    print(f"{name} {__version__}: {time.perf_counter() - began:.2f} s", file=sys.stderr)


def main(argv: list[str] | None = None) -> None:
    """Run the command; every expected failure is one line on stderr and exit code 2 (1 for a failed run)."""
    run_and_exit(cli, argv)


def run_and_exit(group: click.Group, argv: list[str] | None = None) -> NoReturn:
    """`run` as a process of its own, whose end is not the time to search everything that was imported for cycles: that
    would take 40 ms, after torch a second."""
    code = run(group, argv)
    gc.freeze()
    sys.exit(code)


_LISTED = {"model": "models", "hw": "hw"}
"""Options whose names a command lists."""


def run(group: click.Group, argv: list[str] | None = None) -> int:
    """Invoke `group` and turn every expected error into `error: ...` on stderr; returns the exit code."""
    if sys.stdout is None:
        return _fail("standard output is closed", 2)
    _write_what_it_can()
    try:
        result = group.main(args=argv, standalone_mode=False)
        sys.stdout.flush()
        return result if isinstance(result, int) else 0
    except CostModelError as error:
        return _fail(str(error), error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        print(error.format_message(), file=sys.stderr)
        return 2
    except click.ClickException as error:
        return _fail(_usage(error), 2)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted", 130)
    except SystemExit:
        return _reader_gone()  # how click and rich take a broken pipe; nothing below them exits
    except BrokenPipeError:
        return _reader_gone()
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _discard_output()
        return _fail(f"{where}{error.strerror or error}", 2)


def _write_what_it_can() -> None:
    """Let an output of few letters, such as an ASCII terminal, show a mark in place of one that it lacks; one of all
    letters writes bytes of a file's name that are none as `\\xff`."""
    stream = sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        few = codecs.lookup(stream.encoding).name != "utf-8"
        stream.reconfigure(errors="replace" if few else "backslashreplace")


def _usage(error: click.ClickException) -> str:
    """Click's message with what to do: quote a SPEC, or read the help of the command."""
    message = error.format_message()
    if len(message) > _MAX_MESSAGE:
        message = f"{message[: _MAX_MESSAGE // 2]}...{message[-_MAX_MESSAGE // 2 :]}"
    if not isinstance(error, click.UsageError):
        return message
    hint = f"see {error.ctx.command_path} --help" if error.ctx else "see --help"
    if isinstance(error, click.NoSuchOption) and error.ctx and (meant := _meant(error.option_name, error.ctx)):
        return f"No such option '{error.option_name}'; {meant}; {hint}"
    if isinstance(error, click.MissingParameter) and error.param is not None and error.param.name in _LISTED:
        hint = f"`costmodel {_LISTED[error.param.name]} list` names some; {hint}"
    if "unexpected extra argument" in message and "=" in message:
        hint = "quote a SPEC with its spaces as one argument"
    return f"{message.rstrip('.')}; {hint}"


def _meant(option: str, ctx: click.Context) -> str:
    """What is meant by an option that a command lacks, where that is known and no option of a name like it."""
    if ctx.info_name == "explore" and option in _GOALS:
        return f"`recommend` takes {option}; here a limit says so, such as --limit '{_GOALS[option]}'"
    alone = [each.make_metavar(ctx) for each in ctx.command.params if isinstance(each, click.Argument)]
    if option in ("--model", "--checkpoint") and alone:
        return f"what it works on stands alone: {ctx.command_path} {' '.join(alone)}"
    return ""


def _reader_gone() -> int:
    """`costmodel ... | head`: the reader has what it wanted."""
    _discard_output()
    return 0


def _discard_output() -> None:
    """Send what is still buffered nowhere, so that the interpreter does not fail on it at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code
