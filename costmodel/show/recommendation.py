"""Recommendations as a table and as CSV: a row for each device, stack and workload."""

from __future__ import annotations

from collections.abc import Sequence

from costmodel.explore.recommendation import Recommendation
from costmodel.show.comparison import Table, place, saving_text, table, where
from costmodel.show.report import amount, duration


def recommendations_table(rows: Sequence[Recommendation]) -> Table:
    """Verdict, saving with its interval, the most that any configuration saves, and what fewer bits save; the
    configurations and the reasons are lines below."""
    first = rows[0]
    works = [row.workload for row in rows]
    notes = []
    for row in rows:
        here = where(row.hardware, row.workload, works)
        damage = "" if row.damage is None else f"; damage {row.damage:.2g}"
        if row.verdict.code == "yes":
            notes.append(f"{here}: {row.verdict.text}: {row.spec}{damage}")
        else:
            notes.append(f"{here}: {row.verdict.text}")
    types = " and ".join(each.weight_dtype for each in first.quantised)
    if types:
        notes.append(f"fewer bits: {types} weights alone; with both: on top of the configuration")
    if any(row.damage for row in rows):
        measured = "" if first.measured else " - NOT MEASURED"
        notes.append(f"{first.damage_metric}{measured}")
    return table(
        f"{first.model.name}: {first.goal}",
        [place(row.hardware, row.workload) for row in rows],
        [_cells(row) for row in rows],
        notes,
    )


def _cells(row: Recommendation) -> dict[str, str]:
    size = row.goal.kind != "faster"
    value = getattr(row.dense, row.goal.metric)
    middle, ends = saving_text(row.saved_pct, row.saved_p05_pct, row.saved_p95_pct)
    if row.config is None:
        middle = ends = "-"
    return {
        "dense": amount(value, "B") if size else duration(value),
        "verdict": row.verdict.code if row.verdict.code == "yes" else f"no: {row.verdict.reason}",
        "saved": middle,
        **({} if size else {"90 %": ends}),
        "most": f"{row.most_saved_pct:.1f} %",
        "fewer bits": _each([each.saved_pct for each in row.quantised]),
        "with both": _each([each.with_config_pct for each in row.quantised]),
    }


def _each(values: Sequence[float | None]) -> str:
    """Percents of the quantised types in their order, once where they are the same when rounded."""
    texts = list(dict.fromkeys("-" if value is None else f"{value:.0f}" for value in values))
    return "-" if texts in ([], ["-"]) else f"{', '.join(texts)} %"


def csv_row(row: Recommendation, following: str | None) -> dict[str, object]:
    """A row of the CSV; `following` is the next command."""
    return {
        "hardware": row.hardware,
        "stack": row.workload.stack,
        "phase": row.workload.phase.value,
        "batch": row.workload.batch,
        "q_len": row.workload.q_len,
        "kv_len": row.workload.kv_len,
        "dense_latency_s": row.dense.latency_s,
        "verdict": row.verdict.code,
        "reason": row.verdict.reason,
        "text": row.verdict.text,
        "configuration": row.spec,
        "saved_pct": row.saved_pct,
        "saved_p05_pct": row.saved_p05_pct,
        "saved_p95_pct": row.saved_p95_pct,
        "most_saved_pct": row.most_saved_pct,
        "damage": row.damage,
        **{f"{each.weight_dtype}_saved_pct": each.saved_pct for each in row.quantised},
        **{f"{each.weight_dtype}_with_config_pct": each.with_config_pct for each in row.quantised},
        "next": following,
    }
