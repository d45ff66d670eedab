"""What `validate quality` prints: a table of configurations beside the dense model, JSON, CSV; and its exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from costmodel.cli.common import print_table, say, write_csv, write_json
from costmodel.show.report import configuration_text
from costmodel.units import percent
from validate.interval import interval_text
from validate.quality.intervals import FEWEST
from validate.quality.records import QUALITY, QualityRecord
from validate.quality.summary import Row, bands, rows

SCHEMA = 1
MAX_ROWS = 60
"""Configurations that a table lists."""
_MAIN = ("acc", "acc_norm", "exact_match")
"""Metrics that a table shows, the first that a task has; JSON has all."""


def finish(
    folder: Path, records: Sequence[QualityRecord], *, fmt: str, measured: int = 0, elapsed_s: float = 0.0
) -> int:
    """Print the records of a run; 1 where one failed, else 0.

    Args:
        measured: how many of them this run made, in `elapsed_s` seconds.
    """
    found = rows(records)
    _note_left_out(records)
    failed = [row for row in found if row.record.failure is not None]
    counts = bands(found)
    if fmt == "json":
        write_json(
            {
                "schema": SCHEMA,
                "model": records[0].model.name if records else None,
                "checkpoint": records[0].model.sha256 if records else None,
                "configurations": [row.to_json() for row in found],
                "nll_change_bands": counts,
                "ok": len(found) - len(failed),
                "failed": len(failed),
                "measured": measured,
                "elapsed_s": round(elapsed_s, 3),
                "paths": {"records": str(folder / QUALITY.file)},
            }
        )
    elif fmt == "csv":
        write_csv(_csv(found))
    else:
        _print(found, folder, counts, measured, elapsed_s)
    if failed:
        first = failed[0].record
        reason = first.failure.reason if first.failure else ""
        say(f"error: {len(failed)} of {len(found)} configurations failed; {first.index}: {reason}", err=True)
    return 1 if failed else 0


def _print(found: Sequence[Row], folder: Path, counts: dict[str, int], measured: int, elapsed_s: float) -> None:
    if not found:
        say("no records")
        return
    spec = found[0].record.spec()
    dense = next(row for row in found if row.record.is_dense)
    metrics = {
        row.task: row.metric
        for row in reversed(dense.tasks)
        for name in reversed(_MAIN)
        if row.metric.partition(",")[0] == name
    }
    metrics = {row.task: metrics.get(row.task, row.metric) for row in dense.tasks}
    kinds = {row.record.factors for row in found} - {"none"}
    columns = ["#", "configuration", *(["factors"] if len(kinds) > 1 else []), "removed"]
    columns += ["NLL", "change", "KL", "flips"] if dense.text else []
    columns += [name for task in metrics for name in (task, "change")]
    cells = []
    for row in found[:MAX_ROWS]:
        record = row.record
        text = configuration_text(record.decomposition(spec), spec) if len(found) > 1 else "as it is"
        line: list[Any] = [record.index, f"{record.artefact.name}: {text}" if record.artefact else text]
        line += [record.factors] if len(kinds) > 1 else []
        line += [percent(row.params_removed)]
        if dense.text:
            line += _text_cells(row)
        by_task = {(task.task, task.metric): task for task in row.tasks}
        for name, metric in metrics.items():
            task = by_task.get((name, metric))
            is_share = metric != "spearman"
            digits = 1 if is_share else 3
            line.append(task and interval_text(task.value, digits, signed=False, share=is_share))
            line.append(task and interval_text(task.change, digits, share=is_share))
        cells.append(line)
    compared = "quality against dense, changes with 95 % intervals" if len(found) > 1 else "quality of it alone"
    title = f"{dense.record.model.name}: {compared}"
    print_table(title, columns, cells, left=2 + (len(kinds) > 1))
    if len(found) > MAX_ROWS:
        say(f"{len(found) - MAX_ROWS} more configurations; --format csv or json has all")
    blocks = len(dense.record.text.nll) if dense.record.text is not None else FEWEST
    if blocks < FEWEST:
        say(f"warning: intervals of {blocks} blocks are too narrow; measure with --blocks {FEWEST} or more")
    if dense.text and len(found) >= 10:
        say("change of NLL in nats: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    chances = {task.task: task.chance for task in dense.tasks if task.chance is not None}
    if chances:
        say("chance: " + ", ".join(f"{name} {percent(value)}" for name, value in chances.items()))
    where = f"records {folder / QUALITY.file}"
    if measured:
        rate = f"{elapsed_s / measured:.2f} s each with start-up"
        say(f"{measured} of {len(found)} configurations measured now, in {elapsed_s:.1f} s, {rate}; {where}")
    else:
        say(f"{len(found)} configurations measured before; {where}")


def _note_left_out(records: Sequence[QualityRecord]) -> None:
    """Name the items of tasks that have no likelihood; the tokenizer decides, so they are the same for all records."""
    tasks = {task.name: task.left_out for record in records for task in record.tasks if task.left_out}
    for name, places in tasks.items():
        listed = ", ".join(map(str, places[:8])) + (", ..." if len(places) > 8 else "")
        why = "a choice has no token of its own behind the context, or too many"
        say(f"note: {name}: left out item {listed} (from 0), of {len(places)} in all: {why}", err=True)


def _text_cells(row: Row) -> list[str | None]:
    if row.text is None:
        return [None] * 4
    text = row.text
    return [f"{text.nll:.4f}", interval_text(text.nll_change, 4), f"{text.kl.value:.4f}", percent(text.flips)]


def _csv(found: Sequence[Row]) -> list[dict[str, Any]]:
    """A line per configuration; columns of tasks are `TASK.METRIC` with `_low`, `_high` and `_change`."""
    import json

    names = list(dict.fromkeys((task.task, task.metric) for row in found for task in row.tasks))
    lines = []
    for row in found:
        record, text = row.record, row.text
        line: dict[str, Any] = {
            "index": record.index,
            "id": record.id,
            "status": record.status,
            "origin": record.origin,
            "factors": record.factors,
            "params_removed_pct": 100 * row.params_removed,
            "nll": text and text.nll,
            "perplexity": text and text.perplexity,
            "nll_change": text and text.nll_change.value,
            "nll_change_low": text and text.nll_change.low,
            "nll_change_high": text and text.nll_change.high,
            "kl": text and text.kl.value,
            "flips": text and text.flips,
        }
        by_task = {(task.task, task.metric): task for task in row.tasks}
        for key in names:
            task, name = by_task.get(key), ".".join(key)
            line |= {
                name: task and task.value.value,
                f"{name}_low": task and task.value.low,
                f"{name}_high": task and task.value.high,
                f"{name}_change": task and task.change.value,
                f"{name}_change_low": task and task.change.low,
                f"{name}_change_high": task and task.change.high,
            }
        reason = record.failure.reason if record.failure else None
        more = {"failure": reason, "config": json.dumps(record.config)}
        last = {"perplexity_reason": text and text.perplexity_reason}
        lines.append(line | more | last | {"artefact": record.artefact and record.artefact.name})
    return lines
