"""Gathers what the site of the documentation is made of: each Markdown page where it lies, and what pages link to."""

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
_LINK = re.compile(r"""(?:\]\(|src="|srcset=")([^)#"\s]+)""")


def gather(target: Path) -> list[Path]:
    """Copy pages and the files that they link to into a folder, laid out as in the checkout; returns what was copied,
    relative to it. What is there already is replaced."""
    shutil.rmtree(target, ignore_errors=True)
    pages = sorted({path for pattern in PAGES for path in ROOT.glob(pattern)})
    wanted = set(pages)
    for page in pages:
        for link in _LINK.findall(page.read_text(encoding="utf-8")):
            file = (page.parent / link).resolve()
            if "://" not in link and file.is_file() and file.is_relative_to(ROOT):
                wanted.add(file)
    copied = sorted(path.relative_to(ROOT) for path in wanted)
    for path in copied:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target / path)
    return copied


if __name__ == "__main__":
    gather(ROOT / "build" / "pages")
