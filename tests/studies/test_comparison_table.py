"""The README's losses at equal size are those of the records."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("msgspec")
pytest.importorskip("scipy")

from studies.comparison.table import rows

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_shows_the_rows_of_the_records() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = rows()
    assert found
    assert "\n".join(found) in readme, found
