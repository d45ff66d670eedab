"""A container's CPU quota counts as cores, in both versions of control groups; being stopped by it is a disturbance."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("psutil")

from validate.devices import conditions, threads
from validate.devices.cgroup import Throttling, cpu_quota, throttling, whole_cores
from validate.devices.conditions import disturbances, quota_conditions


def tree(root: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    """A made-up /sys/fs/cgroup, and the process's file that names its groups."""
    for name, text in files.items():
        path = root / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "own").write_text(own)
    return root / "cgroup", root / "own"


STAT_2 = "usage_usec 100\nnr_periods 82\nnr_throttled 29\nthrottled_usec 1500000\n"
STAT_1 = "nr_periods 82\nnr_throttled 29\nthrottled_time 1500000000\n"


@pytest.mark.parametrize(
    ("own", "files", "quota"),
    [
        ("0::/\n", {"cpu.max": "100000 100000\n"}, 1.0),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 1.5),
        ("0::/\n", {"cpu.max": "max 100000\n"}, None),
        ("0::/\n", {}, None),
        ("", {}, None),
        ("0::/\n", {"cpu.max": "nonsense\n"}, None),
        *(
            ("0::/\n", {"cpu.max": odd}, None)
            for odd in (
                "100000",
                "-1 100000",
                "1e5 100000",
                "0 100000",
                "100000 0",
                "1 2 3",
                "9" * 400 + " 1",
                "9" * 5000,
            )
        ),
        *(("0::/\n", {"cpu.max": f"{digits} 100000"}, None) for digits in ("9" * 400, "9" * 5000, "\u0661\u0660")),
        ("0::/a\0b\n", {"cpu.max": "100000 100000\n"}, 1.0),
        ("4:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "150000"}, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000", "a/cpu.max": "200000 100000", "cpu.max": "300000 100000"}, 2.0),
        ("0::/of/the/host\n", {"cpu.max": "50000 100000"}, 0.5),
        ("0::/../other\n", {"cpu.max": "50000 100000"}, 0.5),
        (
            "3:cpuset:/\n1:cpu,cpuacct:/d\n",
            {"cpu,cpuacct/d/cpu.cfs_quota_us": "250000", "cpu,cpuacct/d/cpu.cfs_period_us": "100000"},
            2.5,
        ),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ("1:cpu:/\n0::/\n", {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "0\n"}, None),
        ("1:cpuset:/x\n", {"cpu/cpu.cfs_quota_us": "100000\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
    ],
)
def test_the_least_quota_of_the_group_and_those_above_counts(
    own: str, files: dict[str, str], quota: float | None, tmp_path: Path
) -> None:
    assert cpu_quota(*tree(tmp_path, own, files)) == quota


@pytest.mark.parametrize(
    ("quota", "allowed", "used"), [(None, 8, 8), (1.0, 2, 1), (1.5, 2, 1), (0.2, 2, 1), (64.0, 4, 4), (3.99, 8, 3)]
)
def test_threads_are_as_many_as_the_quota_keeps_busy(quota: float | None, allowed: int, used: int) -> None:
    assert whole_cores(quota, allowed) == used


def test_the_default_number_of_threads_heeds_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads.os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(threads.psutil, "cpu_count", lambda logical=True: 8)
    monkeypatch.setattr(threads, "cpu_quota", lambda: 2.5)
    assert threads.usable_cores() == 2
    assert threads.quota_note(2) is None
    assert "2.5 cores" in str(threads.quota_note(3))


@pytest.mark.parametrize(
    ("own", "files"),
    [
        ("0::/a\n", {"a/cpu.stat": STAT_2}),
        ("1:cpu:/a\n", {"cpu/a/cpu.stat": STAT_1, "cpu/cpu.stat": "nr_throttled 0\n"}),
    ],
)
def test_stops_are_counted_in_both_versions(own: str, files: dict[str, str], tmp_path: Path) -> None:
    assert throttling(*tree(tmp_path, own, files)) == Throttling(periods=29, seconds=1.5)


def test_a_measurement_that_the_quota_stopped_is_disturbed(monkeypatch: pytest.MonkeyPatch) -> None:
    counters = iter([Throttling(periods=3, seconds=0.1), Throttling(periods=32, seconds=1.6)])
    monkeypatch.setattr(conditions, "cpu_quota", lambda: 1.0)
    monkeypatch.setattr(conditions, "throttling", lambda: next(counters))
    before, after = quota_conditions(), quota_conditions()
    assert disturbances(before, after) == ["the container's CPU quota stopped it in 29 periods, for 1.50 s"]
    assert disturbances(after, after) == []


def test_machines_without_control_groups_say_nothing(tmp_path: Path) -> None:
    assert throttling(*tree(tmp_path, "0::/\n", {"cpu.stat": "garbage\nnr_throttled x\n"})) is None


@pytest.mark.parametrize("odd", ["x", "9" * 400, "9" * 5000, "-1", ""])
def test_counters_that_no_kernel_has_counted_to_are_none(odd: str, tmp_path: Path) -> None:
    assert throttling(*tree(tmp_path, "0::/\n", {"cpu.stat": f"nr_throttled {odd}\n"})) is None
    found = throttling(*tree(tmp_path, "0::/\n", {"cpu.stat": f"nr_throttled 5\nthrottled_usec {odd}\n"}))
    assert found == Throttling(periods=5, seconds=0)
