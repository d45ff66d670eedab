"""What tests of the measuring commands share."""

from __future__ import annotations

import pytest


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of timed samples without their figures, which take longer to draw than a tiny model takes to measure."""
    monkeypatch.setattr("validate.speed.report.figures", lambda *_: [])


@pytest.fixture
def one_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without a cache, so that of a tiny model no copies are made to be read from memory."""
    monkeypatch.setattr("validate.devices.cpu.last_level_cache_bytes", lambda: 1)
    monkeypatch.setattr("validate.devices.cpu.CpuDevice.placements", 1)
