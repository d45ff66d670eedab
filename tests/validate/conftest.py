"""What tests of the measuring commands share."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of timed samples without their figures, which take longer to draw than a tiny model takes to measure."""
    monkeypatch.setattr("validate.speed.report.figures", lambda *_: [])
