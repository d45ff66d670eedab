"""Figures of the report as SVG text that takes its ink colour from the page. No torch."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from typing import Any

from validate.speed.metrics import NULL_MODELS, Evaluation, Predicted, measured, recorded_levels
from validate.speed.records import Sample

INK = "#010203"
"""Stands for the page's text colour, which replaces it in the SVG."""
COLOURS = ("#2f7ed8", "#d9730d", "#1f9d72", "#b0459c", "#8a6d1d", "#6f6ad6")
"""Readable on white and on near-black."""
MARKERS = ("o", "s", "^", "D", "v", "P")
_SIZE = (4.6, 3.7)


def figures(evaluation: Evaluation, extra: dict[str, Predicted] | None = None) -> list[tuple[str, str, str]]:
    """Title, caption and SVG of each figure; none without measured samples."""
    samples = list(evaluation.samples)
    if not samples:
        return []
    levels = {**recorded_levels(samples), **(extra or {})}
    best = evaluation.level
    found = []
    compared = [sample for sample in samples if sample.strata.form != "dense"]
    if best is not None:
        predicted = levels[best]
        if compared:
            found.append(
                (
                    "Ratio to dense: predicted against measured",
                    f"Prediction: {best}. Bars: 95 % interval of the measurement. Below 1, the factored model is "
                    'faster. The shaded corners are wrong answers to "faster than dense?".',
                    _ratio_figure(compared, predicted),
                )
            )
        found.append(
            (
                "Time of a pass: predicted against measured",
                f"Prediction: {best}. Each sample gives two points, the configuration and dense.",
                _latency_figure(samples, predicted),
            )
        )
    if compared:
        found.append(
            (
                "Share of samples within an error",
                "Error of the predicted ratio. Further left and up is better; the dotted line is the noise floor, "
                "which no prediction can beat.",
                _cdf_figure(compared, levels, evaluation.noise.floor),
            )
        )
        if best is not None and len(compared) > 1:
            found.append(
                (
                    "Where the error is",
                    f"Error of the ratio predicted by {best}, each sample a point; above 0, predicted too slow. The "
                    "bar is the median.",
                    _group_figure(compared, levels[best]),
                )
            )
    return found


def _ratio_figure(samples: Sequence[Sample], predicted: Predicted) -> str:
    figure, axes = _axes()
    drawn = [sample for sample in samples if sample.id in predicted]
    values = [measured(s).ratio for s in drawn] + [predicted[s.id][1] / predicted[s.id][0] for s in drawn]
    low, high = min(values) * 0.9, max(max(values), 1.0) * 1.12
    axes.fill_between([low, 1], 1, high, color=COLOURS[1], alpha=0.10, linewidth=0)
    axes.fill_between([1, high], low, 1, color=COLOURS[1], alpha=0.10, linewidth=0)
    axes.plot([low, high], [low, high], color=INK, linewidth=0.8)
    for value in (axes.axhline, axes.axvline):
        value(1.0, color=INK, linewidth=0.5, alpha=0.5)
    for index, phase in enumerate(sorted({str(s.workload["phase"]) for s in drawn})):
        group = [s for s in drawn if s.workload["phase"] == phase]
        xs = [predicted[s.id][1] / predicted[s.id][0] for s in group]
        ys = [measured(s).ratio for s in group]
        ends = [(measured(s).ratio_low, measured(s).ratio_high) for s in group]
        bars = [
            [y - max(lo, low / 2) for y, (lo, _) in zip(ys, ends, strict=True)],
            [min(hi, 2 * high) - y for y, (_, hi) in zip(ys, ends, strict=True)],
        ]
        axes.errorbar(
            xs, ys, yerr=bars, fmt=MARKERS[index], color=COLOURS[index], markersize=4.5, linewidth=0.9, label=phase
        )
    _log_limits(axes, low, high)
    axes.set_xlabel("predicted time / dense time")
    axes.set_ylabel("measured time / dense time")
    _legend(axes, "lower right")
    return _svg(figure)


def _latency_figure(samples: Sequence[Sample], predicted: Predicted) -> str:
    figure, axes = _axes()
    drawn = [sample for sample in samples if sample.id in predicted]
    points = {
        "factored": [(predicted[s.id][1], measured(s).candidate.median_s) for s in drawn],
        "dense": [(predicted[s.id][0], measured(s).dense.median_s) for s in drawn],
    }
    flat = [value * 1e3 for pairs in points.values() for pair in pairs for value in pair]
    low, high = min(flat) * 0.7, max(flat) * 1.4
    axes.plot([low, high], [low, high], color=INK, linewidth=0.8)
    for index, (name, pairs) in enumerate(points.items()):
        face = COLOURS[index] if index == 0 else "none"
        axes.plot(
            [1e3 * x for x, _ in pairs],
            [1e3 * y for _, y in pairs],
            MARKERS[index],
            color=COLOURS[index],
            markersize=4.5,
            alpha=0.85,
            label=name,
            markerfacecolor=face,
        )
    _log_limits(axes, low, high)
    axes.set_xlabel("predicted, ms")
    axes.set_ylabel("measured, ms")
    _legend(axes, "lower right")
    return _svg(figure)


def _cdf_figure(samples: Sequence[Sample], levels: dict[str, Predicted], floor: float) -> str:
    figure, axes = _axes()
    curves = {
        name: [
            pair[name_id][1] / pair[name_id][0] / measured(s).ratio - 1 for s in samples if (name_id := s.id) in pair
        ]
        for name, pair in levels.items()
    }
    for name, part in NULL_MODELS.items():
        curves[name] = [(1 - part * (1 - s.strata.param_ratio)) / measured(s).ratio - 1 for s in samples]
    for index, (name, errors) in enumerate(curves.items()):
        xs = sorted(max(1e-3, abs(error)) * 100 for error in errors)
        ys = [100 * (place + 1) / len(xs) for place in range(len(xs))]
        style = "-" if name in levels else "--"
        axes.step(
            [xs[0], *xs], [0, *ys], where="post", color=COLOURS[index], linestyle=style, linewidth=1.6, label=name
        )
    if floor > 0:
        axes.axvline(100 * floor, color=INK, linestyle=":", linewidth=1.2, label="noise floor")
    axes.set_xscale("log")
    _plain_ticks(axes.xaxis)
    axes.set_ylim(0, 103)
    axes.set_xlabel("error of the ratio, %")
    axes.set_ylabel("share of samples, %")
    _legend(axes, "lower right")
    return _svg(figure)


def _group_figure(samples: Sequence[Sample], predicted: Predicted) -> str:
    from validate.speed.metrics import STRATA

    figure, axes = _axes(height=4.6)
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
            middle = sorted(errors)[len(errors) // 2] if len(errors) % 2 else _middle(errors)
            axes.plot(
                errors, [place] * len(errors), "o", color=COLOURS[0], alpha=0.75, markersize=4.5, markeredgewidth=0
            )
            axes.plot([middle] * 2, [place - 0.35, place + 0.35], color=COLOURS[1], linewidth=2.2)
    axes.axvline(0, color=INK, linewidth=0.8)
    axes.set_yticks(range(len(rows)), [name for name, _ in reversed(rows)])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("error of the ratio, %")
    axes.grid(axis="y", visible=False)
    return _svg(figure)


def _middle(values: Sequence[float]) -> float:
    order = sorted(values)
    return (order[len(order) // 2 - 1] + order[len(order) // 2]) / 2


def _axes(height: float = _SIZE[1]) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_SIZE[0], height), layout="constrained")
    axes = figure.add_subplot()
    figure.patch.set_alpha(0)
    axes.patch.set_alpha(0)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(INK)
    axes.tick_params(colors=INK, which="both", labelsize=9)
    axes.xaxis.label.set(color=INK, size=9.5)
    axes.yaxis.label.set(color=INK, size=9.5)
    axes.grid(color=INK, alpha=0.13, linewidth=0.6)
    return figure, axes


def _log_limits(axes: Any, low: float, high: float) -> None:
    for scale, limits, axis in (
        (axes.set_xscale, axes.set_xlim, axes.xaxis),
        (axes.set_yscale, axes.set_ylim, axes.yaxis),
    ):
        scale("log")
        limits(low, high)
        _plain_ticks(axis)


def _plain_ticks(axis: Any) -> None:
    """Few labels, in plain numbers: 1, 2, 5 of each decade when there are few decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    low, high = axis.get_view_interval()
    decades = math.log10(max(high, 1e-12) / max(low, 1e-12))
    subs = (1.0,) if decades > 3 else (1.0, 2.0, 5.0) if decades > 0.9 else tuple(float(n) for n in range(1, 10))
    axis.set_major_locator(LogLocator(subs=subs, numticks=12))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _legend(axes: Any, place: str) -> None:
    legend = axes.legend(loc=place, fontsize=8.5, frameon=False, labelcolor=INK, handletextpad=0.5)
    legend.set_zorder(5)


def _svg(figure: Any) -> str:
    import matplotlib

    stream = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "validate", "font.family": "sans-serif"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = re.sub(r"<metadata>.*?</metadata>", "", stream.getvalue(), flags=re.DOTALL)
    return text[text.index("<svg") :].replace(INK, "currentColor")
