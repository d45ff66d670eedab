"""Figures of the report. No torch."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from costmodel.show.figure import COLOURS, Theme, axes_style, figure_bytes, new_figure
from validate.pages.markup import NARROW, Picture
from validate.speed.metrics import NULL_MODELS, STRATA, Evaluation, Predicted, measured, recorded_levels
from validate.speed.records import Sample

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LINES = ("blue", "orange", "green", "purple", "amber", "grey")
MARKERS = ("o", "s", "^", "D", "v", "P")
_SIZE = (4.6, 3.7)
_TALL = 4.6


def figures(evaluation: Evaluation, extra: dict[str, Predicted] | None = None) -> list[tuple[str, Picture]]:
    """Title and picture of each figure; none without measured samples."""
    samples, best = list(evaluation.samples), evaluation.level
    if not samples:
        return []
    levels = {**recorded_levels(samples), **(extra or {})}
    predicted = {} if best is None else levels[best]
    compared = [sample for sample in samples if sample.strata.form != "dense"]
    found = []
    if predicted and compared:
        picture = _picture(
            lambda axes, theme: _ratios(axes, theme, compared, predicted),
            f"Prediction: {best}. Bars: 95 % interval of the measurement. Below 1, the factored model is faster. The "
            'shaded corners are wrong answers to "faster than dense?".',
        )
        found.append(("Ratio to dense: predicted against measured", picture))
    if predicted:
        picture = _picture(
            lambda axes, theme: _latencies(axes, theme, samples, predicted),
            f"Prediction: {best}. Each sample gives two points, the configuration and dense.",
        )
        found.append(("Time of a pass: predicted against measured", picture))
    if compared:
        picture = _picture(
            lambda axes, theme: _shares(axes, theme, compared, levels, evaluation.noise.floor),
            "Error of the predicted ratio. Further left and up is better; the dotted line is the noise floor, which no "
            "prediction can beat.",
        )
        found.append(("Share of samples within an error", picture))
    if predicted and len(compared) > 1:
        picture = _picture(
            lambda axes, theme: _groups(axes, theme, compared, predicted),
            f"Error of the ratio predicted by {best}, each sample a point; above 0, predicted too slow. The bar is the "
            "median.",
            height=_TALL,
        )
        found.append(("Where the error is", picture))
    return found


def _picture(draw: Callable[[Axes, Theme], None], caption: str, height: float = _SIZE[1]) -> Picture:
    """What `draw` puts on empty axes."""

    def drawn(theme: Theme, narrow: bool) -> bytes:
        figure = new_figure(NARROW if narrow else _SIZE[0], height, theme)
        axes = figure.add_subplot()
        axes_style(axes, theme)
        draw(axes, theme)
        return figure_bytes(figure, "svg")

    return Picture.of(drawn, caption)


def _ratios(axes: Axes, theme: Theme, samples: Sequence[Sample], predicted: Predicted) -> None:
    colours = COLOURS[theme]
    drawn = [sample for sample in samples if sample.id in predicted]
    values = [measured(s).ratio for s in drawn] + [predicted[s.id][1] / predicted[s.id][0] for s in drawn]
    low, high = min(values) * 0.9, max(max(values), 1.0) * 1.12
    axes.fill_between([low, 1], 1, high, color=colours["orange"], alpha=0.10, linewidth=0)
    axes.fill_between([1, high], low, 1, color=colours["orange"], alpha=0.10, linewidth=0)
    axes.plot([low, high], [low, high], color=colours["ink"], linewidth=0.8)
    for value in (axes.axhline, axes.axvline):
        value(1.0, color=colours["ink"], linewidth=0.5, alpha=0.5)
    for index, phase in enumerate(sorted({str(s.workload["phase"]) for s in drawn})):
        group = [s for s in drawn if s.workload["phase"] == phase]
        xs = [predicted[s.id][1] / predicted[s.id][0] for s in group]
        ys = [measured(s).ratio for s in group]
        ends = [(measured(s).ratio_low, measured(s).ratio_high) for s in group]
        bars = [
            [y - max(lo, low / 2) for y, (lo, _) in zip(ys, ends, strict=True)],
            [min(hi, 2 * high) - y for y, (_, hi) in zip(ys, ends, strict=True)],
        ]
        look: dict[str, Any] = {"fmt": MARKERS[index], "color": colours[LINES[index]], "markersize": 4.5}
        axes.errorbar(xs, ys, yerr=bars, linewidth=0.9, label=phase, **look)
    _log_limits(axes, low, high)
    axes.set_xlabel("predicted time / dense time")
    axes.set_ylabel("measured time / dense time")
    _legend(axes, theme)


def _latencies(axes: Axes, theme: Theme, samples: Sequence[Sample], predicted: Predicted) -> None:
    colours = COLOURS[theme]
    drawn = [sample for sample in samples if sample.id in predicted]
    points = {
        "factored": [(predicted[s.id][1], measured(s).candidate.median_s) for s in drawn],
        "dense": [(predicted[s.id][0], measured(s).dense.median_s) for s in drawn],
    }
    flat = [value * 1e3 for pairs in points.values() for pair in pairs for value in pair]
    low, high = min(flat) * 0.7, max(flat) * 1.4
    axes.plot([low, high], [low, high], color=colours["ink"], linewidth=0.8)
    for index, (name, pairs) in enumerate(points.items()):
        colour = colours[LINES[index]]
        axes.plot(
            [1e3 * x for x, _ in pairs],
            [1e3 * y for _, y in pairs],
            MARKERS[index],
            color=colour,
            markersize=4.5,
            alpha=0.85,
            label=name,
            markerfacecolor="none" if name == "dense" else colour,
        )
    _log_limits(axes, low, high)
    axes.set_xlabel("predicted, ms")
    axes.set_ylabel("measured, ms")
    _legend(axes, theme)


def _shares(axes: Axes, theme: Theme, samples: Sequence[Sample], levels: dict[str, Predicted], floor: float) -> None:
    colours = COLOURS[theme]
    curves = {
        name: [pair[s.id][1] / pair[s.id][0] / measured(s).ratio - 1 for s in samples if s.id in pair]
        for name, pair in levels.items()
    }
    for name, part in NULL_MODELS.items():
        curves[name] = [(1 - part * (1 - s.strata.param_ratio)) / measured(s).ratio - 1 for s in samples]
    for index, (name, errors) in enumerate(curves.items()):
        xs = sorted(max(1e-3, abs(error)) * 100 for error in errors)
        ys = [100 * (place + 1) / len(xs) for place in range(len(xs))]
        style = "-" if name in levels else "--"
        colour = colours[LINES[index]]
        axes.step([xs[0], *xs], [0, *ys], where="post", color=colour, linestyle=style, linewidth=1.6, label=name)
    if floor > 0:
        axes.axvline(100 * floor, color=colours["ink"], linestyle=":", linewidth=1.2, label="noise floor")
    axes.set_xscale("log")
    _few_ticks(axes.xaxis)
    axes.set_ylim(0, 103)
    axes.set_xlabel("error of the ratio, %")
    axes.set_ylabel("share of samples, %")
    _legend(axes, theme, below=True)


def _groups(axes: Axes, theme: Theme, samples: Sequence[Sample], predicted: Predicted) -> None:
    colours = COLOURS[theme]
    rows: list[tuple[str, list[float]]] = []
    for stratum in ("phase", "batch", "rank class", "form"):
        of = STRATA[stratum]
        for name in sorted({of(s) for s in samples}, key=lambda text: (len(text), text)):
            label = {"batch": f"batch {name.strip()}", "rank class": f"rank {name}" if "mod" in name else "no rank"}
            errors = [
                100 * (predicted[s.id][1] / predicted[s.id][0] / measured(s).ratio - 1)
                for s in samples
                if of(s) == name and s.id in predicted
            ]
            rows.append((label.get(stratum, name.strip()), errors))
        rows.append(("", []))
    rows.pop()
    for place, (_, errors) in enumerate(reversed(rows)):
        if errors:
            places, middle = [place] * len(errors), median(errors)
            axes.plot(errors, places, "o", color=colours["blue"], alpha=0.75, markersize=4.5, markeredgewidth=0)
            axes.plot([middle] * 2, [place - 0.35, place + 0.35], color=colours["orange"], linewidth=2.2)
    axes.axvline(0, color=colours["ink"], linewidth=0.8)
    axes.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("error of the ratio, %")
    axes.grid(axis="y", visible=False)


def _log_limits(axes: Axes, low: float, high: float) -> None:
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high))
    _few_ticks(axes.xaxis)
    _few_ticks(axes.yaxis)


def _few_ticks(axis: Any) -> None:
    """Few labels, in plain numbers: 1, 2, 5 of each decade when there are few decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    decades = math.log10(max(high, 1e-12) / max(low, 1e-12))
    subs = (1.0,) if decades > 3 else (1.0, 2.0, 5.0) if decades > 0.9 else tuple(float(n) for n in range(1, 10))
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend(axes: Axes, theme: Theme, *, below: bool = False) -> None:
    """In the corner that points leave empty, or below the axes where curves leave none."""
    place: dict[str, Any] = {"loc": "lower right"}
    if below:
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16), "ncols": 2, "columnspacing": 1.2}
    legend = axes.legend(**place, fontsize=8.5, frameon=False, labelcolor=COLOURS[theme]["ink"], handletextpad=0.5)
    legend.set_zorder(5)
