"""Recommendations as a table and as CSV: a row for each device, stack and workload."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from costmodel.explore.recommendation import Recommendation, refusal_json
from costmodel.forward.workload import Workload
from costmodel.pricing.several import IMPOSSIBLE, Place, Refusal
from costmodel.show.comparison import Table, place, refusal_notes, saving_text, table, where
from costmodel.show.report import amount, duration

SCHEMA = 1
"""Version of the JSON output."""


def recommendations_table(rows: Sequence[Recommendation | Refusal]) -> Table:
    """Verdict, saving with its interval, the most that any configuration saves, and what fewer bits save; the
    configurations and the reasons are lines below. At least one of the rows is none that was refused."""
    answered = [row for row in rows if isinstance(row, Recommendation)]
    first = answered[0]
    asked = [(row.hardware, work) for row in rows for work in _works(row)]
    works = [work for _, work in asked]
    cells: list[dict[str, str] | None] = []
    notes: list[str] = []
    said: dict[str, list[str]] = {}
    for row in rows:
        if isinstance(row, Refusal):
            cells += [None] * len(row.places)
            notes += refusal_notes(row, works)
            continue
        cells.append(_cells(row))
        here = where(row.hardware, row.workload, works)
        damage = "" if row.damage is None else f"; damage {row.damage:.2g}"
        if row.verdict.code == "yes" and row.verdict.reason != "fits":  # which is dense as it is
            said.setdefault(f"{row.verdict.text}: {row.spec}{damage}", []).append(here)
        else:
            said.setdefault(row.verdict.text, []).append(here)
    notes = [*(_said(text, places, len(answered)) for text, places in said.items()), *notes]
    types = " and ".join(each.weight_dtype for each in first.quantised)
    if types:
        notes.append(f"fewer bits: {types} weights alone; with both: on top of the configuration")
    if any(row.damage for row in answered):
        measured = "" if first.measured else " - NOT MEASURED"
        notes.append(f"{first.damage_metric}{measured}")
    return table(
        f"{first.model.name}: {first.goal}",
        [place(hardware, work) for hardware, work in asked],
        cells,
        [*notes, *(f"warning: {text}" for row in answered for text in row.warnings)],
    )


def _said(text: str, places: Sequence[str], rows: int) -> str:
    """What is said of these places, once."""
    return f"{'all' if len(places) == rows > 1 else '; '.join(places)}: {text}"


def _works(row: Recommendation | Refusal) -> Sequence[Workload | Place]:
    return row.places if isinstance(row, Refusal) else [row.workload]


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


def recommendations_json(rows: Sequence[Recommendation | Refusal], following: Sequence[str | None]) -> dict[str, Any]:
    """The contract's JSON; `following` has the next command of each row. At least one is none that was refused."""
    first = next(row for row in rows if isinstance(row, Recommendation))
    told: list[dict[str, Any]] = []
    for row, command in zip(rows, following, strict=True):
        told += refusal_json(row, first.goal) if isinstance(row, Refusal) else [row.to_json(command)]
    damage = {"metric": first.damage_metric, "stand_in": not first.measured}
    return {"schema": SCHEMA, "model": first.model.name, "goal": str(first.goal), "damage": damage, "rows": told}


def csv_rows(row: Recommendation | Refusal, following: str | None) -> list[dict[str, object]]:
    """The rows of the CSV; `following` is the next command."""
    return _refused_rows(row) if isinstance(row, Refusal) else [_csv_row(row, following)]


def _refused_rows(refusal: Refusal) -> list[dict[str, object]]:
    names = ("stack", "phase", "batch", "q_len", "kv_len")
    why = {"verdict": "no", "reason": IMPOSSIBLE, "text": refusal.text}
    return [
        {"hardware": refusal.hardware, **{name: place.to_json()[name] for name in names}, **why}
        for place in refusal.places
    ]


def _csv_row(row: Recommendation, following: str | None) -> dict[str, object]:
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
