"""Figures as bytes: matplotlib on demand, two themes, files that are the same every time. Colours for the blind to
colours: Okabe and Ito, "Color Universal Design" (2008), the yellow darkened to be seen on white."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from costmodel.errors import InputError
from costmodel.files.cells import shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Theme = Literal["light", "dark"]
SUFFIXES = ("png", "svg")
DPI = 160
COLOURS: dict[Theme, dict[str, str]] = {
    "light": {
        "paper": "#ffffff",
        "ink": "#1a1d21",
        "muted": "#5c6570",
        "grid": "#e3e6ea",
        "blue": "#0072b2",
        "orange": "#d55e00",
        "green": "#007a5a",
        "purple": "#aa4499",
        "amber": "#a67c00",
        "grey": "#7a828c",
    },
    "dark": {
        "paper": "#14171a",
        "ink": "#e8eaed",
        "muted": "#a3abb5",
        "grid": "#2d3339",
        "blue": "#56b4e9",
        "orange": "#ff8c42",
        "green": "#2cc79a",
        "purple": "#d88fcb",
        "amber": "#f0c63c",
        "grey": "#8d96a0",
    },
}


def file_kind(path: Path, allowed: tuple[str, ...] = SUFFIXES) -> str:
    """The suffix of an output file, which says what to draw.

    Raises:
        InputError: when it is not among `allowed`.
    """
    kind = path.suffix.lower().removeprefix(".")
    if kind not in allowed:
        raise InputError("unknown kind of file", value=str(path), allowed=", ".join(f".{each}" for each in allowed))
    return kind


def drawn(text: str) -> str:
    """A text of a file as matplotlib draws it letter by letter: what a terminal obeys written out, no formula in it."""
    return shown(text).replace("$", r"\$")


@contextlib.contextmanager
def any_letters() -> Iterator[None]:
    """Around drawing: names in letters that the font lacks are no reason for a warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        yield


def new_figure(width: float, height: float, theme: Theme = "light") -> Figure:
    """An empty figure of width x height inches in the colours of a theme, with no window and no global state.

    Raises:
        InputError: when matplotlib is not installed.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise InputError("figures need matplotlib", hint="pip install 'costmodel[plot]'") from error
    figure = Figure(figsize=(width, height), facecolor=COLOURS[theme]["paper"], layout="constrained")
    FigureCanvasAgg(figure)  # knows the size of a text, which placing labels needs
    return figure


def axes_style(axes: Any, theme: Theme = "light") -> None:
    """Colours of a theme for one axes: spines, ticks, labels, a faint grid behind."""
    colours = COLOURS[theme]
    axes.set_facecolor(colours["paper"])
    for name, spine in axes.spines.items():
        spine.set_color(colours["muted"])
        spine.set_visible(name in ("left", "bottom"))
    axes.tick_params(which="both", colors=colours["muted"], labelsize=9)
    axes.grid(True, which="major", color=colours["grid"], linewidth=0.7)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_color(colours["ink"])
    axes.yaxis.label.set_color(colours["ink"])
    axes.title.set_color(colours["ink"])


def plain_ticks(axis: Any, values: Iterable[float]) -> None:
    """Ticks at these values alone, as plain numbers."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

    axis.set_major_locator(FixedLocator(list(values)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def figure_bytes(figure: Figure, kind: str, dpi: int = DPI) -> bytes:
    """The figure as a PNG (of `dpi` dots per inch) or SVG file without dates, so that equal figures are equal files."""
    import matplotlib as mpl

    stream = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    with any_letters(), mpl.rc_context({"svg.hashsalt": "costmodel", "svg.fonttype": "none"}):
        figure.savefig(stream, format=kind, dpi=dpi, facecolor=figure.get_facecolor(), metadata=metadata)
    return stream.getvalue()
