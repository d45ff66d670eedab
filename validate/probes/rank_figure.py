"""The figure of a rank study: what ranks that are no multiple of 64 cost, by their largest power of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from costmodel.show.figure import COLOURS, Theme, axes_style, figure_bytes, head, new_figure
from validate.probes.ranks import MULTIPLES, STEP, RankEffect

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SERIES = (("blue", "o"), ("orange", "s"), ("green", "^"), ("purple", "D"), ("amber", "v"))
_TITLES = {"n": "first factor, rank out: (m, 4096) @ (4096, r)", "k": "second factor, rank in: (m, r) @ (r, 4096)"}
_SPREAD = 0.09


def rank_plot(effects: Sequence[RankEffect], title: str, kind: str, theme: Theme = "light") -> bytes:
    """The figure as a file of this kind (png or svg).

    Raises:
        InputError: when matplotlib is not installed.
    """
    return figure_bytes(rank_figure(effects, title, theme), kind)


def rank_figure(effects: Sequence[RankEffect], title: str, theme: Theme = "light") -> Figure:
    """One panel per factor: time / time of the rank padded to the next multiple of 64, medians with quartiles, by rows.

    Raises:
        InputError: when matplotlib is not installed.
    """
    colours = COLOURS[theme]
    figure = new_figure(11.5, 4.8, theme)
    panels = figure.subplots(1, 2, sharey=True)
    for axes, (role, name) in zip(panels, _TITLES.items(), strict=True):
        axes_style(axes, theme)
        axes.axhline(1, color=colours["ink"], linewidth=1)
        _draw(axes, [each for each in effects if each.role == role], colours)
        axes.set_title(name, fontsize=10)
        axes.set_xticks(range(len(MULTIPLES)), [str(each) for each in MULTIPLES])
        axes.set_xlabel("largest power of two that divides the rank")
    panels[0].set_ylabel(f"time / time of the next multiple of {STEP}\n(above 1: padding with zeros is faster)")
    legend = panels[1].legend(
        title="rows m",
        fontsize=9,
        title_fontsize=9,
        frameon=False,
        labelcolor=colours["ink"],
        loc="center left",
        bbox_to_anchor=(1.0, 0.5),
    )
    legend.get_title().set_color(colours["ink"])
    head(figure, title, theme, 10.5)
    return figure


def _draw(axes: Any, effects: Sequence[RankEffect], colours: dict[str, str]) -> None:
    rows = sorted({each.rows for each in effects})
    for index, m in enumerate(rows):
        shown = [each for each in effects if each.rows == m]
        colour, marker = _SERIES[index % len(_SERIES)]
        places = [MULTIPLES.index(each.multiple) + _SPREAD * (index - (len(rows) - 1) / 2) for each in shown]
        middle = [each.to_padded[1] for each in shown]
        below = [each.to_padded[1] - each.to_padded[0] for each in shown]
        above = [each.to_padded[2] - each.to_padded[1] for each in shown]
        axes.errorbar(
            places,
            middle,
            yerr=(below, above),
            fmt=marker,
            color=colours[colour],
            markersize=5,
            elinewidth=1.2,
            label=str(m),
        )
