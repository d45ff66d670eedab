"""Print several answers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from costmodel.cli.common import print_lines, print_markdown, print_table
from costmodel.pricing.estimate import Estimate
from costmodel.show.comparison import Table


def print_comparison(table: Table, fmt: str) -> None:
    """Print a comparison for people, in several tables where one is wider than the terminal, or as one in Markdown; its
    notes are below."""
    if fmt == "markdown":
        print_markdown(table.title, table.columns, table.rows)
        if table.notes:
            print_lines(["", *(f"- {note}" for note in table.notes)])
    else:
        print_table(table.title, table.columns, table.rows, left=table.left, part=True)
        print_lines(table.notes)


def distinct_phases(results: Sequence[Estimate]) -> list[Estimate]:
    """The results without phases that an earlier one has: a prefill says nothing of what decode steps attend to."""
    seen, kept = set(), []
    for result in results:
        own = {phase.workload: phase for phase in result.phases if (result.hardware.name, phase.workload) not in seen}
        seen |= {(result.hardware.name, work) for work in own}
        if own:
            kept.append(replace(result, phases=tuple(own.values())))
    return kept
