"""The figure of accuracy: items of tasks answered right, the measure that the paper has. No torch."""

from __future__ import annotations

from typing import Any

from studies.paper.axes import COLOURS, MARKERS, draw_legend, make_axes, scale, whole_numbers
from studies.paper.points import DROPPED, PLAIN, WHITENED
from studies.paper.results import Results
from validate.pages.axes import bars

_KINDS = {PLAIN: -0.08, WHITENED: 0.0, DROPPED: 0.08}
"""With shifts, so that equal values are seen beside each other."""


def draw_accuracy(results: Results) -> Any:
    """A row for each task: accuracy by the number of layers at rank 1 or dropped, and by the change of NLL."""
    figure, grid = make_axes(len(results.tasks), 2, (9.6, 0.9 + 3.1 * len(results.tasks)))
    layers = results.dense.model.num_layers
    for row, (name, task) in enumerate(results.tasks.items()):
        by_count, by_loss = grid[2 * row : 2 * row + 2]
        dense = results.accuracy_of_dense()[name]
        for axes in (by_count, by_loss):
            axes.axhline(100 * dense.value, color="#1c2126", linewidth=0.9)
            if task.chance is not None:
                axes.axhline(100 * task.chance, color="#1c2126", linewidth=0.9, linestyle=":")
        for kind, shift in _KINDS.items():
            found = results.of("count", series=kind if kind == DROPPED else f"{kind}, rank 1")
            shares = [each.accuracy[name].share for each in found]
            lengths = [[100 * length for length in side] for side in bars(shares)]
            by_count.errorbar(
                [float(each.point.x) + shift for each in found],
                [100 * each.value for each in shares],
                yerr=lengths,
                marker=MARKERS[kind],
                markersize=4.5,
                color=COLOURS[kind],
                linewidth=1.3,
                linestyle="--" if kind == DROPPED else "-",
            )
            every = {each.record.id: each for each in results.found if each.point.series.partition(", ")[0] == kind}
            by_loss.plot(
                [each.change.value for each in every.values()],
                [100 * each.accuracy[name].share.value for each in every.values()],
                MARKERS[kind],
                markersize=3.5,
                markeredgewidth=0,
                alpha=0.6,
                color=COLOURS[kind],
            )
        by_count.set_ylabel("right, %")
        by_count.set_title(f"{name}: spread layers at rank 1, or dropped", fontsize=9.5)
        by_count.set_xlabel(f"layers touched, of {layers}; the first only with all")
        whole_numbers(by_count, range(1, layers + 1))
        by_loss.set_title(f"{name}: every configuration", fontsize=9.5)
        by_loss.set_xlabel("change of NLL, nats per token")
        scale([by_loss.xaxis], results.found)
    draw_legend(figure, [PLAIN, WHITENED, DROPPED])
    return figure
