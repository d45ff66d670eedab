"""Pieces of the loop's page: intervals as text, tables, figures in both themes. No torch."""

from __future__ import annotations

import base64
import html
from collections.abc import Callable, Sequence
from typing import Any

from costmodel.show.figure import Theme
from validate.interval import Interval

_THEMES: tuple[Theme, Theme] = ("light", "dark")


def interval_text(interval: Interval | None, digits: int = 3) -> str:
    """A signed value with its interval."""
    if interval is None:
        return "-"
    if interval.low is None or interval.high is None:
        return f"{interval.value:+.{digits}f}"
    return f"{interval.value:+.{digits}f} [{interval.low:+.{digits}f}, {interval.high:+.{digits}f}]"


def figure(draw: Callable[[Theme], bytes], caption: str, kind: str = "wide") -> str:
    """A picture that follows the reader's theme, drawn as SVG by `draw`."""
    light, dark = (f"data:image/svg+xml;base64,{base64.b64encode(draw(theme)).decode()}" for theme in _THEMES)
    return (
        f'<figure class="{kind}"><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(caption)}"></picture><figcaption>{escape(caption)}</figcaption></figure>'
    )


def folded(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]], wide: tuple[int, ...] = (0,)) -> str:
    """A table that is shown when asked for."""
    return f"<details><summary>{escape(title)}</summary>{table(columns, rows, wide)}</details>"


def table(columns: Sequence[str], rows: Sequence[Sequence[Any]], wide: tuple[int, ...] = ()) -> str:
    """Rows as an HTML table; the columns in `wide` wrap."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>"
        + "".join(
            f"<td{' class=w' if place in wide else ''}>{escape(str(cell))}</td>" for place, cell in enumerate(row)
        )
        + "</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def ratio_text(interval: Interval) -> str:
    """An unsigned value with its interval."""
    if interval.low is None or interval.high is None:
        return f"{interval.value:.2f}"
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def escape(value: str) -> str:
    """Text for HTML."""
    return html.escape(value)
