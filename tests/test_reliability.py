"""docs/reliability.md: every promise names a test that exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if line.startswith("| ") and not line.startswith(("| what was", "|--"))]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:42])
def test_a_promise_is_held_by_a_test(row: str) -> None:
    cells = [cell.strip() for cell in row.strip("|").split(" | ")]
    assert len(cells) == 3
    tests = re.findall(r"tests/[\w./]*", cells[2])
    assert tests
    for test in tests:
        assert (ROOT / test).exists(), test


def test_there_are_promises() -> None:
    assert len(ROWS) >= 15
