"""A headless Chromium of the machine, by playwright: pages opened, with all that they complain of."""

from __future__ import annotations

import base64
import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from playwright.sync_api import Page, Request, sync_playwright

VIEWS = [(width, dark) for width in (390, 720, 1440) for dark in (False, True)]
"""What pages are looked at in: pixels of the window's width, and whether the reader wants it dark."""
LEAST = 8.0
"""Pixels that the smallest letters of a page or a picture have."""
_LOOKING = (Path(__file__).parent / "looking.js").read_text()
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def find_chromium() -> str | None:
    """Path of a Chromium, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


class Tab:
    """One tab; `problems` collects console errors, exceptions and every request that is not for the page's own file."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self.problems: list[str] = []
        page.on("console", lambda message: self._said(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(f"exception: {error}"))
        page.on("request", self._asked)

    def open(self, page: Path, *, width: int = 1440, height: int = 1000, dark: bool = False) -> None:
        """Load a file and wait until it is drawn."""
        self._page.set_viewport_size({"width": width, "height": height})
        self._page.emulate_media(color_scheme="dark" if dark else "light")
        self._page.goto(page.resolve().as_uri())
        self.settle()

    def settle(self) -> None:
        """Wait for two frames."""
        self.run("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(1))))")

    def run(self, script: str) -> Any:
        """The value of a JavaScript expression."""
        return self._page.evaluate(script)

    def faults(self, least: float = LEAST) -> list[str]:
        """What a reader stumbles over in what is open (looking.js), and what it complained of since it was opened."""
        return [*self.problems, *self.run(f"({_LOOKING})({least})")]

    def pictures(self) -> list[tuple[bytes, float]]:
        """The SVG pictures inside a page, with how much smaller than they are they are shown."""
        shown = self.run("[...document.images].map((each) => [each.currentSrc, each.naturalWidth / each.width])")
        return [(base64.b64decode(source.split("base64,")[1]), scale) for source, scale in shown]

    def click(self, x: float, y: float) -> None:
        """A real click at a place of the window."""
        self._page.mouse.click(x, y)
        self.settle()

    def screenshot(self, path: Path) -> None:
        """The whole page as PNG."""
        self._page.screenshot(path=path, full_page=True)

    def _said(self, kind: str, text: str) -> None:
        if kind in ("error", "warning", "assert"):
            self.problems.append(f"console: {text}")

    def _asked(self, request: Request) -> None:
        if not request.url.startswith(("data:", "blob:")) and not request.is_navigation_request():
            self.problems.append(f"request: {request.url}")


def stumbles(tab: Tab, page: Path, folder: Path, *, width: int = 1440, dark: bool = False) -> list[str]:
    """All that a reader of a page or a picture stumbles over; of a page with folded parts opened, and of its pictures
    too, which are written into `folder`."""
    tab.problems.clear()
    tab.open(page, width=width, dark=dark)
    tab.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    tab.settle()
    found = tab.faults()
    if page.suffix == ".svg":
        return found
    for number, (picture, scale) in enumerate(tab.pictures()):
        file = folder / f"{number}.svg"
        file.write_bytes(picture)
        if b"<text" not in picture:
            found.append(f"picture {number}: its words are no texts, and nothing is known of them")
        tab.open(file, width=width, dark=dark)
        found += [f"picture {number}: {each}" for each in tab.faults(LEAST * scale)]
    return found


@contextlib.contextmanager
def browser() -> Iterator[Tab]:
    """A tab of a browser with a fresh profile, closed at the end."""
    with sync_playwright() as engine:
        started = engine.chromium.launch(executable_path=find_chromium(), args=["--no-sandbox", "--hide-scrollbars"])
        with contextlib.closing(started):
            yield Tab(started.new_page())
