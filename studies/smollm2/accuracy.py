"""Accuracy of compared configurations on the six benchmarks: lists for `validate quality`, and the page of its records.

    python -m studies.smollm2.accuracy ask studies/smollm2 --removed 0.1 --removed 0.2
    validate quality --model smollm2 --configs studies/smollm2/asked/whitened.json --factors whitened \\
        --calibration-text wikitext2_raw.valid.txt --tasks arc_easy=arc_easy.jsonl.xz ... --out studies/smollm2/tasks
    python -m studies.smollm2.accuracy page studies/smollm2

The lists hold what `studies.smollm2.run` measured, one for each kind of factors, and their records may share a folder.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import click

from costmodel.cli import run
from costmodel.cli.common import say
from costmodel.files.write import write_file
from studies.smollm2.record import Measured, read_measured
from studies.smollm2.run import FILE, METHODS
from validate.errors import RunError
from validate.interval import Interval
from validate.quality.records import QUALITY
from validate.quality.summary import Row, TaskRow
from validate.quality.summary import rows as paired

KINDS = ("whitened", "sequential", "fisher", "plain")
"""Factors that `validate quality` computes too; the baselines' own ones it does not."""
METRICS = {
    "arc_easy": "acc",
    "arc_challenge": "acc_norm",
    "hellaswag": "acc_norm",
    "winogrande": "acc",
    "truthfulqa_mc2": "acc",
    "mmlu": "acc",
}
"""The metric of each benchmark that is usually given."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def command() -> None:
    """Accuracy of compared configurations."""


@command.command()
@click.argument("folder", metavar="DIR")
@click.option("--methods", type=click.Choice(list(METHODS)), multiple=True, help="A part of them.")
@click.option("--removed", type=click.FloatRange(0, 1, min_open=True), multiple=True, help="Shares of the parameters.")
def ask(folder: str, methods: tuple[str, ...], removed: tuple[float, ...]) -> None:
    """Write the configurations of DIR/compared.jsonl as DIR/asked/FACTORS.json."""
    lists: dict[str, list[dict[str, object]]] = {}
    for row in read_measured(Path(folder) / FILE):
        kind = kind_of(row)
        if kind in KINDS and (not methods or row.method in methods) and (not removed or row.asked in removed):
            lists.setdefault(kind, []).append(row.config)
    if not lists:
        raise RunError("nothing to ask for", value=folder, hint="measure it with studies.smollm2.run first")
    (Path(folder) / "asked").mkdir(exist_ok=True)
    for kind, configs in lists.items():
        path = Path(folder) / "asked" / f"{kind}.json"
        write_file(path, (json.dumps(configs) + "\n").encode())
        say(f"{path}: {len(configs)} configurations")


@command.command()
@click.argument("folder", metavar="DIR")
def page(folder: str) -> None:
    """Write DIR/accuracy.md from DIR/compared.jsonl and the records of DIR/tasks."""
    found = to_markdown(read_measured(Path(folder) / FILE), paired(QUALITY.read(Path(folder) / "tasks")))
    write_file(Path(folder) / "accuracy.md", found.encode())


def kind_of(row: Measured) -> str:
    """Factors of a compared row; layers that are dropped need none, and go with the whitened ones."""
    return METHODS[row.method][1] or "whitened" if row.method in METHODS else ""


def to_markdown(compared: Sequence[Measured], records: Sequence[Row]) -> str:
    """A line for each method and size: shares of right answers, and their change against dense over all items.

    Args:
        compared: what was asked for.
        records: of `validate quality`, paired with its dense model.
    """
    dense = next(row for row in records if row.record.is_dense)
    tasks = {row.task: row for row in dense.tasks if METRICS.get(row.task) == row.metric}
    items = ", ".join(f"{name} {row.items} ({row.metric})" for name, row in tasks.items())
    lines = [
        "# Accuracy of the compared configurations",
        "",
        f"Items: {items}. Right answers in percent; in brackets the change against dense, 95 % interval.",
        "",
        "| method | removed | " + " | ".join(tasks) + " | mean |",
        "|---|---|" + "---|" * (len(tasks) + 1),
        _line("dense", 0.0, dense, list(tasks)),
    ]
    for row in sorted(compared, key=lambda row: (row.asked, row.loss)):
        record = next((each for each in records if _is_of(each, row)), None)
        if record is not None:
            lines.append(_line(row.method, row.removed, record, list(tasks)))
    lines.append("| by chance | | " + " | ".join(f"{100 * (row.chance or 0):.1f}" for row in tasks.values()) + " | |")
    return "\n".join(lines) + "\n"


def _is_of(record: Row, row: Measured) -> bool:
    factors = record.record.factors
    return record.record.config == row.config and factors in (kind_of(row), "none") and not record.record.is_dense


def _line(method: str, removed: float, row: Row, tasks: Sequence[str]) -> str:
    own = {each.task: each for each in row.tasks if METRICS.get(each.task) == each.metric}
    cells = [_cell(own[name], dense=row.record.is_dense) for name in tasks]
    mean = fmean(own[name].value.value for name in tasks)
    return f"| {method} | {100 * removed:.1f} % | " + " | ".join(cells) + f" | {100 * mean:.1f} |"


def _cell(row: TaskRow, *, dense: bool) -> str:
    change: Interval = row.change
    ends = f"[{100 * change.low:+.1f}, {100 * change.high:+.1f}]"
    return f"{100 * row.value.value:.1f}" + ("" if dense else f" ({100 * change.value:+.1f} {ends})")


if __name__ == "__main__":
    run(command)
