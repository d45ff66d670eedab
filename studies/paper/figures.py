"""Figures of the case studies. No torch."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from studies.paper.accuracy import draw_accuracy
from studies.paper.axes import (
    COLOURS,
    MARKERS,
    NAMES,
    draw_dot,
    draw_legend,
    draw_level,
    draw_line,
    make_axes,
    scale,
    scale_changes,
    scale_ends,
    whole_numbers,
)
from studies.paper.points import DROPPED, PLAIN, WHITENED
from studies.paper.results import Results, layers_of
from validate.pages.axes import bars

_SHIFTS = {PLAIN: -0.08, WHITENED: 0.0, DROPPED: 0.08}
"""So that equal values are seen beside each other."""

WIDEST = 44
"""Letters of a line in a name of what is compared."""


def draw(results: Results, folder: Path) -> dict[str, str]:
    """Write every figure as PNG and SVG; names of PNGs by study. That of accuracy needs tasks."""
    import matplotlib

    makers: dict[str, Callable[[Results], Any]] = {
        "rank": _rank,
        "tensor": _tensor,
        "count": _count,
        "position": _position,
        "spacing": _spacing,
        "budget": _budget,
        "whitening": _whitening,
    }
    paired = f"bars: paired 95 % intervals over {len(results.tokens)} blocks of text"
    notes = {"accuracy": "bars: 95 % intervals (Wilson); lines: the dense model, and dotted what guessing gives"}
    if results.of("sets"):
        makers["sets"] = _sets
    if results.tasks:
        makers["accuracy"] = draw_accuracy
    folder.mkdir(parents=True, exist_ok=True)
    look: Any = {"svg.fonttype": "none", "svg.hashsalt": "studies", "font.family": "sans-serif", "font.size": 9.5}
    with matplotlib.rc_context(look):
        for study, make in makers.items():
            figure = make(results)
            for kind in ("png", "svg"):
                metadata = {"Date": None} if kind == "svg" else None
                figure.supxlabel(notes.get(study, paired), fontsize=8, color="#5b6670")
                figure.savefig(folder / f"{study}.{kind}", dpi=160, metadata=metadata)
    return {study: f"{study}.png" for study in makers}


def _rank(results: Results) -> Any:
    panels = list(dict.fromkeys(each.point.panel for each in results.of("rank")))
    figure, row = make_axes(1, len(panels), (3.4 * len(panels), 3.9))
    for axes, panel in zip(row, panels, strict=True):
        for kind in (PLAIN, WHITENED):
            found = results.of("rank", panel, kind)
            draw_line(axes, [float(each.point.x) for each in found], found, kind)
        for dropped in results.of("rank", panel, DROPPED):
            draw_level(axes, dropped)
        axes.set_title(f"All tensors of {panel}", fontsize=9.5)
        shares = sorted({float(each.point.x) for each in results.of("rank", panel)})
        ticks = [share for share in shares if share == 0 or share >= 0.2]
        axes.set_xticks(ticks, ["rank 1" if share == 0 else f"{100 * share:.0f} %" for share in ticks], fontsize=8)
        axes.set_xlabel("rank as a share of break-even")
    scale_changes(row)
    draw_legend(figure, [PLAIN, WHITENED, DROPPED])
    return figure


def _tensor(results: Results) -> Any:
    panels = list(dict.fromkeys(each.point.panel for each in results.of("tensor")))
    figure, row = make_axes(1, len(panels) + 1, (3.5 * (len(panels) + 1), 4.1), share=False)
    names = list(dict.fromkeys(str(each.point.x) for each in results.of("tensor")))
    last, line = row[-1], results.of("count", series=DROPPED)
    for panel, axes in zip(panels, row, strict=False):
        for kind in (PLAIN, WHITENED):
            for each in results.of("tensor", panel, kind):
                place = len(names) - 1 - names.index(str(each.point.x)) + (0.13 if kind == PLAIN else -0.13)
                draw_dot(axes, each, kind, place, horizontal=True)
                draw_dot(last, each, kind, 100 * each.removed, hollow=panel != panels[0])
        axes.set_yticks(range(len(names)), list(reversed(names)))
        axes.set_title(f"In all layers, {panel}", fontsize=9.5)
        axes.set_xlabel("change of NLL, nats per token")
        axes.set_ylim(-0.6, len(names) - 0.4)
    scale([axes.xaxis for axes in row[:-1]], results.of("tensor"))
    draw_line(last, [100 * each.removed for each in line], line, DROPPED)
    widest = max(each.removed for each in results.of("tensor"))
    last.set_xlim(-1, 100 * widest + 3)
    last.set_title(f"By size (filled: {panels[0]})", fontsize=9.5)
    last.set_xlabel("parameters removed, %")
    last.set_ylabel("change of NLL, nats per token")
    scale([last.yaxis], [*results.of("tensor"), *line])
    draw_legend(figure, [PLAIN, WHITENED, DROPPED])
    return figure


def _count(results: Results) -> Any:
    ends = list(
        dict.fromkeys(
            each.point.series.partition(", ")[2] for each in results.of("count") if each.point.series != DROPPED
        )
    )
    figure, row = make_axes(1, len(ends), (4.3 * len(ends), 3.9))
    for axes, end in zip(row, ends, strict=True):
        for kind, shift in _SHIFTS.items():
            found = results.of("count", series=kind if kind == DROPPED else f"{kind}, {end}")
            draw_line(axes, [float(each.point.x) + shift for each in found], found, kind)
        axes.set_title(f"All tensors of spread layers, {end}", fontsize=9.5)
        axes.set_xlabel(f"layers touched, of {results.dense.model.num_layers}; the first only with all")
        whole_numbers(axes, (float(each.point.x) for each in results.of("count")))
    scale_changes(row)
    draw_legend(figure, [PLAIN, WHITENED, DROPPED])
    return figure


def _position(results: Results) -> Any:
    figure, row = make_axes(1, 1, (5.6, 3.9))
    for kind, shift in _SHIFTS.items():
        for each in results.of("position", series=kind):
            draw_dot(row[0], each, kind, float(each.point.x) + 1.6 * shift)
    whole_numbers(row[0], (float(each.point.x) for each in results.of("position")))
    row[0].set_xlabel("the one layer touched")
    row[0].set_title("All tensors of one layer at rank 1, or the layer dropped", fontsize=9.5)
    scale_changes(row)
    draw_legend(figure, [PLAIN, WHITENED, DROPPED])
    return figure


def _spacing(results: Results) -> Any:
    """Pairs without the first layer, whose size hides the others, in a row of their own."""
    kinds = (PLAIN, WHITENED, DROPPED)
    figure, grid = make_axes(2, len(kinds), (3.4 * len(kinds), 6.0), share=False)
    for row, (first, title) in enumerate(((False, "without the first layer"), (True, "with the first layer"))):
        ends: list[float] = []
        line = grid[row * len(kinds) : (row + 1) * len(kinds)]
        for axes, kind in zip(line, kinds, strict=True):
            singles, look = results.singles(kind), {"color": COLOURS[kind], "markeredgewidth": 0.0}
            pairs = [pair for pair in results.of("spacing", series=kind) if (0 in layers_of(pair)) == first]
            alone = [results.interaction([pair], singles) for pair in pairs]
            gaps = sorted({float(pair.point.x) for pair in pairs})
            means = [results.interaction([p for p in pairs if p.point.x == gap], singles) for gap in gaps]
            axes.plot(
                [float(pair.point.x) for pair in pairs],
                [each.value for each in alone],
                "o",
                markersize=3.5,
                alpha=0.45,
                **look,
            )
            axes.errorbar(
                [gap + 0.15 for gap in gaps],
                [each.value for each in means],
                yerr=bars(means),
                fmt=MARKERS[kind],
                markersize=5,
                linewidth=1.2,
                linestyle="-",
                **look,
            )
            ends += [end for each in means for end in (each.low, each.high) if end is not None]
            ends += [each.value for each in alone]
            axes.axhline(0, color="#1c2126", linewidth=0.8)
            axes.set_title(f"{NAMES[kind].capitalize()}, {title}", fontsize=9.5)
            whole_numbers(axes, gaps)
        for axes in line:
            axes.set_ylim(min(ends) - 0.05 * (max(ends) - min(ends)), max(ends) + 0.05 * (max(ends) - min(ends)))
    for axes in grid[:: len(kinds)]:
        axes.set_ylabel("cost of both beyond the sum\nof each alone, nats per token")
    for axes in grid[len(kinds) :]:
        axes.set_xlabel("distance between the two layers")
    return figure


def _budget(results: Results) -> Any:
    panels = list(dict.fromkeys(each.point.panel for each in results.of("budget")))
    tallest = max(len(_places(results, panel)) for panel in panels)
    longest = max(len(name) for panel in panels for name in _places(results, panel))
    size = (4.6 if longest <= WIDEST else 5.4) * len(panels), 1.4 + (0.33 if longest <= WIDEST else 0.4) * tallest
    figure, row = make_axes(1, len(panels), size, share=False)
    for axes, panel in zip(row, panels, strict=True):
        places = _places(results, panel)
        for kind in (PLAIN, WHITENED, DROPPED):
            for each in results.of("budget", panel, kind):
                name = f"{each.point.x} dropped" if kind == DROPPED else str(each.point.x)
                shift = {PLAIN: 0.13, WHITENED: -0.13, DROPPED: 0.0}[kind]
                draw_dot(axes, each, kind, len(places) - 1 - places.index(name) + shift, horizontal=True)
                if kind == DROPPED:
                    axes.axvline(each.change.value, color=COLOURS[DROPPED], linestyle="--", linewidth=0.8)
        axes.set_yticks(range(len(places)), [textwrap.fill(name, WIDEST) for name in reversed(places)], fontsize=8.5)
        axes.set_ylim(-0.6, len(places) - 0.4)
        axes.set_title(panel, fontsize=9.5)
        axes.set_xlabel("change of NLL, nats per token")
    scale([axes.xaxis for axes in row], results.of("budget"))
    draw_legend(figure, [PLAIN, WHITENED, DROPPED])
    return figure


def _sets(results: Results) -> Any:
    figure, row = make_axes(1, 1, (6.4, 4.1))
    for kind in (PLAIN, WHITENED, DROPPED):
        found = results.of("sets", series=kind)
        draw_line(row[0], [100 * each.removed for each in found], found, kind)
    row[0].set_xlabel("parameters removed, %")
    row[0].set_title("The paper's ten sets of layers, all tensors at rank 1", fontsize=9.5)
    scale_changes(row)
    draw_legend(figure, [PLAIN, WHITENED, DROPPED])
    return figure


def _places(results: Results, panel: str) -> list[str]:
    names = [
        f"{each.point.x} dropped" if each.point.series == DROPPED else str(each.point.x)
        for each in results.of("budget", panel)
    ]
    return list(dict.fromkeys(names))


def _whitening(results: Results) -> Any:
    figure, row = make_axes(1, 2, (9.2, 4.2), share=False)
    twins = results.twins()
    scatter, gain = row
    for plain, whitened in twins:
        scatter.errorbar(
            plain.change.value,
            whitened.change.value,
            xerr=bars([plain.change]),
            yerr=bars([whitened.change]),
            fmt="o",
            markersize=3.5,
            color=COLOURS[WHITENED],
            linewidth=0.6,
            alpha=0.7,
        )
        difference = results.difference([plain], [whitened])
        gain.errorbar(
            100 * plain.removed,
            difference.value,
            yerr=bars([difference]),
            fmt="o",
            markersize=3.5,
            color=COLOURS[WHITENED],
            linewidth=0.6,
            alpha=0.7,
        )
    top = 1.3 * max(each.change.value for pair in twins for each in pair)
    scatter.plot([-1, top], [-1, top], color="#1c2126", linewidth=0.8)
    scale([scatter.xaxis, scatter.yaxis], [each for pair in twins for each in pair])
    scatter.set_xlabel("change of NLL with plain factors, nats per token")
    scatter.set_ylabel("with whitened factors")
    scatter.set_title("Every configuration at equal size: below the line, whitening helps", fontsize=9.5)
    gain.axhline(0, color="#1c2126", linewidth=0.8)
    gain.set_xlabel("parameters removed, %")
    gain.set_ylabel("NLL saved by whitening, nats per token")
    gain.set_title("What whitening saves, by size: above 0, it helps", fontsize=9.5)
    saved = [results.difference([plain], [whitened]) for plain, whitened in twins]
    scale_ends([gain.yaxis], [end for each in saved for end in (each.value, each.low, each.high) if end is not None])
    return figure
