"""The documentation's site: its pages and what they link to are gathered, and it builds strictly without a network."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


def gather(target: Path) -> set[str]:
    spec = importlib.util.spec_from_file_location("site_pages", ROOT / "scripts" / "site.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return {path.as_posix() for path in module.gather(target)}


def test_every_page_of_the_site_is_gathered_with_its_pictures(tmp_path: Path) -> None:
    copied = gather(tmp_path)
    listed = re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(listed) > 20
    assert set(listed) <= copied
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").glob("*.md")} <= set(listed)
    assert {"docs/pictures/time-light.svg", "docs/pictures/time-dark.svg", "docs/schemas/estimate.json"} <= copied


def test_a_page_of_the_site_follows_its_theme_and_shows_no_source_of_a_graph(tmp_path: Path) -> None:
    gather(tmp_path)
    front = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "prefers-color-scheme" not in front
    assert front.count("time-light.svg#only-light") == front.count("time-dark.svg#only-dark") == 1
    rooms = (tmp_path / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert "mermaid" not in rooms
    assert "| pricing: configurations to costs | families; timing; decomposition |" in rooms


@pytest.mark.slow
def test_the_site_builds_strictly_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("material")
    gather(tmp_path / "build" / "pages")
    (tmp_path / "mkdocs.yml").write_bytes((ROOT / "mkdocs.yml").read_bytes())
    dead = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9", "NO_MKDOCS_2_WARNING": "1"}
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    done = subprocess.run(
        command, cwd=tmp_path, env={**os.environ, **dead}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    pages = list((tmp_path / "build" / "site").rglob("*.html"))
    assert len(pages) > 20
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r'<(?:script|img|link rel="stylesheet")[^>]*(?:src|href)="(?:https?:)?//[^"]*"', text), (
            page
        )
