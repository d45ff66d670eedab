"""Trains a small Llama and a small BERT on the sources of Python's standard library, for measuring quality offline.

    python -m studies.models.train --out models                # both, about twenty minutes each on two cores
    python -m studies.models.train --out models --only bert    # one of them
    python -m studies.models.train --out try --steps 60        # a short run of the same recipe
    python -m studies.models.train --out big --size large      # 16 layers of 768, for a GPU; not measured

Each goes to a folder of its own: checkpoint and tokenizer, heldout.txt, calibration.txt, tasks/*.jsonl, and
training.json with the curve, the held-out loss beside that of n-grams, and a digest of the weights. A run that was
interrupted continues where it was saved. The same command twice gives the same weights on one machine: sums are split
by threads and by the processor's instructions, so another machine, or a GPU, may round otherwise.
"""

from __future__ import annotations

import os
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from costmodel.cli import run

if TYPE_CHECKING:
    from studies.models.state import State

MODELS = ("llama", "bert")


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--out", required=True, type=click.Path(path_type=Path), metavar="DIR", help="Folder for the models.")
@click.option("--only", type=click.Choice(MODELS), help="Train this one alone.  [default: both]")
@click.option(
    "--size",
    type=click.Choice(["small", "large"]),
    default="small",
    show_default=True,
    help="small is for two cores, large for a GPU.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto takes CUDA where there is one.",
)
@click.option("--steps", type=click.IntRange(5), help="Fewer or more steps than the recipe's.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of weights, order and masks.")
@click.option("--threads", type=click.IntRange(1), help="Of the recipe, which has 2; another number, other roundings.")
@click.option(
    "--text",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    metavar="DIR",
    help="Folder of Python files to train on.  [default: the standard library]",
)
@click.option("--again", is_flag=True, help="Train although the folder holds a finished model.")
def command(
    out: Path,
    only: str | None,
    size: str,
    device: str,
    steps: int | None,
    seed: int,
    threads: int | None,
    text: Path | None,
    again: bool,
) -> None:
    """Train a small Llama and a small BERT on sources that every machine has."""
    from studies.models.corpus import read_corpus
    from studies.models.place import open_place
    from studies.models.product import Product
    from studies.models.recipe import small
    from studies.models.record import read_record, require_same
    from studies.models.sizes import SIZES

    place, wanted = open_place(device), {}
    for name in [only] if only else MODELS:  # all of them are looked at before the first is trained
        recipe = replace(SIZES[size][name], seed=seed)
        recipe = replace(small(recipe, steps) if steps else recipe, threads=threads or recipe.threads).check()
        record = None if again else read_record(out / name)
        corpus = read_corpus(text, max_bytes=recipe.max_bytes)
        if record is None:
            wanted[name] = recipe, corpus
        else:
            require_same(out / name, record, recipe.to_json(), corpus.digest)
            click.echo(f"{out / name}: trained before, left as it is (--again trains anew)")
    for name, (recipe, corpus) in wanted.items():
        folder = out / name
        product = Product(recipe, corpus, folder, place)
        click.echo(f"{name}: {recipe.steps:,} steps of {recipe.batch} x {recipe.length} tokens")
        with _progress(name, recipe.steps) as watch:
            record = product.make(watch=watch)
        _print(folder, record)


@contextmanager
def _progress(name: str, steps: int) -> Iterator[Any]:
    """A bar with the time left on a terminal; a line for each point of the curve everywhere."""
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from validate.cli.progress import make_bar

    columns = (
        TextColumn(name),
        BarColumn(),
        TextColumn("{task.completed:,}/{task.total:,} steps"),
        TextColumn("loss {task.fields[loss]:.3f}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with make_bar(*columns) as bar:
        task = bar.add_task(name, total=steps, loss=float("nan"))
        shown = 0

        def watch(state: State) -> None:
            nonlocal shown
            latest = state.losses or [state.curve[-1].loss]
            bar.update(task, completed=state.step, loss=sum(latest) / len(latest))
            if len(state.curve) > shown:
                point, shown = state.curve[-1], len(state.curve)
                left = statistics.median(state.step_s) * (steps - point.step)
                line = (
                    f"{name}: step {point.step:,} of {steps:,}, {point.tokens:,} tokens, loss {point.loss:.3f}, "
                    f"held out {point.heldout:.3f}, {point.cpu_s:.0f} s of processor time, {left:.0f} s left"
                )
                bar.console.print(line, highlight=False, soft_wrap=True)
            if state.step == steps:
                line = f"{name}: trained; scoring the held-out text, tasks and n-grams takes about three minutes more"
                bar.console.print(line, highlight=False, soft_wrap=True)

        yield watch


def _print(folder: Path, record: dict[str, Any]) -> None:
    heldout, baseline, seconds = record["heldout"], record["baseline"], record["seconds"]
    click.echo(f"{folder}: {record['parameters']:,} parameters, {seconds['wall']:.0f} s")
    click.echo(
        f"  held out: {heldout['nats_per_token']:.3f}{_ends(heldout['interval'], '.3f')} nats per token, "
        f"{heldout['bits_per_byte']:.3f} bits per byte"
    )
    click.echo(f"  {baseline['name']}: {baseline['nats_per_token']:.3f} nats per token")
    for name, task in record["tasks"].items():
        click.echo(
            f"  {name}: {task['accuracy']:.1%}{_ends(task['interval'], '.1%')} of {task['items']} right, "
            f"{task['chance']:.0%} by chance"
        )
    click.echo(f"  weights: {record['weights_sha256']}")


def _ends(interval: Sequence[float | None], form: str) -> str:
    """An interval behind its value; nothing where a single block says nothing of the spread."""
    low, high = interval
    return "" if low is None or high is None else f" [{low:{form}}, {high:{form}}]"


if __name__ == "__main__":
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Before torch is imported: beside other work, threads that spin while they wait slow each other down.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(run(command))  # type: ignore[arg-type]
