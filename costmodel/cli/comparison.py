"""Print several answers side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from costmodel.cli.common import print_lines, print_markdown, print_table
from costmodel.forward.workload import Workload
from costmodel.pricing.estimate import Estimate
from costmodel.pricing.several import Place, Refusal
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


def distinct_phases(results: Sequence[Estimate | Refusal]) -> list[Estimate | Refusal]:
    """The results without phases that an earlier one has: a prefill says nothing of what decode steps attend to."""
    seen: set[tuple[str, Workload | Place]] = set()
    kept: list[Estimate | Refusal] = []
    for result in results:
        if isinstance(result, Refusal):
            places = tuple(place for place in result.places if (result.hardware, place) not in seen)
            seen |= {(result.hardware, place) for place in places}
            kept += [replace(result, places=places)] if places else []
            continue
        own = {phase.workload: phase for phase in result.phases if (result.hardware.name, phase.workload) not in seen}
        seen |= {(result.hardware.name, work) for work in own}
        if own:
            kept.append(replace(result, phases=tuple(own.values())))
    return kept
