"""What reports are made of: tables, pictures in both themes; and the templates they go into.

A report is a template of `validate/pages/templates/` over the page of `costmodel.show.page`, whose style it shares.
No torch.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from costmodel.show.figure import Theme
from costmodel.show.page import render

NARROW = 3.8
"""Inches that a figure for screens of up to 800 pixels is wide: 8 points in it are about as large as a page's small
texts."""
_THEMES: tuple[Theme, Theme] = ("light", "dark")
_FOLDER = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows under named columns; None is shown as a dash. The columns whose numbers are in `wide` wrap."""

    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    wide: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A figure in both themes, for wide and for narrow screens, as SVG in base 64; the one that fits is shown."""

    light: str
    dark: str
    narrow_light: str
    narrow_dark: str
    caption: str

    @classmethod
    def of(cls, draw: Callable[[Theme, bool], bytes], caption: str) -> Picture:
        """What `draw` makes as SVG, of a theme and, where its second argument is true, NARROW inches wide."""
        light, dark, narrow_light, narrow_dark = (
            base64.b64encode(draw(theme, narrow)).decode() for narrow in (False, True) for theme in _THEMES
        )
        return cls(light=light, dark=dark, narrow_light=narrow_light, narrow_dark=narrow_dark, caption=caption)


def report(template: str, title: str, **values: object) -> str:
    """The HTML text of a report; it refers to nothing outside itself."""
    return render(template, _FOLDER, title=title, **values)
