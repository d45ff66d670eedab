"""Answers side by side as bars: what is left of each row's dense cost, with the 90 % interval of the saving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from costmodel.show.comparison import Table, estimates_table, saving_text
from costmodel.show.figure import COLOURS, Theme, any_letters, axes_style, drawn, head, new_figure
from costmodel.show.recommendation import recommendations_table
from costmodel.show.report import amount, duration

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from costmodel.explore.recommendation import Recommendation
    from costmodel.pricing.estimate import Estimate
    from costmodel.pricing.phase_estimate import PhaseEstimate

_WIDTH, _ROW, _LOW_ROW, _REST = 10.0, 0.62, 0.38, 1.5
"""Inches: of the figure, of a row of bars, of one of a dot, of what stands above and below."""
_THICK, _OFF = 0.34, 0.19
"""Of a bar, and of its middle from the row's, in rows."""
_BEYOND = 200.0
"""Bars and intervals end here, in percent of dense: an arrow stands where there is more."""
_STEP = 25
"""Percent between ticks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareRow:
    """One row: costs in percent of its dense cost.

    Attributes:
        name: which row it is.
        dense: its dense cost in words.
        left: what the configuration leaves, and the ends of its interval; None where there is none.
        text: what is said of it.
        good: whether it is what was asked for.
        goal: what may be left at most, None where nothing was asked for.
        least: the least that any configuration leaves, where none is shown.
    """

    name: str
    dense: str
    left: float | None
    low: float | None
    high: float | None
    text: str
    good: bool
    goal: float | None = None
    least: float | None = None


def comparison_figure(results: Sequence[Estimate], theme: Theme = "light") -> Figure:
    """Estimates of one configuration: latency left of each row's dense one; of the dense model alone, latencies.

    Raises:
        InputError: when matplotlib is not installed.
    """
    cells = estimates_table(results)
    phases = [phase for result in results for phase in result.phases]
    names = _names(cells)
    first = results[0].decomposition
    if not first.factors and not first.dropped:
        return _latencies(cells.title, names, phases, theme)
    rows = [_of_estimate(name, phase) for name, phase in zip(names, phases, strict=True)]
    return _shares(cells.title, rows, "latency, percent of dense", theme)


def recommendations_figure(rows: Sequence[Recommendation], theme: Theme = "light") -> Figure:
    """Recommendations: what each leaves of the cost that the goal is about, beside the goal.

    Raises:
        InputError: when matplotlib is not installed.
    """
    cells = recommendations_table(rows)
    what = {"faster": "latency", "smaller": "bytes of weights", "fits": "peak memory"}[rows[0].goal.kind]
    shares = [_of_recommendation(name, row) for name, row in zip(_names(cells), rows, strict=True)]
    return _shares(cells.title, shares, f"{what}, percent of dense", theme)


def _names(cells: Table) -> list[str]:
    """A row's name: the cells that tell it from the others, numbers with what they count."""
    return [
        ", ".join(
            f"batch {cell}" if column == "batch" else f"{cell} {column}" if column in ("devices", "tokens") else cell
            for column, cell in zip(cells.columns[: cells.left], row, strict=False)
        )
        for row in cells.rows
    ]


def _of_estimate(name: str, phase: PhaseEstimate) -> ShareRow:
    saved = phase.saved
    middle, low, high = (saved[key] for key in ("latency_pct", "latency_p05_pct", "latency_p95_pct"))
    text = f"{duration(phase.decomposed.latency_s)}, {_saves(middle, low, high)}"
    if phase.verdict.code == "does-not-fit":
        text += ", does not fit"
    return ShareRow(
        name=name,
        dense=duration(phase.dense.latency_s),
        left=None if middle is None else 100 - middle,
        low=None if high is None else 100 - high,
        high=None if low is None else 100 - low,
        text=text,
        good=phase.verdict.code == "gain",
    )


def _of_recommendation(name: str, row: Recommendation) -> ShareRow:
    value = float(getattr(row.dense, row.goal.metric))
    goal = 100 - row.goal.least_pct(value)
    yes, saved = row.verdict.code == "yes", row.saved_pct
    nothing = saved is None or not (row.config and (row.config.factors or row.config.dropped))
    if yes and nothing:
        text = "yes: dense does"
    elif yes:
        text = f"yes: {_saves(saved, row.saved_p05_pct, row.saved_p95_pct)}"
    else:
        text = (
            f"no: {row.verdict.reason}, {f'at most {row.most_saved_pct:.1f} %' if row.most_saved_pct > 0 else 'none'}"
        )
    low, high = row.saved_p05_pct, row.saved_p95_pct
    return ShareRow(
        name=name,
        dense=duration(value) if row.goal.kind == "faster" else amount(value, "B"),
        left=None if saved is None else 100 - saved,
        low=None if high is None else 100 - high,
        high=None if low is None else 100 - low,
        text=text,
        good=yes,
        goal=goal if goal < 100 else None,
        least=100 - max(0.0, row.most_saved_pct) if saved is None else None,
    )


def _saves(saved: float | None, low: float | None, high: float | None) -> str:
    """A saving with its interval in words; a loss is what more it takes."""
    if saved is not None and saved < 0:
        more, ends = saving_text(-saved, None if high is None else -high, None if low is None else -low)
        words = f"takes {more} more"
    else:
        more, ends = saving_text(saved, low, high)
        words = f"saves {more}"
    return words if low is None or low == high else f"{words} ({ends})"


def _shares(title: str, rows: Sequence[ShareRow], label: str, theme: Theme) -> Figure:
    """Two bars a row, dense above what is left, from the top down."""
    colours = COLOURS[theme]
    figure, axes = _axes(title, [row.name for row in rows], _ROW, theme)
    reach = 100.0
    for place, row in enumerate(reversed(rows)):
        axes.barh(place + _OFF, 100, _THICK, color=colours["grid"])
        _write(axes, row.dense, 0, place + _OFF, colours["ink"], inside=True)
        at = 0.0
        if row.left is not None:
            at = min(row.left, _BEYOND)
            colour = colours["blue"] if row.good else colours["grey"]
            axes.barh(place - _OFF, at, _THICK, color=colour)
        elif row.least is not None:
            at = row.least
            axes.barh(
                place - _OFF, at, _THICK, facecolor="none", edgecolor=colours["muted"], linewidth=0.9, linestyle="--"
            )
        if row.low is not None and row.high is not None and row.low < row.high:
            low, high = (min(max(end, 0.0), _BEYOND) for end in (row.low, row.high))
            axes.plot([low, high], [place - _OFF] * 2, color=colours["ink"], lw=1.3, solid_capstyle="butt")
            for end, given in ((low, row.low), (high, row.high)):
                axes.plot([end], [place - _OFF], color=colours["ink"], marker="|" if end == given else ">", ms=6)
            at = max(at, high)
        if row.goal is not None:
            axes.plot([row.goal] * 2, [place - 0.44, place + 0.44], color=colours["orange"], lw=1.8)
            at = max(at, row.goal)
        reach = max(reach, at)
        _write(axes, row.text, at, place - _OFF, colours["ink"])
    axes.set_xlim(0, reach)
    axes.set_xticks(range(0, int(reach) + 1, _STEP))
    axes.set_xlabel(label, fontsize=9, loc="left")
    _legend(figure, rows, theme)
    _make_room(figure, axes)
    return figure


def _latencies(title: str, names: Sequence[str], phases: Sequence[PhaseEstimate], theme: Theme) -> Figure:
    """A dot a row on a logarithmic scale, since devices and batches lie far apart, with its 90 % interval."""
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    colours = COLOURS[theme]
    figure, axes = _axes(title, names, _LOW_ROW, theme)
    axes.set_xscale("log")
    ends = []
    for place, phase in enumerate(reversed(phases)):
        costs = phase.dense
        low, high = costs.latency_p05_s or costs.latency_s, costs.latency_p95_s or costs.latency_s
        colour = colours["blue"] if costs.fits else colours["grey"]
        axes.plot([low, high], [place] * 2, color=colour, lw=2)
        axes.plot([costs.latency_s], [place], color=colour, marker="o", ms=6)
        text = duration(costs.latency_s) + ("" if costs.fits else ", does not fit")
        _write(axes, text, high, place, colours["ink"])
        ends += [low, high]
    axes.set_xlim(min(ends) / 1.3, max(ends) * 1.3)
    axes.set_xlabel("latency, with the 90 % interval where there is one", fontsize=9, loc="left")
    far = max(ends) > 50 * min(ends)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0,) if far else (1.0, 2.0, 5.0)))
    axes.xaxis.set_major_formatter(EngFormatter(unit="s"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _make_room(figure, axes)
    return figure


def _axes(title: str, names: Sequence[str], height: float, theme: Theme) -> tuple[Figure, Any]:
    colours = COLOURS[theme]
    figure = new_figure(_WIDTH, _REST + height * len(names), theme)
    head(figure, title, theme)
    axes = figure.subplots()
    axes_style(axes, theme)
    axes.grid(False, axis="y")
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_yticks(range(len(names)), [drawn(name) for name in reversed(names)])
    axes.tick_params(axis="y", length=0, labelsize=9, labelcolor=colours["ink"])
    return figure, axes


def _write(axes: Any, text: str, at: float, place: float, colour: str, *, inside: bool = False) -> None:
    label = axes.annotate(
        drawn(text),
        (at, place),
        xytext=(6, 0),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=colour,
        bbox=None if inside else {"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 1},
    )
    label.set_gid("inside" if inside else "beside")


def _legend(figure: Figure, rows: Sequence[ShareRow], theme: Theme) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    colours = COLOURS[theme]
    goal = any(row.goal is not None for row in rows)
    asked = "recommended" if goal else "factored, a gain"
    handles: list[Any] = [Patch(color=colours["grid"], label="dense")]
    if any(row.good and row.left is not None for row in rows):
        handles.append(Patch(color=colours["blue"], label=asked))
    if any(not row.good and row.left is not None for row in rows):
        handles.append(Patch(color=colours["grey"], label="factored, not enough" if goal else "factored, no gain"))
    if any(row.least is not None for row in rows):
        handles.append(
            Patch(
                facecolor="none", edgecolor=colours["muted"], ls="--", label="the least that any configuration leaves"
            )
        )
    if any(row.low is not None and row.low != row.high for row in rows):
        handles.append(Line2D([], [], color=colours["ink"], marker="|", lw=1.3, label="90 % interval of the saving"))
    if goal:
        handles.append(Line2D([], [], color=colours["orange"], lw=1.8, label="goal"))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=8.5,
        labelcolor=colours["ink"],
    )


def _make_room(figure: Figure, axes: Any) -> None:
    """Move the axis' end until the texts beside bars lie within the axes."""
    with any_letters():
        for _ in range(4):
            figure.draw_without_rendering()
            renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
            frame = axes.get_window_extent(renderer)
            over = max(text.get_window_extent(renderer).x1 for text in axes.texts) - frame.x1
            if over <= 0:
                return
            low = axes.get_xlim()[0]
            inverse = axes.transData.inverted()
            axes.set_xlim(low, float(inverse.transform((frame.x1 + over * 1.25 + 4, 0))[0]))
