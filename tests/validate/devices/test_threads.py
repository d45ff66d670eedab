"""How threads wait is said where it spoils times."""

from __future__ import annotations

import pytest

pytest.importorskip("psutil")

from validate.devices.threads import waiting_note


@pytest.mark.parametrize(
    ("policy", "threads", "warned"),
    [
        ("PASSIVE", 2, True),
        ("passive", 8, True),
        ("PASSIVE", 1, False),
        ("ACTIVE", 2, False),
        (None, 2, False),
    ],
)
def test_threads_that_sleep_are_warned_of(
    policy: str | None, threads: int, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if policy is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    note = waiting_note(threads)
    assert (note is not None) == warned
    if note is not None:
        assert str(policy) in note
        assert "unset" in note
