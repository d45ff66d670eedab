"""The figures of a loop: predicted and measured frontier beside baselines, and the duels. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from costmodel.show.figure import COLOURS, Theme, axes_style, figure_bytes, new_figure, plain_ticks
from validate.choose.baselines import RULES
from validate.choose.duels import SIZE, Duel, cost, own_axis
from validate.choose.refit import Moved
from validate.choose.results import Result, Results
from validate.choose.search import DROPPING, HOMOGENEOUS, SITES
from validate.choose.verdict import Verdict
from validate.interval import Interval
from validate.pages.axes import apart, bars
from validate.pages.markup import NARROW

_CURVES = {HOMOGENEOUS: ("purple", (0, (4, 2))), SITES: ("blue", "-"), DROPPING: ("orange", "-")}
_MARKERS = {"random": "x", "paper": "s", "uniform": "D", "late": "v", "block": "^", "greedy": "P", "recipe": "*"}
_LINEAR = 0.01
"""Nats per token below which the axis of changes is linear, so that zero has a place."""
_POSITIVE = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_TICKS = (*(-tick for tick in _POSITIVE), 0.0, *_POSITIVE)


def trade_off(
    verdict: Verdict, axis: str, moved: Moved | None, theme: Theme = "light", *, narrow: bool = False
) -> bytes:
    """Change of NLL against one cost relative to dense, as SVG.

    Lines are predicted; filled points are measured, tied to where they were predicted; baselines are open; a ring is
    around the choice.

    Args:
        verdict: what was measured, chosen, and how far predictions are to be corrected.
        axis: size, or a phase.
        moved: the second fit, drawn dotted.
        narrow: for a narrow screen.
    """
    colours, results, choice = COLOURS[theme], verdict.results, verdict.choice
    factor = 1.0 if verdict.optimism is None else verdict.optimism.factor.value
    figure = new_figure(*((NARROW, 7.0) if narrow else (8.6, 6.4)), theme)
    axes = figure.add_subplot()
    axes_style(axes, theme)
    objective = "params" if axis == SIZE else f"{axis}.latency_s"
    dense = float(results.plan.dense_params) if axis == SIZE else results.plan.dense[axis]
    for curve in results.plan.curves:
        if curve.objective == objective:
            colour, style = colours[_CURVES[curve.space][0]], _CURVES[curve.space][1]
            xs = [value / dense for value in curve.costs]
            axes.plot(
                xs, curve.qualities, color=colour, linestyle=style, linewidth=1.4, label=f"predicted, {curve.space}"
            )
            if curve.space == SITES:  # the factor is of points without dropped layers
                axes.plot(
                    xs,
                    [factor * value for value in curve.qualities],
                    color=colours["muted"],
                    linewidth=1.1,
                    linestyle=(0, (5, 3)),
                    label="the latter, corrected",
                )
    for curve in moved.curves if moved is not None else ():
        if curve.objective == objective and curve.space == _widest(results):
            axes.plot(
                [value / dense for value in curve.costs],
                curve.qualities,
                color=colours["ink"],
                linewidth=1.0,
                linestyle=":",
                label="predicted again after refitting",
            )
    for each in (result for result in results.points if result.is_ours):
        _draw_ours(axes, each, axis, dense, colours)
    for size, name in ((5.5, "measured, spread over a frontier"), (3.2, "measured, at a baseline's cost")):
        axes.plot([], [], "o", color=colours["muted"], markersize=size, label=name)
    for rule, marker in _MARKERS.items():
        group = [each for each in results.baselines if each.point.rule == rule and cost(each, axis) < float("inf")]
        if group:
            _draw(axes, group, axis, dense, fmt=marker, color=colours["ink"], mfc="none", label=RULES[rule])
    if choice is not None and cost(choice, axis) < float("inf"):
        place = cost(choice, axis) / (dense if axis == SIZE else 1)
        look: dict[str, Any] = {"color": colours["green"], "mfc": "none", "mew": 1.8, "markersize": 13, "zorder": 6}
        axes.plot([place], [choice.change.value], "o", label="the choice", **look)
    axes.axhline(0, color=colours["muted"], linewidth=0.8)
    axes.plot([1], [0], marker="*", markersize=11, color=colours["ink"], linestyle="none", label="dense", zorder=5)
    places = [cost(each, axis) / (dense if axis == SIZE else 1) for each in results.points]
    finite = [place for place in places if place < float("inf")] or [1.0]
    axes.set_xlim(min([*finite, 0.95]) - 0.04, min(max([*finite, 1.0]), 2.0) + 0.04)
    _change_axis(axes.yaxis, [each.change for each in results.points], narrow)
    axes.set_xlabel("parameters / dense" if axis == SIZE else f"{axis} latency / dense, measured for points")
    axes.set_ylabel("increase of NLL, nats per token")
    legend = figure.legend(
        loc="outside lower center", ncols=1 if narrow else 3, fontsize=8, frameon=False, labelcolor=colours["ink"]
    )
    legend.set_zorder(5)
    return figure_bytes(figure, "svg")


def duel_plot(found: Sequence[Duel], axis: str, theme: Theme = "light", *, narrow: bool = False) -> bytes:
    """The difference of every duel at one equal cost with its interval, by rule, as SVG; `narrow` for such a screen."""
    colours = COLOURS[theme]
    fought = [duel for duel in found if duel.axis == axis and duel.outcome not in ("none", "same")]
    figure = new_figure(NARROW if narrow else 8.6, 1.3 + 0.235 * len(fought), theme)
    axes = figure.add_subplot()
    axes_style(axes, theme)
    tints = {
        "better": colours["green"],
        "level": colours["muted"],
        "worse": colours["orange"],
        "dense": colours["blue"],
    }
    labels = []
    for place, duel in enumerate(reversed(fought)):
        assert duel.difference is not None
        axes.errorbar(
            duel.difference.value,
            place,
            xerr=bars([duel.difference]),
            fmt="o",
            markersize=4.5,
            color=tints[duel.outcome],
            linewidth=1.3,
        )
        label = duel.baseline.point.label
        if narrow:  # what all of a rule share
            label = label.removeprefix("rank 1 in ").removesuffix(" of break-even")
        labels.append(f"{duel.baseline.point.rule}: {_short(label, 16 if narrow else 44)}")
    axes.axvline(0, color=colours["ink"], linewidth=0.9)
    axes.set_yticks(range(len(labels)), labels, fontsize=8)
    axes.set_ylim(-0.7, len(labels) - 0.3)
    differences = [duel.difference for duel in fought if duel.difference is not None]
    _change_axis(axes.xaxis, differences, narrow)
    space = "\n" if narrow else " "
    axes.set_xlabel(f"NLL of ours minus the baseline's,{space}nats per token: left of 0{space}ours is better")
    return figure_bytes(figure, "svg")


def optimism_plot(results: Results, theme: Theme = "light", *, narrow: bool = False) -> bytes:
    """Measured against predicted change of NLL of all that has a prediction, as SVG; `narrow` for such a screen."""
    colours = COLOURS[theme]
    figure = new_figure(*((NARROW, 4.6) if narrow else (6.2, 5.2)), theme)
    axes = figure.add_subplot()
    axes_style(axes, theme)
    groups = {
        "chosen, spread over frontiers": ("blue", "o", "frontier"),
        "chosen at a baseline's cost": ("amber", "o", "match"),
        "baselines in the space": ("grey", "x", "baseline"),
    }
    values: list[Interval] = []
    for label, (colour, marker, role) in groups.items():
        group = [each for each in results.points if each.point.role == role and each.point.quality is not None]
        if group:
            changes = [each.change for each in group]
            xs = [float(each.point.quality or 0.0) for each in group]
            values += [*changes, *(Interval(x, x, x) for x in xs)]
            axes.errorbar(
                xs,
                [each.value for each in changes],
                yerr=bars(changes),
                fmt=marker,
                markersize=4.5,
                color=colours[colour],
                linewidth=0.9,
                label=label,
            )
    for axis in (axes.xaxis, axes.yaxis):
        _change_axis(axis, values or [Interval(0.0, 0.0, 0.0)], narrow)
    axes.plot([-1, 20], [-1, 20], color=colours["ink"], linewidth=0.8, scalex=False, scaley=False)
    axes.set_xlabel("predicted increase of NLL, nats per token")
    axes.set_ylabel("measured on the other half")
    if values:
        figure.legend(
            loc="outside upper center", ncols=1 if narrow else 3, fontsize=8, frameon=False, labelcolor=colours["ink"]
        )
    return figure_bytes(figure, "svg")


def _widest(results: Results) -> str:
    spaces = {curve.space for curve in results.plan.curves}
    return DROPPING if DROPPING in spaces else SITES


def _draw_ours(axes: Any, each: Result, axis: str, dense: float, colours: Mapping[str, str]) -> None:
    """A point found by the search; where it was chosen for this cost, with a line from where it was predicted."""
    if cost(each, axis) == float("inf"):
        return
    colour, chosen = colours[_CURVES[each.point.rule][0]], each.point.role == "frontier"
    guess = (each.point.params if axis == SIZE else each.point.costs[axis]) / dense
    x = cost(each, axis) / (dense if axis == SIZE else 1)
    if chosen and each.point.quality is not None and own_axis(each) == axis:
        axes.plot([guess, x], [each.point.quality, each.change.value], color=colour, linewidth=0.8, alpha=0.55)
    _draw(
        axes,
        [each],
        axis,
        dense,
        fmt="o",
        color=colour,
        markersize=5.5 if chosen else 3.2,
        alpha=1.0 if chosen else 0.6,
    )


def _draw(axes: Any, group: Sequence[Result], axis: str, dense: float, **look: Any) -> None:
    scale = dense if axis == SIZE else 1.0
    xs, changes = [cost(each, axis) / scale for each in group], [each.change for each in group]
    sides = None
    if axis != SIZE:
        times = [each.timings[axis] for each in group]
        sides = [
            [each.ratio - each.ratio_low for each in times],
            [min(each.ratio_high, 9.0 + each.ratio) - each.ratio for each in times],
        ]
    axes.errorbar(
        xs,
        [each.value for each in changes],
        yerr=bars(changes),
        linestyle="none",
        **{"markersize": 5, "linewidth": 0.8, "zorder": 3, **look},
    )
    if sides is not None:  # many cross: faint, so that points stay readable
        axes.errorbar(
            xs,
            [each.value for each in changes],
            xerr=sides,
            fmt="none",
            ecolor=look["color"],
            elinewidth=0.7,
            alpha=0.3,
            zorder=2,
        )


def _change_axis(axis: Any, values: Sequence[Interval], narrow: bool) -> None:
    """Logarithmic but near zero, with few plain numbers."""
    ends = [end for each in values for end in (each.value, each.low, each.high) if end is not None]
    low, high = min([*ends, 0.0]), max([*ends, 0.03])
    low, high = 1.2 * low - 0.002, 1.25 * high
    name = axis.axis_name
    getattr(axis.axes, f"set_{name}scale")("symlog", linthresh=_LINEAR, linscale=0.6)
    getattr(axis.axes, f"set_{name}lim")(low, high)
    plain_ticks(axis, apart(axis, _TICKS, narrow=narrow))


def _short(label: str, most: int) -> str:
    """A label of so many characters at most, cut in its middle: ends tell labels of one rule apart."""
    half = (most - 3) // 2
    return label if len(label) <= most else f"{label[: most - 3 - half]}...{label[-half:]}"
