"""The `validate` command: arguments to library to report. Only this package prints or exits."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

import click

from costmodel._version import __version__
from costmodel.cli import LazyGroup, run_and_exit, say_more_or_less
from costmodel.cli.common import format_option
from costmodel.cli.options import Amount, options_of
from costmodel.errors import CostModelError
from validate.choose.child import end_with_parent
from validate.cli.options import given, ray_option, run_options
from validate.speed.settings import MeasureSettings

_COMMANDS = {
    "report": "rebuild table and page from a run's records",
    "fit": "turn records into a calibration",
    "probe": "characterise a device by micro-benchmarks",
    "import": "read somebody else's timings into records",
    "replay": "hold the model against somebody else's table",
    "points": "hold the model against published measurements of whole models",
    "sensitivity": "how much each weight of a checkpoint can be truncated",
    "quality": "perplexity and accuracy of factored models",
    "choose": "find the best configurations of a checkpoint, measured against baselines",
    "apply": "write a factored checkpoint",
    "heal": "distil the dense model into the factors of a folder",
    "export": "write a checkpoint as a file of another runtime",
}
"""Command name (= module under `validate.cli`, `import_` for `import`) and its line in `--help`."""

_EXTRA = (
    "filelock",
    "matplotlib",
    "psutil",
    "pyarrow",
    "safetensors",
    "scipy",
    "sklearn",
    "tensorly",
    "torch",
    "transformers",
)
"""Libraries of the extra `validate`."""


_MAY_FETCH = ("sensitivity", "quality", "apply", "heal")
"""Commands that take checkpoints and data sets from the Hugging Face hub; every other one reads from disk."""


_FLAGS = ("-q", "--quiet", "-v", "--verbose")
"""Options of every command, before its name."""

_OBJECTS = 10_000
"""New objects after which a command looks for cycles: by default it would do so a thousand times, for half a second,
while it imports torch and transformers."""


def _module(name: str) -> str:
    return f"validate.cli.{name}_" if name == "import" else f"validate.cli.{name}"


class ValidateGroup(LazyGroup):
    """The commands that exist, each imported when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = importlib.import_module(_module(cmd_name)).command
        return command

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _EXTRA:
                raise
            hint = "install the extra: pip install -c constraints.txt '.[validate]' in the checkout"
            raise CostModelError("a library that measuring needs is missing", value=error.name, hint=hint) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, _COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group(
    cls=ValidateGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
@click.version_option(__version__, prog_name="validate")
@options_of(MeasureSettings, "settings")
@run_options("validation", "sample", records="Where records and report go.")
@ray_option("Time samples")
@click.option(
    "--fail-above",
    type=Amount("%", 0),
    metavar="PCT",
    help="Exit 1 when the median error of the predicted ratio is above this, or a sample failed.",
)
@format_option
@click.option("-q", "--quiet", is_flag=True, help="Leave notes and lines of progress out on stderr; warnings stay.")
@click.option("-v", "--verbose", is_flag=True, help="Say on stderr which version ran and how long it took.")
@click.pass_context
def cli(ctx: click.Context, /, out: Path, settings: MeasureSettings, quiet: bool, verbose: bool, **options: Any) -> int:
    """Build really factored models, measure them, and say how wrong the predictions are.

    Without a command: sample configurations, check that each model built is the one priced, time it interleaved with
    the dense one, and write DIR/samples.jsonl, DIR/report.html and a table.

    \b
    Example:
        validate --samples 20 --out my-run
    """
    say_more_or_less(ctx, "validate", quiet=quiet, verbose=verbose)
    asked = given(ctx) - {"quiet", "verbose"}
    if ctx.invoked_subcommand is not None:
        if asked:
            hint = f"put the options of {ctx.invoked_subcommand} after its name"
            raise click.UsageError(
                f"these options belong to a run without a command: {', '.join(sorted(asked))}; {hint}"
            )
        return 0
    if not asked:
        click.echo(ctx.get_help())
        return 2
    from validate.cli.measure import measure

    return measure(settings, asked, out, **options)


def main(argv: list[str] | None = None) -> None:
    """Run the command; every expected failure is one line on stderr and exit code 2 (1 for a failed run)."""
    gc.set_threshold(_OBJECTS)
    end_with_parent()
    arguments = sys.argv[1:] if argv is None else argv
    command = next((word for word in arguments if word not in _FLAGS), "")
    if command not in _MAY_FETCH:
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # models are built or read from disk, never fetched
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    run_and_exit(cli, argv)
