"""Print several answers side by side."""

from __future__ import annotations

from costmodel.cli.common import print_lines, print_markdown, print_table
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
