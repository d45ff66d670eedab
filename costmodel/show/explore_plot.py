"""The frontier of two objectives over a cloud of configurations, as a still picture."""

from __future__ import annotations

from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np

from costmodel.arrays import Floats
from costmodel.errors import InputError
from costmodel.explore.objectives import Objective
from costmodel.explore.quality import params_removed
from costmodel.explore.tables import CostBatch, CostTables
from costmodel.forward.workload import Phase
from costmodel.show.exploration import quality_label
from costmodel.show.figure import COLOURS, Theme, axes_style, figure_bytes, head, new_figure
from costmodel.space.make import design_space
from costmodel.units import unit_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from costmodel.explore import Exploration

PAPER_MODEL = "llama2-7b"
PAPER_LAYERS = (
    (2, 29),
    (2, 17, 31),
    (2, 8, 14, 20, 26),
    (4, 8, 12, 16, 20, 24, 28),
    (2, 5, 8, 11, 14, 17, 20, 23, 26, 29, 31),
    tuple(range(0, 32, 2)),
    (1, 3, 5, 7, 9, *range(10, 19), 20, 22, 24, 26, 28, 30),
    (1, 3, 5, 7, 9, *range(10, 30)),
    (0, 2, 4, 6, *range(8, 32)),
    tuple(range(32)),
)
"""The ten sets of layers that the paper measures on Llama 2 7B: all tensors, rank 1, three factors."""
_CLOUD = 3000
_LABEL = 62
"""Letters of a line of an axis's label."""


def frontier_plot(result: Exploration, kind: str, theme: Theme = "light") -> bytes:
    """The figure as a file of this kind (png or svg).

    Raises:
        InputError: when fewer than two objectives were asked for, or matplotlib is not installed.
    """
    return figure_bytes(frontier_figure(result, theme), kind)


def frontier_figure(result: Exploration, theme: Theme = "light") -> Figure:
    """Draw the first two objectives: a uniform sample of the space, the frontier, the best, dense, the paper's points.

    With more than two objectives the frontier's points need not form a line, so they are not joined.

    Raises:
        InputError: as `frontier_plot`.
    """
    question, answer, space = result.question, result.answer, result.space
    if len(question.objectives) < 2:
        raise InputError("a frontier plot needs two objectives", value=[o.name for o in question.objectives])
    across, up = question.objectives[:2]
    colours = COLOURS[theme]
    figure = new_figure(8.6, 5.8, theme)
    axes = figure.subplots()
    axes_style(axes, theme)
    cloud = _cloud(result, across, up)
    axes.scatter(
        cloud[:, 0],
        cloud[:, 1],
        s=7,
        color=colours["grey"],
        alpha=0.35,
        linewidths=0,
        rasterized=True,
        label=f"{len(cloud):,} configurations drawn uniformly",
    )
    points = np.array([[found.objectives[o.name] for o in (across, up)] for found in answer.frontier])
    if len(points):
        joined = len(question.objectives) == 2 and len(points) > 1
        if joined:
            stairs = _staircase(points, across, up)
            axes.plot(stairs[:, 0], stairs[:, 1], color=colours["blue"], lw=1.2, alpha=0.8, zorder=3)
        size = 22 if len(points) <= 80 else 8
        axes.scatter(
            points[:, 0],
            points[:, 1],
            s=size,
            color=colours["blue"],
            zorder=4,
            linewidths=0,
            label=f"frontier: {len(points):,} {'points' if len(points) > 1 else 'point'}",
        )
    if answer.top:
        best = answer.top[0].objectives
        axes.scatter(
            [best[across.name]],
            [best[up.name]],
            marker="*",
            s=210,
            color=colours["orange"],
            zorder=6,
            edgecolors=colours["paper"],
            linewidths=0.8,
            label=f"{'best' if result.measured else 'first'} by {across.name}",
        )
    dense = question.dense()
    axes.scatter(
        [dense[across.name]],
        [dense[up.name]],
        marker="D",
        s=48,
        color=colours["ink"],
        zorder=5,
        edgecolors=colours["paper"],
        linewidths=0.8,
        label="dense model",
    )
    paper = _paper(result, across, up)
    if len(paper):
        axes.scatter(
            paper[:, 0],
            paper[:, 1],
            marker="s",
            s=34,
            facecolors="none",
            edgecolors=colours["purple"],
            linewidths=1.4,
            zorder=5,
            label="the paper's ten points (rank 1, all tensors, three factors)",
        )
    for axis, objective in ((axes.xaxis, across), (axes.yaxis, up)):
        _label(axis, objective, quality_label(question.tables.quality) if question.tables.quality else "")
    axes.margins(0.04)
    limits = f", within {', '.join(map(str, question.limits))}" if question.limits else ""
    work = result.workloads[-1]
    head(
        figure,
        f"{space.model.name} on {result.hardware}: {space.kind} space, form {space.form}{limits}\n"
        f"batch {work.batch}, {work.dtype.value}, {work.runtime.value}, "
        + ", ".join(
            f"prefill of {each.q_len} tokens"
            if each.phase is Phase.PREFILL
            else f"decode with {each.kv_len} tokens in the cache"
            for each in result.workloads
        ),
        theme,
        10.5,
    )
    figure.legend(loc="outside lower center", ncols=2, frameon=False, fontsize=8.5, labelcolor=colours["ink"])
    return figure


def _cloud(result: Exploration, across: Objective, up: Objective) -> Floats:
    """The two objectives of configurations drawn uniformly from the space, float64 (n, 2)."""
    count = int(min(_CLOUD, result.space.valid_size))
    choices = result.space.sample_choices(count, seed=0)
    return _pair(result.question.tables.batch(choices), across, up)


def _paper(result: Exploration, across: Objective, up: Objective) -> Floats:
    """The two objectives of the paper's configurations under the same workloads; none for another model."""
    tables = result.question.tables
    nothing = np.zeros((0, 2))
    if result.space.model.name != PAPER_MODEL:
        return nothing
    space = design_space(result.space.model, ranks=[1], form="tucker")
    quality = None
    if "quality" in (across.part, up.part):
        if tables.quality is None or not tables.quality.metric.startswith("parameters removed"):
            return nothing
        quality = params_removed(space)
    own = CostTables(space, [table.pricer for table in tables.phases.values()], tables.steps, quality)
    choices = np.zeros((len(PAPER_LAYERS), *space.free.shape), dtype=np.int64)
    for row, layers in enumerate(PAPER_LAYERS):
        choices[row, list(layers)] = 1
    return _pair(own.batch(choices), across, up)


def _pair(batch: CostBatch, across: Objective, up: Objective) -> Floats:
    return np.stack([np.asarray(each.values(batch), dtype=np.float64) for each in (across, up)], axis=-1)


def _staircase(points: Floats, across: Objective, up: Objective) -> Floats:
    """The border of what the frontier dominates: between two points the corner that is worse in both."""
    signs = np.array([-1.0 if each.maximise else 1.0 for each in (across, up)])
    ordered = points[np.argsort(points[:, 0] * signs[0], kind="stable")]
    corners = np.stack([ordered[1:, 0], ordered[:-1, 1]], axis=-1)
    path = np.empty((2 * len(ordered) - 1, 2))
    path[0::2], path[1::2] = ordered, corners
    return path


def _label(axis: Any, objective: Objective, metric: str) -> None:
    """Name of an axis, and which way is better; `metric` is what quality is."""
    from matplotlib.ticker import EngFormatter

    better = "more is better" if objective.maximise else "less is better"
    name = objective.name
    for suffix in ("_pct", "_s", "_bytes", "_j"):
        name = name.removesuffix(suffix)
    text = metric if objective.part == "quality" else name.replace(".", " ").replace("_", " ")
    axis.set_label_text(fill(f"{text}{' in %' if objective.saving == 'pct' else ''} - {better}", _LABEL))
    if not objective.saving and objective.part != "quality":
        axis.set_major_formatter(EngFormatter(unit=unit_of(objective.metric)))
