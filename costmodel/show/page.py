"""Self-contained HTML pages out of Jinja2 templates: one file that opens without a network.

The parts lie in `costmodel/show/pages/`: `page.html`, `page.css` and `page.js` are shared, `NAME.html` and `NAME.js`
are a page's own.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING

from costmodel.files.cells import shown

if TYPE_CHECKING:
    import jinja2

FOLDER = Path(__file__).parent / "pages"


def make_page(name: str, title: str, data: object, **values: object) -> str:
    """The interactive page `name` with `data`, which its script finds as the constant `DATA`.

    Args:
        name: of the parts in the folder.
        title: of the browser's tab.
        data: anything JSON can hold; NaN and infinities are refused.
        values: what else the page's template names.
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    safe = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return render(f"{name}.html", FOLDER, title=title, name=name, data=safe, **values)


def render(template: str, folder: Path = FOLDER, **values: object) -> str:
    """A template of a folder, which may extend and include those of `costmodel/show/pages/`.

    Values are escaped, and one that the template names and the caller does not give is an error.
    """
    return _environment(folder).get_template(template).render(**values)


@functools.cache
def _environment(folder: Path) -> jinja2.Environment:
    import jinja2  # on use: no estimate makes a page

    loader = jinja2.FileSystemLoader([folder, FOLDER])
    found = jinja2.Environment(
        loader=loader,
        autoescape=True,
        finalize=_readable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.globals["part"] = lambda name: loader.get_source(found, name)[0]  # style sheets and scripts, as they are
    return found


def _readable(value: object) -> object:
    """A text with its control characters written out; what is markup already is left alone."""
    return shown(value) if type(value) is str else value
