"""How well a predictor does, as a still picture: predicted against measured, and errors by band beside null models."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from costmodel.show.figure import COLOURS, Theme, axes_style, figure_bytes, head, new_figure, plain_ticks
from costmodel.units import percent
from validate.pages.markup import NARROW
from validate.predictor.errors import PREDICTOR
from validate.predictor.fit import PredictorFit
from validate.predictor.score import FLOOR
from validate.quality.summary import BANDS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FORMS = {"svd": ("blue", "o"), "tucker": ("orange", "s"), "drop": ("purple", "D")}
_MIXED = (("green", "^"), ("amber", "v"), ("grey", "P"), ("green", "X"), ("amber", "*"))
"""Of configurations of several forms, and of what else there is."""
_NULLS = ("grey", "amber", "orange", "green", "purple")
_TICKS = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)


def predictor_plot(fit: PredictorFit, kind: str, theme: Theme = "light") -> bytes:
    """The figure as a file of this kind (png or svg).

    Raises:
        InputError: when matplotlib is not installed.
    """
    return figure_bytes(predictor_figure(fit, theme), kind)


def predictor_figure(fit: PredictorFit, theme: Theme = "light", *, narrow: bool = False) -> Figure:
    """Left: held-out predictions with 90 % intervals. Right: mean errors by band of damage, with those of null models.
    For narrow screens one above the other, without a heading.

    Raises:
        InputError: when matplotlib is not installed.
    """
    if narrow:
        figure = new_figure(NARROW, 9.2, theme)
        left, right = figure.subplots(2, 1)
    else:
        figure = new_figure(12.4, 5.6, theme)
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.05))
    for axes in (left, right):
        axes_style(axes, theme)
    _draw_points(left, fit, theme, narrow)
    _draw_bands(right, fit, theme, columns=1 if narrow else 2)
    if narrow:
        left.set_xlabel("predicted change, held out")
        return figure
    counted = fit.evidence.points.counted
    spearman = "" if counted.all() else f"; of the {counted.sum()} sampled"
    spearman += "" if fit.spearman is None else f", rank correlation {fit.spearman:.3f}"
    head(
        figure,
        f"{fit.evidence.spec.name}: quality predicted from {len(fit.evidence.points)} measured configurations\n"
        f"{fit.errors[0]['protocol']}; {fit.evidence.factors} factors{spearman}, 90 % intervals hold "
        f"{percent(fit.coverage, 0)}",
        theme,
        10.5,
    )
    return figure


def form_looks(forms: Iterable[str]) -> dict[str, tuple[str, str]]:
    """The colour and marker of each form, of which no two look alike; plain forms first."""
    names = sorted(set(forms), key=lambda form: (form not in _FORMS, form))
    mixed = itertools.cycle(_MIXED)
    return {name: _FORMS[name] if name in _FORMS else next(mixed) for name in names}


def _draw_points(axes: Any, fit: PredictorFit, theme: Theme, narrow: bool) -> None:
    colours, points, held_out = COLOURS[theme], fit.evidence.points, fit.held_out
    measured, predicted = points.change, held_out.predicted
    forms = np.array(points.strata("form"), dtype=object)
    ends = [min(0.0, float(measured.min())), 1.25 * float(max(measured.max(), predicted.max()))]
    axes.plot(ends, ends, color=colours["ink"], lw=0.9, zorder=2)
    for edge in BANDS:
        axes.axhline(edge, color=colours["grey"], lw=0.6, ls=":", zorder=1)
    for name, (colour, marker) in form_looks(forms.tolist()).items():
        inside = forms == name
        bars = [predicted - np.minimum(held_out.low, predicted), np.maximum(held_out.high, predicted) - predicted]
        label = {"drop": "layers dropped"}.get(name, name.replace("+", " + "))
        axes.errorbar(
            predicted[inside],
            measured[inside],
            xerr=[bar[inside] for bar in bars],
            fmt=marker,
            ms=3.8,
            color=colours[colour],
            ecolor=colours["grey"],
            elinewidth=0.5,
            alpha=0.85,
            mew=0,
            label=label,
            zorder=3,
        )
    for scale, limits, axis, left_out in (
        (axes.set_xscale, axes.set_xlim, axes.xaxis, {0.01} if narrow else set()),
        (axes.set_yscale, axes.set_ylim, axes.yaxis, set()),
    ):
        scale("asinh", linear_width=FLOOR)
        limits(*ends)
        plain_ticks(axis, [value for value in _TICKS if value <= ends[1] and value not in left_out])
    axes.set_xlabel("predicted change of NLL, nats per token (held out)")
    axes.set_ylabel("measured change of NLL, nats per token")
    axes.legend(loc="upper left", frameon=False, fontsize=8.5, labelcolor=colours["ink"])


def _draw_bands(axes: Any, fit: PredictorFit, theme: Theme, columns: int) -> None:
    colours = COLOURS[theme]
    rows = [row for row in fit.errors if row["protocol"] == fit.errors[0]["protocol"] and row["band"] != "all"]
    bands = list(dict.fromkeys(row["band"] for row in rows))
    names = list(dict.fromkeys(row["model"] for row in rows))
    width = 0.84 / len(names)
    for index, name in enumerate(names):
        own = [next(row for row in rows if row["band"] == band and row["model"] == name) for band in bands]
        places = np.arange(len(bands)) - 0.42 + width * (index + 0.5)
        colour = "blue" if name == PREDICTOR else _NULLS[(index - 1) % len(_NULLS)]
        axes.bar(
            places,
            [row["mean_abs"] for row in own],
            0.9 * width,
            color=colours[colour],
            label=name,
            zorder=3,
            alpha=1.0 if name == PREDICTOR else 0.75,
        )
    axes.set_yscale("log")
    axes.set_xticks(range(len(bands)), [_band(rows, band) for band in bands], fontsize=8.5)
    axes.tick_params(axis="x", length=0)
    axes.grid(axis="x", visible=False)
    low, high = axes.get_ylim()
    plain_ticks(axes.yaxis, [value for value in (*_TICKS, 0.003, 0.001) if low <= value <= high])
    axes.set_xlabel("measured change of NLL, nats per token")
    axes.set_ylabel("mean absolute error, nats per token")
    axes.set_ylim(top=(6 if columns > 1 else 60) * axes.get_ylim()[1])
    axes.legend(loc="upper left", frameon=False, fontsize=8.5, labelcolor=colours["ink"], ncols=columns)


def _band(rows: Sequence[Mapping[str, Any]], band: str) -> str:
    row = next(row for row in rows if row["band"] == band)
    return f"{band}\n{row['points']} points" + ("" if row["judged"] else "\ntoo few")
