"""Fits of stacks: rows that are judged had no part in what judges them, and intervals hold what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from costmodel.hardware.stack import builtin_stacks
from studies.stacks.components import Passes, Point, document, laboratory
from studies.stacks.figures import fit
from studies.stacks.leave_out import in_sample, left_out
from studies.stacks.spread import interval, spread
from studies.stacks.table import KNOWN, asked_lines, coverage_text, stack_lines

SOURCES = ("a/one x", "a/two x", "b/one x", "c/one x")


def point(source: str, size: float, factor: float) -> Point:
    """A row whose kernels take `size` seconds, measured at `factor` times what kernels alone take."""
    seconds = size * np.array([[0.6, 0.2, 0.0, 0.2]])
    passes = Passes(
        weights=np.ones(1),
        seconds=seconds,
        fixed=np.zeros((1, 4)),
        launches=np.full((1, 4), 10.0),
        reads=np.zeros(1),
        slowness=1.0,
        host_spread=0.1,
        low=0.05,
        high=0.05,
        level="probes",
        roofline_s=size,
        measured_s=size * factor,
    )
    return Point(stack="graph", kind="graph", source=source, laboratory=laboratory(source), device="d", passes=passes)


def points(seed: int = 0) -> list[Point]:
    rng = np.random.default_rng(seed)
    found = []
    for source in SOURCES:
        shift = rng.normal(0.0, 0.1)
        found += [point(source, size, float(np.exp(shift + rng.normal(0.0, 0.02)))) for size in (0.1, 1.0, 3.0)]
    return found


@pytest.mark.parametrize("by", ["source", "laboratory"])
def test_what_a_left_out_group_measured_changes_nothing_that_judges_it(by: str) -> None:
    rows = points()
    group = getattr(rows[0], by)
    inside = [getattr(row, by) == group for row in rows]
    moved = [
        replace(row, passes=replace(row.passes, measured_s=7 * row.passes.measured_s)) if own else row
        for row, own in zip(rows, inside, strict=True)
    ]
    before, after = (left_out(each, lambda row: str(getattr(row, by))) for each in (rows, moved))
    own = np.array(inside)
    assert (1 + after.errors[own]) * 7 == pytest.approx(1 + before.errors[own], rel=1e-12)
    assert np.array_equal(before.low[own], after.low[own])
    assert np.array_equal(before.high[own], after.high[own])
    assert not np.allclose(before.errors[~own], after.errors[~own])


def test_intervals_of_sources_left_out_hold_about_nine_tenths() -> None:
    held = [float(left_out(points(seed), lambda row: row.source).inside.mean()) for seed in range(8)]
    assert 0.8 <= float(np.mean(held)) <= 1.0


def test_a_source_counts_once_however_many_rows_it_has() -> None:
    rows = points()
    errors = in_sample(rows).errors
    twice = [row for row in rows if row.source == SOURCES[0]]
    assert spread("graph", rows + twice, np.append(errors, errors[:3])) == pytest.approx(spread("graph", rows, errors))
    assert spread("unknown", rows, errors) > 0


def test_a_launch_bound_row_takes_the_hosts_term_and_not_the_kernels() -> None:
    (row,) = [point("a x", 1e-6, 1.0)]
    figures = fit([row])("graph", "graph")
    device, launched = interval(row, 0.1, figures), interval(row, 0.1, np.append(figures[:4], [1e4, 0.0, 0.0]))
    assert device[0] == pytest.approx(np.hypot(0.05, 1.6449 * 0.1), rel=1e-3)
    assert launched[0] == pytest.approx(1.6449 * np.hypot(0.1, 0.1), rel=1e-3)


def test_runs_of_one_folder_are_one_source() -> None:
    assert document("Lab Device/one.json") == document("Lab Device/two.json") == "Lab Device"
    assert document("Lab docs/page.md") == "Lab docs/page.md"


def test_the_page_of_calibrations_and_the_error_table_show_the_rows_that_were_kept() -> None:
    root = Path(__file__).resolve().parents[2]
    page = (root / "docs" / "calibration.md").read_text(encoding="utf-8")
    assert "\n".join(stack_lines()) in page
    assert coverage_text() in " ".join(page.split())
    assert "\n".join(asked_lines()) in (root / "hw_profiles" / "calibrations" / "ERRORS.md").read_text(encoding="utf-8")
    assert set(KNOWN) <= set(builtin_stacks())


def test_the_front_page_and_the_page_of_calibrations_say_what_the_error_table_says() -> None:
    root = Path(__file__).resolve().parents[2]
    errors = (root / "hw_profiles" / "calibrations" / "ERRORS.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip() for cell in line.split("|")] for line in errors.splitlines() if line.startswith("| whole passes")
    ]
    held = {row[2]: row for row in rows if row[3] == "source left out"}
    launched, engines = (f"calibrated devices, {how}" for how in ("launched by the host", "engines and graphs"))
    means = [f"{float(held[name][5]):.1f}" for name in ("all", launched, engines, "devices without a calibration")]
    page = (root / "docs" / "calibration.md").read_text(encoding="utf-8")
    assert f"| {'; '.join(means)} %; a factor on the roofline" in page
    mean, middle = float(held["all"][5]), float(held["all"][6])
    readme = (root / "README.md").read_text(encoding="utf-8")
    assert f"source left out | {mean:.0f} % in the mean, {middle:.1f} % in the median |" in readme
