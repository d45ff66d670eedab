"""Gathers what the site of the documentation is made of: each Markdown page where it lies, and what pages link to.

What GitHub shows and the theme does not is said otherwise: pictures follow the theme that the reader chose rather than
that of the machine, and of a Mermaid graph, for which a script would be loaded from elsewhere, stands what leads where.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = (
    "*.md",
    "docs/**/*.md",
    "hw_profiles/**/*.md",
    "studies/**/*.md",
    "benchmarks/**/*.md",
    "tests/**/*.md",
    "notebooks/**/*.md",
)
STYLE = "docs/site.css"
_PICTURE = re.compile(
    r'<picture>\s*<source media="\(prefers-color-scheme: dark\)" srcset="(?P<dark>[^"]+)">\s*'
    r'<img src="(?P<light>[^"]+)" alt="(?P<alt>[^"]*)">\s*</picture>'
)
_GRAPH = re.compile(r"```mermaid\n(.*?)```", re.DOTALL)
_NODE = re.compile(r'(\w+)\[\(?"([^"]+)"\)?\]')
_EDGE = re.compile(r"(\w+)\S*(?:\[.*?\])? --> (\w+)")
_LINK = re.compile(r"""(?:\]\(|src="|srcset=")([^)#"\s]+)""")


def gather(target: Path) -> list[Path]:
    """Copy pages and the files that they link to into a folder, laid out as in the checkout; returns what was copied,
    relative to it. What is there already is replaced."""
    shutil.rmtree(target, ignore_errors=True)
    pages = sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})
    wanted = {*pages, ROOT / STYLE}
    for page in pages:
        for link in _LINK.findall(page.read_text(encoding="utf-8")):
            file = (page.parent / link).resolve()
            if "://" not in link and file.is_file() and file.is_relative_to(ROOT):
                wanted.add(file)
    copied = sorted(path.relative_to(ROOT) for path in wanted)
    for path in copied:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target / path)
        if path.suffix == ".md":
            text = (target / path).read_text(encoding="utf-8")
            (target / path).write_text(for_site(text), encoding="utf-8")
    return copied


def for_site(text: str) -> str:
    """A page's Markdown as the site's theme shows it."""
    both = r'<img src="\g<light>#only-light" alt="\g<alt>"><img src="\g<dark>#only-dark" alt="\g<alt>">'
    return _GRAPH.sub(lambda found: _table(found[1]), _PICTURE.sub(both, text))


def _table(graph: str) -> str:
    """What leads where in a Mermaid flowchart, a row for each beginning."""
    names = dict(_NODE.findall(graph))
    leads: dict[str, list[str]] = {}
    for start, end in _EDGE.findall(graph):
        leads.setdefault(start, []).append(names.get(end, end).split(":")[0])
    rows = [f"| {names.get(start, start)} | {'; '.join(ends)} |" for start, ends in leads.items()]
    return "\n".join(["| what | rests on |", "|---|---|", *rows])


if __name__ == "__main__":
    gather(ROOT / "build" / "pages")
