"""Maps of all weights as a still picture, one above the other, in the colours that pages give them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from costmodel.show.figure import COLOURS, Theme, drawn, figure_bytes, head, new_figure
from costmodel.show.site_map import Cell, SiteMap

if TYPE_CHECKING:
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

_ENDS: dict[Theme, tuple[str, str]] = {"light": ("#d9ebf7", "#00223a"), "dark": ("#16364b", "#e3f4ff")}
"""The palest and the deepest colour; the theme's blue lies between them."""
_WIDTH, _ROW, _REST, _HEAD = 8.6, 0.19, 1.0, 0.45
"""Inches: of the picture; of a row; of a map without its rows; of the picture's heading."""


def site_map_plot(maps: Sequence[SiteMap], heading: str, kind: str, theme: Theme = "light") -> bytes:
    """The figure as a file of this kind (png or svg).

    Raises:
        InputError: when matplotlib is not installed.
    """
    return figure_bytes(site_map_figure(maps, heading, theme), kind)


def site_map_figure(maps: Sequence[SiteMap], heading: str, theme: Theme = "light") -> Figure:
    """A panel of each map, layers across and tensors down, its legend below it.

    Raises:
        InputError: when matplotlib is not installed.
    """
    heights = [_REST + _ROW * len(each.tensors) for each in maps]
    figure = new_figure(_WIDTH, _HEAD + sum(heights), theme)
    head(figure, heading, theme, 10.5)
    panels = figure.subplots(len(maps), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, each in zip(panels, maps, strict=True):
        _draw(axes, each, theme)
    return figure


def _draw(axes: Any, map_: SiteMap, theme: Theme) -> None:
    from matplotlib.patches import Patch

    colours = COLOURS[theme]
    axes.set_facecolor(colours["paper"])
    for spine in axes.spines.values():
        spine.set_visible(False)
    for y, row in enumerate(map_.rows):
        for x, cell in enumerate(row):
            if cell is not None:
                axes.add_patch(_box(x, y, cell, theme))
    axes.set_xlim(-0.5, map_.layers - 0.5)
    axes.set_ylim(len(map_.rows) - 0.5, -0.5)
    step = max(1, int(np.ceil(map_.layers / 16)))
    axes.set_xticks(range(0, map_.layers, step))
    axes.set_yticks(range(len(map_.tensors)), [drawn(name) for name in map_.tensors])
    axes.tick_params(length=0, colors=colours["muted"], labelsize=8.5)
    axes.set_xlabel("layer", fontsize=9, color=colours["ink"])
    axes.set_title(drawn(map_.title), fontsize=9.5, color=colours["ink"], loc="left")
    axes.legend(
        handles=[Patch(label=drawn(cell.text), **_look(cell, theme)) for cell in map_.key],
        loc="upper center",
        bbox_to_anchor=(0.5, -0.4 / (_ROW * len(map_.rows))),
        ncols=len(map_.key),
        frameon=False,
        fontsize=8,
        labelcolor=colours["ink"],
        handlelength=1.0,
        handleheight=1.0,
        columnspacing=1.2,
    )


def _box(x: int, y: int, cell: Cell, theme: Theme) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x - 0.46, y - 0.44), 0.92, 0.88, **_look(cell, theme))


def _look(cell: Cell, theme: Theme) -> dict[str, Any]:
    colours = COLOURS[theme]
    match cell.kind:
        case "dense":
            return {"facecolor": "none", "edgecolor": colours["grid"], "linewidth": 0.8}
        case "dropped":
            return {"facecolor": colours["grey"], "alpha": 0.45, "linewidth": 0}
        case "above":
            return {"facecolor": colours["orange"], "linewidth": 0}
    return {"facecolor": _scale(theme)(cell.shade), "linewidth": 0}


def _scale(theme: Theme) -> Colormap:
    from matplotlib.colors import LinearSegmentedColormap

    pale, deep = _ENDS[theme]
    return LinearSegmentedColormap.from_list("sites", [pale, COLOURS[theme]["blue"], deep])
