"""Trains a small Llama and a small BERT on the sources of Python's standard library, for measuring quality offline.

    python scripts/train_small.py --out models                # both, about twenty minutes each on two cores
    python scripts/train_small.py --out models --only bert    # one of them
    python scripts/train_small.py --out try --steps 60        # a short run of the same recipe

Each goes to a folder of its own: checkpoint and tokenizer, heldout.txt, calibration.txt, tasks/*.jsonl, and
training.json with the curve, the held-out loss beside that of n-grams, and a digest of the weights. A run that was
interrupted continues where it was saved. The same command twice gives the same weights on one machine: sums are split
by threads and by the processor's instructions, so another machine may round otherwise.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from costmodel.cli import run

if TYPE_CHECKING:
    from validate.training.state import State

MODELS = ("llama", "bert")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder for the models.")
@click.option("--only", type=click.Choice(MODELS), help="Train this one alone.  [default: both]")
@click.option("--steps", type=click.IntRange(5), help="Fewer or more steps than the recipe's.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, order and masks.")
@click.option("--threads", type=click.IntRange(1), help="Of the recipe, which has 2; another number, other roundings.")
@click.option("--text", type=click.Path(path_type=Path, exists=True, file_okay=False), metavar="DIR",
              help="Folder of Python files to train on.  [default: the standard library]")  # fmt: skip
@click.option("--again", is_flag=True, help="Train although the folder holds a finished model.")
def command(
    out: Path, only: str | None, steps: int | None, seed: int, threads: int | None, text: Path | None, again: bool
) -> None:
    """Train a small Llama and a small BERT on sources that every machine has."""
    from validate.training.corpus import read_corpus
    from validate.training.product import RECORD, Product
    from validate.training.recipe import RECIPES, small

    corpus = read_corpus(text)
    for name in [only] if only else MODELS:
        folder = out / name
        if (folder / RECORD).exists() and not again:
            click.echo(f"{folder}: trained before, left as it is (--again trains anew)")
            continue
        recipe = replace(RECIPES[name], seed=seed)
        recipe = replace(small(recipe, steps) if steps else recipe, threads=threads or recipe.threads)
        product = Product(recipe, corpus, folder)
        click.echo(f"{name}: {recipe.steps:,} steps of {recipe.batch} x {recipe.length} tokens")
        with _progress(name, recipe.steps) as watch:
            record = product.make(watch=watch)
        _print(folder, record)


@contextmanager
def _progress(name: str, steps: int) -> Iterator[Any]:
    """A bar with the time left on a terminal; a line for each point of the curve everywhere."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    columns = (TextColumn(name), BarColumn(), TextColumn("{task.completed:,}/{task.total:,} steps"),
               TextColumn("loss {task.fields[loss]:.3f}"), TimeElapsedColumn(), TimeRemainingColumn())  # fmt: skip
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(name, total=steps, loss=float("nan"))
        shown = 0

        def watch(state: State) -> None:
            nonlocal shown
            latest = state.losses or [state.curve[-1].loss]
            bar.update(task, completed=state.step, loss=sum(latest) / len(latest))
            if len(state.curve) > shown:
                point, shown = state.curve[-1], len(state.curve)
                left = point.cpu_s / point.step * (steps - point.step)
                line = (
                    f"{name}: step {point.step:,} of {steps:,}, {point.tokens:,} tokens, loss {point.loss:.3f}, "
                    f"held out {point.heldout:.3f}, {point.cpu_s:.0f} s of processor time, {left:.0f} s left"
                )
                bar.console.print(line, highlight=False, soft_wrap=True)

        yield watch


def _print(folder: Path, record: dict[str, Any]) -> None:
    heldout, baseline, seconds = record["heldout"], record["baseline"], record["seconds"]
    click.echo(f"{folder}: {record['parameters']:,} parameters, {seconds['wall']:.0f} s")
    click.echo(
        f"  held out: {heldout['nats_per_token']:.3f} nats per token, {heldout['bits_per_byte']:.3f} bits per byte"
    )
    click.echo(f"  {baseline['name']}: {baseline['nats_per_token']:.3f} nats per token")
    for name, task in record["tasks"].items():
        click.echo(f"  {name}: {task['accuracy']:.1%} of {task['items']} right, {task['chance']:.0%} by chance")
    click.echo(f"  weights: {record['weights_sha256']}")


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Before torch is imported: beside other work, threads that spin while they wait slow each other down.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run(command))  # type: ignore[arg-type]
