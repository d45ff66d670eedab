"""Accuracy of compared configurations on the six benchmarks: lists for `validate quality`, and the page of its records.

    python -m studies.smollm2.accuracy ask studies/smollm2 --removed 0.1 --removed 0.2
    validate quality --model smollm2 --configs studies/smollm2/asked/whitened.json --factors whitened \\
        --calibration-text wikitext2_raw.valid.txt --tasks arc_easy=arc_easy.jsonl.xz ... --out studies/smollm2/tasks
    python -m studies.smollm2.accuracy page studies/smollm2

The lists hold what `studies.smollm2.run` measured, one for each kind of factors, and their records may share a folder.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean

import click
import numpy as np

from costmodel.cli import run
from costmodel.cli.common import say
from costmodel.files.write import write_file
from studies.smollm2.record import Measured, read_measured
from studies.smollm2.run import FILE, METHODS
from validate.errors import RunError
from validate.interval import Interval
from validate.predictor.task_link import accuracy_at, fit_curve
from validate.quality.intervals import change
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
BESIDE = "svd-llm"
"""The baseline whose accuracy stands beside each."""
GROWS = "truthfulqa_mc2"
FEWEST = 6
"""Configurations from which on accuracies are told from losses."""


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
    """A line for each method and size, and what a task's accuracy is off by where it is told from the loss.

    Args:
        compared: what was asked for, the dense model among it.
        records: of `validate quality`, paired with its dense model.
    """
    dense = next(row for row in records if row.record.is_dense)
    tasks = {row.task: row for row in dense.tasks if METRICS.get(row.task) == row.metric}
    telling = {name: row for name, row in tasks.items() if _is_telling(row)}
    items = ", ".join(f"{name} {row.items} ({row.metric})" for name, row in tasks.items())
    asked = {
        (row.method, row.asked): (row, record)
        for row in sorted(compared, key=lambda row: (row.asked, row.loss))
        if (record := next((each for each in records if _is_of(each, row)), None)) is not None
    }
    lines = [
        "# Accuracy of the compared configurations",
        "",
        f"Items: {items}. Right answers in percent; in brackets the change against dense, and beside {BESIDE} the "
        "difference from it at the same size, each with its paired 95 % interval. Every task of a mean counts alike. "
        f"Dense is better than guessing on {', '.join(telling) or 'none'} alone; {GROWS} grows with damage, for a "
        "model that knows nothing spreads its probability over true answers too.",
        "",
        f"| method | removed | {' | '.join(tasks)} | mean | beside {BESIDE} | mean of those better than guessing "
        f"| beside {BESIDE} |",
        "|---|---|" + "---|" * (len(tasks) + 4),
        _line("dense", 0.0, [*map(_percent, tasks.values()), _mean(dense, tasks), "-", _mean(dense, telling), "-"]),
    ]
    for (method, size), (row, record) in asked.items():
        other = asked.get((BESIDE, size)) if method != BESIDE else None
        cells = [f"{_percent(each)} ({_change(each.change)})" for each in _of(record, tasks)]
        for some in (tasks, telling):
            cells += _means(record, dense, other[1] if other else None, some)
        lines.append(_line(method, row.removed, cells))
    chances = ["-" if row.chance is None else f"{100 * row.chance:.1f}" for row in tasks.values()]
    lines.append(f"| by chance | - | {' | '.join([*chances, '-', '-', '-', '-'])} |")
    plain = next((row for row in compared if row.method == "dense"), None)
    if plain is not None and len(asked) >= FEWEST:
        lines += _from_loss(tasks, [(row.loss - plain.loss, record) for row, record in asked.values()])
    return "\n".join(lines) + "\n"


def _is_of(record: Row, row: Measured) -> bool:
    factors = record.record.factors
    return record.record.config == row.config and factors in (kind_of(row), "none") and not record.record.is_dense


def _is_telling(row: TaskRow) -> bool:
    """Whether the dense model is better than guessing, by the lower end of its interval."""
    return row.chance is not None and (row.value.low or 0.0) > row.chance


def _of(row: Row, tasks: Collection[str]) -> list[TaskRow]:
    own = {each.task: each for each in row.tasks if METRICS.get(each.task) == each.metric}
    return [own[name] for name in tasks]


def _means(row: Row, dense: Row, other: Row | None, tasks: Mapping[str, TaskRow]) -> tuple[str, str]:
    """The mean with its change, and its difference from another row's; dashes where there is none."""
    if not tasks:
        return "-", "-"
    mean = f"{_mean(row, tasks)} ({_change(_mean_change(row, dense, tasks))})"
    return mean, "-" if other is None else _change(_mean_change(row, other, tasks))


def _mean(row: Row, tasks: Collection[str]) -> str:
    return f"{100 * fmean(each.value.value for each in _of(row, tasks)):.1f}" if tasks else "-"


def _mean_change(row: Row, other: Row, tasks: Mapping[str, TaskRow]) -> Interval:
    """Of the mean over tasks, paired by item: an item counts by its share of its task."""

    def scored(each: Row) -> list[float]:
        asked = {task.name: task.metrics[METRICS[task.name]] for task in each.record.tasks if task.name in tasks}
        return [float(value) / tasks[name].items for name in tasks for value in asked[name]]

    return change(scored(row), scored(other), [1 / task.items for task in tasks.values() for _ in range(task.items)])


def _from_loss(tasks: Mapping[str, TaskRow], measured: Sequence[tuple[float, Row]]) -> list[str]:
    """Each accuracy from the change of NLL by the curve through the other configurations."""
    changes = np.array([loss for loss, _ in measured])
    lines = [
        "",
        f"## Accuracy told from the loss, {len(measured)} configurations, each by the curve through the others",
        "",
        "Mean absolute errors in points. *Noise* is what the accuracy of so many items is off by itself; the null "
        "model is the median of the others. Tasks on which dense is not better than guessing have no curve.",
        "",
        "| task | dense, above chance | error | null model | noise |",
        "|---|---|---|---|---|",
    ]
    for name, row in tasks.items():
        chance, dense = row.chance or 0.0, row.value.value
        values = np.array([_of(record, [name])[0].value.value for _, record in measured])
        if not _is_telling(row):
            above = "-" if row.chance is None else f"{100 * (dense - chance):+.1f}"
            lines.append(f"| {name} | {above} | not informative | - | - |")
            continue
        error, null = np.zeros(len(values)), np.zeros(len(values))
        for place in range(len(values)):
            others = np.arange(len(values)) != place
            scale, power = fit_curve(chance, dense, changes[others], values[others])
            error[place] = abs(accuracy_at(changes[place : place + 1], chance, dense, scale, power)[0] - values[place])
            null[place] = abs(np.median(values[others]) - values[place])
        noise = np.sqrt(2 / np.pi * values * (1 - values) / row.items).mean()
        lines.append(
            f"| {name} | {100 * (dense - chance):+.1f} | {100 * error.mean():.1f} | {100 * null.mean():.1f} "
            f"| {100 * noise:.1f} |"
        )
    return lines


def _line(method: str, removed: float, cells: Sequence[str]) -> str:
    return f"| {method} | {100 * removed:.1f} % | {' | '.join(cells)} |"


def _percent(row: TaskRow) -> str:
    return f"{100 * row.value.value:.1f}"


def _change(change: Interval) -> str:
    return f"{100 * change.value:+.1f} [{100 * (change.low or 0):+.1f}, {100 * (change.high or 0):+.1f}]"


if __name__ == "__main__":
    run(command)
