"""What unaligned ranks cost: the plan is fair to every class, known costs are found, and the command says them."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from costmodel.cli import run
from validate.cli import cli
from validate.probes.microbench import Microbench
from validate.probes.plan import Op
from validate.probes.rank_figure import rank_plot
from validate.probes.ranks import MULTIPLES, noise, rank_effects, rank_plan, rank_points
from validate.probes.records import OPS

LIMITS: dict[str, Any] = {"max_rows": 1024, "max_flops": 1e12, "max_bytes": 1e9, "element_bytes": 4}
COST = {1: 2.0, 2: 1.7, 4: 1.4, 8: 1.2, 16: 1.1, 32: 1.05}


def seconds_of(op: Op) -> float:
    """A device that is linear in the rank but for the classes of ranks, and those only where the rank is n."""
    rows, n, k = op[1]
    rank = min(n, k)
    cost = COST.get(rank & -rank, 1.0) if n < k else 1.0
    return (2e-6 + 1e-8 * rank * (1 + rows / 64)) * cost


def test_the_plan_places_every_class_about_the_middle() -> None:
    plan = rank_plan(**LIMITS)
    assert len(set(plan.gemms)) == len(plan.gemms) == 4 * 4 * 13 * 2
    ranks = {min(n, k) for _, n, k in plan.gemms}
    for multiple in MULTIPLES:
        own = [rank for rank in ranks if rank & -rank == multiple]
        assert np.mean([rank % 64 for rank in own]) == 32
        assert all({rank // 64 * 64, rank // 64 * 64 + 64} <= ranks for rank in own)
    assert max(m for m, _, _ in rank_plan(**{**LIMITS, "max_rows": 100}).gemms) == 16
    assert max(m for m, _, _ in rank_plan(**{**LIMITS, "max_flops": 1e9}).gemms) == 128
    assert not rank_plan(**{**LIMITS, "max_bytes": 1e5}).gemms


def test_known_costs_are_found() -> None:
    seconds = {op: seconds_of(op) for op in rank_plan(**LIMITS).ops}
    effects = rank_effects(rank_points(seconds))
    assert len(effects) == 2 * 4 * 6
    assert [each.role for each in effects] == ["n"] * 24 + ["k"] * 24
    for each in effects:
        assert each.points == (4 if each.multiple == 32 else 8)
        assert each.to_line == pytest.approx([COST[each.multiple] if each.role == "n" else 1.0] * 3)
        assert each.to_padded[1] < each.to_line[1]  # the next multiple does more work
    missing = {op: taken for op, taken in seconds.items() if op[1] != (1, 192, 4096)}
    assert len(rank_points(missing)) == len(rank_points(seconds)) - 11
    assert noise(seconds, {op: 1.02 * taken for op, taken in seconds.items()}) == pytest.approx(0.02, rel=0.05)


def test_the_command_says_what_ranks_cost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def times(self: Microbench, op: Op) -> Sequence[float]:
        return [seconds_of(op)] * 3

    monkeypatch.setattr(Microbench, "times", times)
    words = ["probe", "--plan", "ranks", "--passes", "2", "--hw", "amd-epyc-2t", "--threads", "1", "--device", "cpu"]
    out = tmp_path / "ranks"
    assert run(cli, [*words, "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "median time / time of the next multiple of 64" in printed
    line = next(each for each in printed.splitlines() if each.split()[:2] == ["n", "1"])
    medians = [float(each) for each in line.split()[2:]]
    assert len(medians) == 6
    assert medians == sorted(medians, reverse=True)
    rows = list(csv.DictReader((out / "ranks.csv").read_text().splitlines()))
    assert len(rows) == 2 * 4 * 4 * 11
    assert {row["role"] for row in rows} == {"n", "k"}
    assert b"<svg" in (out / "ranks.svg").read_bytes()
    assert len(OPS.read(out)) == 2 * 416
    assert run(cli, [*words, "--out", str(out)]) == 1
    assert "add --resume to continue it" in capsys.readouterr().err
    assert run(cli, [*words, "--out", str(out), "--resume", "--plan", "device"]) == 1
    assert "cannot resume with another plan: got 'device'; allowed: 'ranks'" in capsys.readouterr().err
    assert run(cli, [*words, "--out", str(out), "--resume"]) == 0  # all is there: said again


def test_the_figure_draws_what_there_is() -> None:
    effects = rank_effects(rank_points({op: seconds_of(op) for op in rank_plan(**LIMITS).ops}))
    picture = rank_plot(effects, "a device", "svg").decode()
    assert picture == rank_plot(effects, "a device", "svg").decode()
    for text in ("a device", "rows m", "largest power of two that divides the rank", "1024"):
        assert text in picture
