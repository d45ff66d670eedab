"""Labels of ticks on axes that are logarithmic but near zero."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from validate.pages.axes import apart
from validate.pages.markup import NARROW

pytest.importorskip("matplotlib")

from costmodel.show.figure import axes_style, new_figure, plain_ticks

TICKS = [sign * tick for tick in (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0) for sign in (-1, 1)] + [0.0]


@pytest.mark.parametrize("narrow", [True, False])
@pytest.mark.parametrize("ends", [(-0.05, 0.2), (-0.06, 6.0), (-12.0, 0.1), (-0.4, 0.4), (-0.002, 0.0375)], ids=str)
def test_labels_do_not_touch_and_zero_is_among_them(ends: tuple[float, float], narrow: bool) -> None:
    figure = new_figure(*((NARROW, 4.6) if narrow else (6.2, 5.2)), "light")
    axes = figure.add_subplot()
    axes_style(axes, "light")
    axes.set_ylabel("measured on the other half")
    axes.set_xscale("symlog", linthresh=0.01, linscale=0.6)
    axes.set_yscale("symlog", linthresh=0.01, linscale=0.6)
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    for axis in (axes.xaxis, axes.yaxis):
        kept = apart(axis, TICKS, narrow=narrow)
        assert 0.0 in kept
        assert len(kept) >= 2
        plain_ticks(axis, kept)
    figure.canvas.draw()
    for axis, side in ((axes.xaxis, 0), (axes.yaxis, 1)):
        for first, second in itertools.pairwise(_boxes(axis, side)):
            assert first[1] + 2 <= second[0]


def _boxes(axis: Any, side: int) -> list[tuple[float, float]]:
    """Where the labels begin and end along an axis, in pixels."""
    extents = [label.get_window_extent() for label in axis.get_ticklabels() if label.get_text()]
    return sorted(((box.x0, box.x1), (box.y0, box.y1))[side] for box in extents)
