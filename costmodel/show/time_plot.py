"""Where a pass spends its time, as stacked bars: dense over decomposed, a panel for each phase."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from costmodel.show.figure import (
    COLOURS,
    Theme,
    any_letters,
    axes_style,
    figure_bytes,
    file_kind,
    head,
    ink_on,
    new_figure,
)
from costmodel.show.report import configuration_text, phase_title
from costmodel.show.roofline_chart import GROUPS, group_of
from costmodel.show.roofline_plot import GROUP_COLOURS
from costmodel.units import percent, seconds

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from costmodel.pricing.estimate import Estimate
    from costmodel.pricing.phase_estimate import PhaseEstimate

_SMALL = 0.01
"""Roles of a class that take less than this share of the longest bar become one segment."""
_WIDTH = 10.0
_BAR = 0.7
_BORDER = 8
"""Pixels of a segment beside and above its name, both sides together."""
_LETTERS = 115
"""Of a panel's title in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A part of a bar: what is added up under one role, and its time on the device."""

    role: str
    group: str
    latency_s: float


def segments(phase: PhaseEstimate, which: Literal["dense", "decomposed"], least_s: float = 0.0) -> list[Segment]:
    """The device's time of a pass, of all its microbatches, by role: class by class in the order of GROUPS and by
    execution within each.

    Args:
        least_s: roles of a class that take less become one segment, called after the class.
    """
    (ops, timings), many = phase.ops(which), phase.workload.microbatches
    spent: dict[tuple[str, str], float] = {}
    for op, latency_s in zip(ops, timings.latency_s.tolist(), strict=True):
        key = (group_of(op, phase.pricer.model), op.role)
        spent[key] = spent.get(key, 0.0) + many * latency_s
    parts = []
    for group in GROUPS:
        own = {role: latency_s for (name, role), latency_s in spent.items() if name == group}
        small = [role for role, latency_s in own.items() if latency_s < least_s]
        if len(small) > 1:
            own = {role: value for role, value in own.items() if role not in small} | {
                "other": sum(own[role] for role in small)
            }
        parts += [Segment(role=role, group=group, latency_s=value) for role, value in own.items() if value > 0]
    return parts


def time_plot(result: Estimate, path: Path, theme: Theme = "light") -> bytes:
    """The figure as the file's kind.

    Raises:
        InputError: when the file is no PNG or SVG, or matplotlib is not installed.
    """
    kind = file_kind(path)
    return figure_bytes(time_figure(result, theme), kind)


def time_figure(result: Estimate, theme: Theme = "light") -> Figure:
    """Draw an estimate's time on the device, dense over decomposed; where launching takes longer, that as a line.

    Raises:
        InputError: when matplotlib is not installed.
    """
    plain = not result.decomposition.factors and not result.decomposition.dropped
    count, bars = len(result.phases), 1 if plain else 2
    figure = new_figure(_WIDTH, 0.95 + count * (1.05 + 0.62 * bars), theme)
    configuration = configuration_text(result.decomposition, result.model)
    title = f"{result.model.name} on {result.hardware.name}: where the time goes\n{configuration}"
    head(figure, title, theme)
    used: set[str] = set()
    grid = figure.subplots(count, 1, squeeze=False)[:, 0]
    with any_letters():
        for axes, phase in zip(grid, result.phases, strict=True):
            used |= _panel(axes, phase, plain, theme)
        figure.legend(
            handles=_legend([key for key in GROUPS if key in used], theme),
            loc="outside lower center",
            ncols=5,
            frameon=False,
            fontsize=8.5,
            labelcolor=COLOURS[theme]["ink"],
        )
        figure.draw_without_rendering()
        for axes in grid:
            _name_segments(axes)
    return figure


def _panel(axes: Any, phase: PhaseEstimate, plain: bool, theme: Theme) -> set[str]:
    from matplotlib.ticker import EngFormatter

    colours = COLOURS[theme]
    axes_style(axes, theme)
    longest = max(phase.dense.device_s, phase.decomposed.device_s)
    rows: list[tuple[str, Any, list[Segment]]] = [("dense", phase.dense, segments(phase, "dense", _SMALL * longest))]
    if not plain:
        rows.append(("factored", phase.decomposed, segments(phase, "decomposed", _SMALL * longest)))
    for height, (_, costs, parts) in enumerate(reversed(rows)):
        start = 0.0
        for number, part in enumerate(parts):
            within = sum(other.group == part.group for other in parts[:number])
            colour = _shade(colours[GROUP_COLOURS[part.group]], within % 2, theme)
            bar = axes.barh(
                height, part.latency_s, _BAR, left=start, color=colour, edgecolor=colours["paper"], linewidth=0.8
            )
            bar[0].set_gid(part.role)
            start += part.latency_s
        text = seconds(costs.latency_s, 3)
        if phase.workload.pp > 1:
            text = f"{seconds(costs.device_s, 3)} in all,\n{text} latency"
        if costs.host_s > costs.device_s:
            axes.plot([costs.host_s] * 2, [height - 0.42, height + 0.42], color=colours["ink"], lw=2)
            text = f"{seconds(costs.host_s, 3)} to launch"
        axes.annotate(
            text,
            (max(costs.latency_s, costs.device_s), height),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=colours["ink"],
        )
    widest = max(max(costs.latency_s, costs.device_s) for _, costs, _ in rows)
    axes.set_xlim(0, widest * 1.16)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in reversed(rows)])
    axes.tick_params(axis="y", length=0, labelsize=10, labelcolor=colours["ink"])
    axes.grid(False, axis="y")
    axes.xaxis.set_major_formatter(EngFormatter(unit="s"))
    saved = phase.saved["latency_pct"]
    verdict = "" if plain or saved is None else f"; latency saved: {percent(saved / 100)}"
    title = textwrap.fill(f"{phase_title(phase)}{verdict}", _LETTERS)
    axes.set_title(title, fontsize=9, loc="left", color=colours["ink"])
    return {part.group for _, _, parts in rows for part in parts}


def _shade(colour: str, odd: int, theme: Theme) -> str:
    """Neighbours of one class in two shades."""
    from matplotlib.colors import to_hex, to_rgb

    toward = 1.0 if theme == "light" else 0.0
    red, green, blue = (value + (toward - value) * (0.22 if odd else 0.0) for value in to_rgb(colour))
    return to_hex((red, green, blue))


def _name_segments(axes: Any) -> None:
    """Write each role into its segment where there is room for it, upright or on its side."""
    renderer = axes.figure.canvas.get_renderer()
    for bar in axes.patches:
        box = bar.get_window_extent(renderer)
        ink = ink_on(bar.get_facecolor())
        at = (bar.get_x() + bar.get_width() / 2, bar.get_y() + bar.get_height() / 2)
        role = bar.get_gid()
        short = role.removeprefix("experts.")
        for name, rotation, size_pt in ((role, 0, 7.5), (short, 0, 7.5), (short, 90, 7.5), (short, 90, 6.5)):
            text = axes.text(*at, name, ha="center", va="center", fontsize=size_pt, color=ink, rotation=rotation)
            size = text.get_window_extent(renderer)
            if size.width + _BORDER <= box.width and size.height + _BORDER <= box.height:
                break
            text.remove()


def _legend(groups: Sequence[str], theme: Theme) -> list[Any]:
    from matplotlib.patches import Patch

    return [Patch(color=COLOURS[theme][GROUP_COLOURS[key]], label=GROUPS[key]) for key in groups]
