"""`validate heal`: the dense model distilled into the factors of a folder of `validate apply`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from costmodel.cli.common import format_option, say, write_csv, write_json
from costmodel.cli.options import options_of
from costmodel.errors import InputError
from validate.cli.progress import LOADING, WorkBar
from validate.heal.settings import HealSettings
from validate.interval import interval_text

if TYPE_CHECKING:  # loads torch
    from validate.heal.run import Healed

SCHEMA = 1
"""Version of the JSON output."""


@click.command()
@click.argument("factored", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--dense", required=True, metavar="PATH", help="Dense checkpoint that the factors were made of.")
@click.option("--text", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Text to learn from.")
@click.option(
    "--judge-text", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Other text, to judge on."
)
@options_of(HealSettings, "settings")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="DIR", help="A new folder to write.")
@format_option
def command(
    factored: Path, dense: str, text: Path, judge_text: Path, settings: HealSettings, out: Path, fmt: str
) -> None:
    """Train the factors of a folder of `validate apply` to predict what the dense model predicts.

    Only factors change. The loss is the divergence from the dense model's predictions on one text; what came of it is
    judged on another, before and after. A run that was killed continues where its state was kept. OUT is a factored
    folder with heal.json beside; its figures are not those of a model without retraining.

    \b
    Example:
        validate apply --model my-model --decompose "rank=50%" \\
            --out my-model-factored
        validate heal my-model-factored --dense my-model --text train.txt \\
            --judge-text heldout.txt --out my-model-healed
    """
    if not out.parent.is_dir():
        raise InputError("no such folder", value=str(out.parent), hint="make it, or choose another --out")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with WorkBar() as bar:
        bar.status(LOADING)
        from transformers.utils import logging

        from validate.heal.run import heal

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        found = heal(factored, dense, text, judge_text, out, settings, bar.show)
    print_healed(out, settings.steps, found, fmt)


def print_healed(out: Path, steps: int, found: Healed, fmt: str) -> None:
    """Print what came of a healing."""
    content = {"out": str(out), "steps": steps, **found.to_json()}
    if fmt == "json":
        write_json({"schema": SCHEMA, **content})
    elif fmt == "csv":
        write_csv([{name: value for name, value in content.items() if not isinstance(value, dict)}])
    else:
        say(
            f"{out}: {steps} steps; on other text {found.before_nll:.4f} nats per token before, "
            f"{found.after_nll:.4f} after, dense {found.dense_nll:.4f}; change {interval_text(found.change, 4)}; "
            f"KL from dense {found.before_kl:.4f} before, {found.after_kl:.4f} after"
        )
