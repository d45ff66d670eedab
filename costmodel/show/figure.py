"""Figures as bytes: matplotlib on demand, two themes, files that are the same every time. Colours for the blind to
colours: Okabe and Ito, "Color Universal Design" (2008), the yellow darkened to be seen on white."""

from __future__ import annotations

import contextlib
import io
import textwrap
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
_POINTS, _LETTER, _LEADING = 72, 0.56, 1.25
"""Points to an inch; a letter's mean width and a line's height, in sizes of the letters."""
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
        raise InputError(
            "figures need matplotlib", hint="pip install -c constraints.txt '.[plot]' in the checkout"
        ) from error
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


def head(figure: Figure, text: str, theme: Theme = "light", size: float = 11.0) -> None:
    """Write a heading of these lines above all axes; where they are too long for the figure they are broken, and the
    figure is that much higher. `size` in points."""
    width, height = figure.get_size_inches()
    letters = int(0.97 * width * _POINTS / (size * _LETTER))
    given = text.split("\n")
    lines = [line for each in given for line in textwrap.wrap(each, letters)]
    figure.set_size_inches(width, height + (len(lines) - len(given)) * size * _LEADING / _POINTS)
    figure.suptitle(drawn("\n".join(lines)), color=COLOURS[theme]["ink"], fontsize=size, x=0.01, ha="left")


def ink_on(colour: Any) -> str:
    """Black or white, whichever stands out more on a colour (relative luminance as the WCAG 2 defines it)."""
    from matplotlib.colors import to_rgb

    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in to_rgb(colour)]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#ffffff"


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
