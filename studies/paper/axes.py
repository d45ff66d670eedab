"""How the figures of the case studies look: kinds of points, intervals, an axis for changes. No torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from costmodel.show.figure import plain_ticks
from studies.paper.points import DROPPED, PLAIN, WHITENED
from studies.paper.results import Found
from validate.pages.axes import bars

COLOURS = {PLAIN: "#2f7ed8", WHITENED: "#d9730d", DROPPED: "#5b6670"}
MARKERS = {PLAIN: "o", WHITENED: "s", DROPPED: "X"}
NAMES = {PLAIN: "plain factors", WHITENED: "whitened factors", DROPPED: "layers dropped"}
MOST_TICKS = 12
"""Labels of layers that a panel has room for."""
LINEAR = 0.01
"""Nats per token below which the axis of changes is linear rather than logarithmic, so that zero has a place."""


def make_axes(rows: int, columns: int, size: tuple[float, float], share: bool = True) -> tuple[Any, list[Any]]:
    """A constrained figure and its axes, row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=share)
    for axes in grid.flat:
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
        axes.grid(color="#1c2126", alpha=0.13, linewidth=0.6)
        axes.set_axisbelow(True)
    return figure, list(grid.flat)


def whole_numbers(axes: Any, values: Iterable[float]) -> None:
    """Ticks of the x axis at these whole numbers, or where they are many at round ones among them."""
    from matplotlib.ticker import MaxNLocator

    found = sorted({int(value) for value in values})
    if len(found) <= MOST_TICKS:
        axes.set_xticks(found)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(MOST_TICKS, integer=True))


def draw_line(axes: Any, xs: Sequence[float], found: Sequence[Found], kind: str) -> None:
    """Points with intervals at these places, joined."""
    values = [each.change for each in found]
    axes.errorbar(
        xs,
        [each.value for each in values],
        yerr=bars(values),
        marker=MARKERS[kind],
        markersize=4.5,
        color=COLOURS[kind],
        linewidth=1.3,
        linestyle="--" if kind == DROPPED else "-",
    )


def draw_level(axes: Any, found: Found) -> None:
    """A horizontal line with its interval as a band."""
    axes.axhline(found.change.value, color=COLOURS[DROPPED], linestyle="--", linewidth=1.3)
    if found.change.low is not None and found.change.high is not None:
        axes.axhspan(found.change.low, found.change.high, color=COLOURS[DROPPED], alpha=0.15, linewidth=0)


def draw_dot(
    axes: Any, found: Found, kind: str, place: float, *, horizontal: bool = False, hollow: bool = False
) -> None:
    """One point with its interval, along either axis."""
    look: dict[str, Any] = {
        "fmt": MARKERS[kind],
        "markersize": 4.5,
        "color": COLOURS[kind],
        "linewidth": 1.1,
        "markerfacecolor": "white" if hollow else COLOURS[kind],
    }
    if horizontal:
        axes.errorbar(found.change.value, place, xerr=bars([found.change]), **look)
    else:
        axes.errorbar(place, found.change.value, yerr=bars([found.change]), **look)


def scale_changes(row: Sequence[Any]) -> None:
    """Label and scale the vertical axes of changes drawn so far."""
    row[0].set_ylabel("change of NLL, nats per token")
    ends = [axes.dataLim.intervaly for axes in row]
    scale_ends([axes.yaxis for axes in row], [end for pair in ends for end in pair])


def scale(axes: Sequence[Any], found: Sequence[Found]) -> None:
    """Scale axes for these changes, intervals included."""
    values = [end for each in found for end in (each.change.value, each.change.low, each.change.high)]
    scale_ends(axes, [value for value in values if value is not None])


def scale_ends(axes: Sequence[Any], values: Sequence[float]) -> None:
    """Logarithmic but near zero, wide enough for these values, with few plain numbers."""
    low, high = min(values), max(values)
    numbers = [0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0]
    shown = [
        value
        for value in [*(-each for each in reversed(numbers[1:])), *numbers]
        if min(0.0, 1.2 * low) <= value <= 1.2 * high
    ]
    for axis in axes:
        name = axis.axis_name
        getattr(axis.axes, f"set_{name}scale")("symlog", linthresh=LINEAR, linscale=0.6)
        getattr(axis.axes, f"set_{name}lim")(min(-0.002, 1.15 * low), 1.25 * high)
        crowded = {0.03, -0.03} if name == "x" else set()  # side by side, its number would touch the next one's
        plain_ticks(axis, [value for value in shown if value not in crowded])


def draw_legend(figure: Any, kinds: Sequence[str]) -> None:
    """One legend above the figure."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            color=COLOURS[kind],
            marker=MARKERS[kind],
            markersize=5,
            linewidth=1.3,
            linestyle="--" if kind == DROPPED else "-",
            label=NAMES[kind],
        )
        for kind in kinds
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(kinds), frameon=False)
