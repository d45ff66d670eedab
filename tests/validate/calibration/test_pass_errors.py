"""The error table of a calibration from whole passes, row by row against what was measured."""

from __future__ import annotations

import math

import pytest
from validating import sample

from validate.calibration.whole.pass_errors import RATIO, pass_rows
from validate.speed.metrics import NULL_MODELS, evaluate

RANKS = (3, 6, 12, 24)
RATIOS = (0.5, 0.625, 0.8, 1.25)
FIGURES = ("bias_pct", "mean_pct", "median_pct", "p95_pct", "worst_pct")


def three(figure: float) -> float:
    """With three significant digits, as files hold figures."""
    return float(f"{figure:.3g}")


def test_a_second_measurement_says_the_noise_of_one() -> None:
    """Two measurements of a ratio part by sqrt 2 of the noise of each: of ln 2 and of -ln 4."""
    samples = [
        sample(["rank=3"], 0.8, index=0, repeat=0.4),
        sample(["rank=6"], 0.5, index=1, repeat=2.0),
        sample(["rank=12"], 0.9, index=2),
    ]
    (row,) = [row for row in pass_rows(samples, {}) if row["protocol"].startswith("noise")]
    one, two = math.log(2) / math.sqrt(2), math.log(4) / math.sqrt(2)
    assert row == {
        "kind": "pass",
        "subset": RATIO,
        "protocol": "noise floor: measured a second time",
        "points": 2,
        "bias_pct": three(100 * (one - two) / 2),
        "mean_pct": three(100 * (one + two) / 2),
        "median_pct": three(100 * (one + two) / 2),
        "p95_pct": three(100 * (one + 0.95 * (two - one))),
        "worst_pct": three(100 * two),
    }


def test_seconds_and_ratios_of_each_protocol_are_beside_the_null_models() -> None:
    """Dense passes take 10 ms and are said to take 11; of the second protocol one pass is known, and it is right."""
    samples = [
        sample([f"rank={rank}"], ratio, index=index, id=str(rank))
        for index, (rank, ratio) in enumerate(zip(RANKS, RATIOS, strict=True))
    ]
    off = {str(rank): (0.011, 0.01 * ratio) for rank, ratio in zip(RANKS, RATIOS, strict=True)}
    levels = {"ours": off, "theirs": {"12": (0.01, 0.008)}, "nobody's": {}}
    rows = pass_rows(samples, levels)
    seconds = {row["protocol"]: row for row in rows if row["subset"] == "seconds"}
    assert list(seconds) == ["ours", "theirs"]
    assert {row["kind"] for row in rows} == {"pass"}
    ours, theirs = seconds.values()
    assert ours["points"] == 8
    assert [ours[name] for name in FIGURES] == [5, 5, 5, 10, 10]
    assert theirs["points"] == 2
    assert [theirs[name] for name in FIGURES] == pytest.approx([0] * 5, abs=1e-9)
    ratios = {row["protocol"]: row for row in rows if row["subset"] == RATIO}
    assert list(ratios)[:2] == ["ours", "theirs"]
    assert set(ratios) >= {f"null model: {name}" for name in NULL_MODELS}
    assert not any("noise" in name for name in ratios)
    assert [ratios["ours"][name] for name in FIGURES] == [three(100 * (1 / 1.1 - 1)), *[three(100 / 11)] * 4]
    known = {row.name: row for row in evaluate(samples, levels).ratios}
    for name, row in ratios.items():
        one = known[name.removeprefix("null model: ")]
        assert (row["points"], row.get("tau")) == (one.count, None if one.tau is None else round(one.tau, 3))
        assert ("sign_pct" in row) == ("signs" in row) == (one.sign_right is not None)
        if one.sign_right is not None:
            assert (row["sign_pct"], row["signs"]) == (float(f"{100 * one.sign_right:.4g}"), one.decided)
    assert ratios["ours"]["tau"] == 1
    assert "tau" not in ratios["theirs"]
