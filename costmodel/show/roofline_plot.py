"""The roofline as a still picture, one panel per phase."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from costmodel.show.figure import COLOURS, Theme, any_letters, axes_style, head, new_figure
from costmodel.show.roofline_chart import GROUPS, Mark, Panel, RooflineChart
from costmodel.units import percent, seconds, si

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GROUP_COLOURS = {"attn": "blue", "mlp": "orange", "attention": "green", "head": "amber", "vector": "purple"}
_AREA = 1500.0
"""Marker area in square points of an operation that takes all the time."""
_LEAST = 14.0
_DIRECTIONS = [
    (1, 0),
    (-1, 0),
    (0, 1),
    (0, -1),
    (1, 1),
    (-1, 1),
    (1, -1),
    (-1, -1),
    (0.5, 1),
    (-0.5, 1),
    (0.5, -1),
    (-0.5, -1),
]
_DISTANCES = (0.0, 12.0, 26.0, 42.0, 60.0)
"""Gaps between a mark and its name that are tried in turn, in points; beyond the first a line joins the two."""


def roofline_figure(chart: RooflineChart, theme: Theme = "light") -> Figure:
    """Draw a chart: roofs and ridge points, dense operations as circles, factored ones as squares, arrows between.

    Raises:
        InputError: when matplotlib is not installed.
    """
    count = len(chart.panels)
    figure = new_figure(7.0 * count, 6.2, theme)
    colours = COLOURS[theme]
    head(figure, f"{chart.title}\n{chart.configuration}", theme)
    grid = figure.subplots(1, count, squeeze=False, sharey=True)[0]
    for axes, panel in zip(grid, chart.panels, strict=True):
        _draw_roofs(axes, chart, theme)
        _draw_panel(axes, panel, theme)
    grid[0].set_ylabel("achieved rate (FLOP/s)")
    groups = {mark.group for panel in chart.panels for mark in panel.marks}
    figure.legend(
        handles=_legend([key for key in GROUPS if key in groups], chart, theme),
        loc="outside lower center",
        ncols=4,
        frameon=False,
        fontsize=8.5,
        labelcolor=colours["ink"],
    )
    with any_letters():
        figure.draw_without_rendering()
        for axes, panel in zip(grid, chart.panels, strict=True):
            _place_labels(axes, panel, chart, theme)
    return figure


def _draw_roofs(axes: Any, chart: RooflineChart, theme: Theme) -> None:
    axes_style(axes, theme)
    colours = COLOURS[theme]
    (left, right), bandwidth = chart.x_range, chart.memory_bytes_per_s
    axes.set(xscale="log", yscale="log", xlim=(left, right), ylim=chart.y_range)
    axes.set_xlabel("arithmetic intensity (FLOP/B)")
    for roof in chart.roofs:
        ridge = roof.flops_per_s / bandwidth
        colour, width = (colours["ink"], 1.8) if roof.selected else (colours["grey"], 0.9)
        axes.plot([ridge, right], [roof.flops_per_s] * 2, color=colour, lw=width, solid_capstyle="butt")
        axes.text(
            right,
            roof.flops_per_s,
            f"{roof.label}  {si(roof.flops_per_s, 'FLOP/s')} ",
            ha="right",
            va="bottom",
            fontsize=8,
            color=colours["ink" if roof.selected else "muted"],
        )
        if roof.selected:
            axes.plot([left, ridge], [left * bandwidth, roof.flops_per_s], color=colour, lw=width)
            axes.plot([ridge] * 2, [chart.y_range[0], roof.flops_per_s], color=colour, lw=0.8, ls=(0, (2, 3)))
            axes.annotate(
                f"ridge {ridge:.0f} FLOP/B",
                (ridge, chart.y_range[0]),
                xytext=(3, 4),
                fontsize=8,
                textcoords="offset points",
                color=colours["muted"],
            )
    highest = max(roof.flops_per_s for roof in chart.roofs)
    own = next(roof.flops_per_s for roof in chart.roofs if roof.selected)
    axes.plot([own / bandwidth, highest / bandwidth], [own, highest], color=colours["grey"], lw=0.9)
    axes.annotate(
        f"{si(bandwidth, 'B/s')} memory",
        (left, left * bandwidth),
        xytext=(8, 18),
        color=colours["muted"],
        textcoords="offset points",
        fontsize=8,
        rotation=_angle(axes),
        rotation_mode="anchor",
    )


def _angle(axes: Any) -> float:
    """Of a line of slope one on log-log axes, in degrees on the page."""
    import math

    box = axes.get_window_extent()
    spans = [math.log10(high / low) for low, high in (axes.get_xlim(), axes.get_ylim())]
    return math.degrees(math.atan2(box.height / spans[1], box.width / spans[0]))


def _draw_panel(axes: Any, panel: Panel, theme: Theme) -> None:
    colours = COLOURS[theme]
    for start, end in panel.arrows:
        before, after = panel.marks[start], panel.marks[end]
        axes.annotate(
            "",
            _at(after),
            _at(before),
            zorder=2,
            arrowprops={
                "arrowstyle": "-|>",
                "color": colours[GROUP_COLOURS[after.group]],
                "lw": 1.2,
                "alpha": 0.65,
                "shrinkA": 4,
                "shrinkB": 4,
            },
        )
    for mark in sorted(panel.marks, key=lambda mark: -mark.share):
        colour = colours[GROUP_COLOURS[mark.group]]
        dense = mark.variant == "dense"
        axes.scatter(
            [mark.work_intensity],
            [mark.flops_per_s],
            s=_area(mark),
            marker="o" if dense else "s",
            zorder=3,
            facecolor=_faded(colour) if dense else colour,
            edgecolor=colour if dense else colours["paper"],
            linewidth=1.1,
        )
    wait = f"; host launches {seconds(panel.host_s, 3)}" if panel.host_s else ""
    idle = f"; {percent(panel.idle)} of it only moves data" if panel.idle > 0.0005 else ""
    axes.set_title(panel.title, fontsize=9.5, loc="left", pad=20, color=colours["ink"])
    axes.text(
        0,
        1.015,
        f"device {seconds(panel.device_s, 3)}{idle}{wait}",
        transform=axes.transAxes,
        fontsize=8.5,
        color=colours["muted"],
    )


def _at(mark: Mark) -> tuple[float, float]:
    return mark.work_intensity, mark.flops_per_s


def _area(mark: Mark) -> float:
    return max(_LEAST, _AREA * mark.share)


def _faded(colour: str) -> tuple[float, float, float, float]:
    from matplotlib.colors import to_rgba

    red, green, blue, _ = to_rgba(colour)
    return red, green, blue, 0.3


def _place_labels(axes: Any, panel: Panel, chart: RooflineChart, theme: Theme) -> None:
    """Put each mark's name where it hides no other name, mark or roof, the longest-running first."""
    from matplotlib.patheffects import withStroke
    from matplotlib.transforms import Bbox

    renderer = axes.figure.canvas.get_renderer()
    scale = axes.figure.dpi / 72
    radii = [scale * (_area(mark) / 3.1416) ** 0.5 for mark in panel.marks]
    centres = [axes.transData.transform(_at(mark)) for mark in panel.marks]
    taken = [Bbox.from_extents(x - r, y - r, x + r, y + r) for (x, y), r in zip(centres, radii, strict=True)]
    taken += [text.get_window_extent(renderer) for text in axes.texts if text.get_text()]
    taken += [Bbox.from_extents(x - 2, y - 2, x + 2, y + 2) for x, y in axes.transData.transform(_roof_points(chart))]
    frame = axes.get_window_extent(renderer)
    for index in sorted(range(len(panel.marks)), key=lambda index: -panel.marks[index].share):
        mark, (x, y), radius = panel.marks[index], centres[index], radii[index]
        style = "normal" if mark.variant == "dense" else "italic"
        text = axes.text(0, 0, _label(mark), fontsize=8, fontstyle=style, transform=None)
        box = text.get_window_extent(renderer)
        best: tuple[float, float, float, Bbox] | None = None
        for order, gap in enumerate(_DISTANCES):
            for dx, dy in _DIRECTIONS:
                cx = x + dx * (radius + (4 + gap) * scale + box.width / 2)
                cy = y + dy * (radius + (3 + gap) * scale + box.height / 2)
                placed = Bbox.from_bounds(cx - box.width / 2, cy - box.height / 2, box.width, box.height)
                hidden = sum(_overlap(placed, other) for other in taken) + 10 * (
                    _size(placed) - _overlap(placed, frame)
                )
                if best is None or hidden + 60 * order < best[0]:
                    best = (hidden + 60 * order, cx, cy, placed)
        assert best is not None
        taken.append(best[3].padded(2 * scale))
        text.remove()
        shift = ((best[1] - x) / scale, (best[2] - y) / scale)
        colours = COLOURS[theme]
        line = {"arrowstyle": "-", "color": colours[GROUP_COLOURS[mark.group]], "lw": 0.7, "shrinkB": radius / scale}
        near = max(abs(shift[0]) - box.width / 2 / scale, abs(shift[1]) - box.height / 2 / scale) < radius / scale + 10
        axes.annotate(
            _label(mark),
            _at(mark),
            xytext=shift,
            fontsize=8,
            textcoords="offset points",
            ha="center",
            va="center",
            zorder=5,
            color=colours["ink"],
            fontstyle=style,
            arrowprops=None if near else line,
            path_effects=[withStroke(linewidth=2.5, foreground=colours["paper"])],
        )


def _roof_points(chart: RooflineChart) -> list[tuple[float, float]]:
    """Places along the selected roof, close enough to each other to stand for the line."""
    (left, right), steps = chart.x_range, 200
    peak = next(roof.flops_per_s for roof in chart.roofs if roof.selected)
    places = [left * (right / left) ** (step / steps) for step in range(steps + 1)]
    return [(x, min(peak, x * chart.memory_bytes_per_s)) for x in places]


def _label(mark: Mark) -> str:
    return f"{mark.label} {percent(mark.share, 0)}" if mark.share >= 0.005 else mark.label


def _overlap(one: Any, other: Any) -> float:
    width = min(one.x1, other.x1) - max(one.x0, other.x0)
    height = min(one.y1, other.y1) - max(one.y0, other.y0)
    return float(max(0.0, width) * max(0.0, height))


def _size(box: Any) -> float:
    return float(box.width * box.height)


def _legend(groups: list[str], chart: RooflineChart, theme: Theme) -> list[Any]:
    from matplotlib.lines import Line2D

    colours = COLOURS[theme]

    def handle(label: str, **style: Any) -> Any:
        return Line2D([], [], linestyle="", label=label, **style)

    handles = [handle(GROUPS[key], marker="o", color=colours[GROUP_COLOURS[key]], markersize=7) for key in groups]
    muted = colours["muted"]
    handles.append(
        handle(
            "dense (area: share of time)",
            marker="o",
            markersize=8,
            markerfacecolor=_faded(muted),
            markeredgecolor=muted,
        )
    )
    if any(panel.arrows for panel in chart.panels):
        handles.append(handle("factored (names in italics)", marker="s", markersize=7, color=muted))
    return handles
