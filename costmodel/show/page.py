"""A self-contained HTML page: styles, data and script in one file that opens without a network.

The parts lie in `costmodel/show/pages/`: `page.css` and `page.js` are shared, `NAME.html` and `NAME.js` are a page's
own.
"""

from __future__ import annotations

import html
import json
from pathlib import Path

FOLDER = Path(__file__).parent / "pages"
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data: blob:"
"""Content security policy: the page can load nothing, even if its data held markup."""


def make_page(name: str, title: str, data: object) -> str:
    """The page `name` with `data`, which its script finds as the constant `DATA`.

    Args:
        name: of the parts in the folder.
        title: of the browser's tab.
        data: anything JSON can hold; NaN and infinities are refused.
    """
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    safe = text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    body, script = _part(f"{name}.html"), _part("page.js") + _part(f"{name}.js")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f"<title>{html.escape(title)}</title>\n<style>\n{_part('page.css')}</style>\n</head>\n<body>\n{body}"
        f'<script>\n"use strict";\nconst DATA = {safe};\n{script}</script>\n</body>\n</html>\n'
    )


def _part(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")
