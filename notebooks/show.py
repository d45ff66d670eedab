"""How the notebooks show figures and tables: pictures and Markdown, which every code host renders."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from IPython.display import Image, Markdown
from matplotlib.figure import Figure

from costmodel.show.figure import COLOURS, axes_style, figure_bytes, new_figure

INK = COLOURS["light"]
LINES = [INK[name] for name in ("blue", "orange", "green", "purple", "amber", "grey")]
"""Colours in the order of use; told apart by the colour-blind too."""


def plots(count: int = 1, height: float = 4.2) -> tuple[Figure, list]:
    """A figure with axes side by side, in rows of three where there are more."""
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = new_figure(5.6 * columns, height * rows)
    grid = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes in grid[:count]:
        axes_style(axes)
    for axes in grid[count:]:
        axes.remove()
    return figure, grid[:count]


def picture(figure: Figure) -> Image:
    """The figure as a PNG of moderate size."""
    return Image(figure_bytes(figure, "png", dpi=95))


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Markdown:
    """A Markdown table, first column flush left."""
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join([':--', *['--:'] * (len(columns) - 1)])}|"]
    lines += [f"| {' | '.join(str(cell) for cell in row)} |" for row in rows]
    return Markdown("\n".join(lines))
