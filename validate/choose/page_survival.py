"""What survives measurement, and how far the search believed too much, as a section of the loop's page. No torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from validate.choose.figures import optimism_plot
from validate.choose.optimism import Optimism
from validate.choose.verdict import Verdict
from validate.interval import interval_text
from validate.pages.markup import Picture, Table
from validate.quality.intervals import mean


def survival_section(verdict: Verdict) -> dict[str, Any]:
    """What the section of the page shows."""
    survival, optimism = verdict.survival, verdict.optimism
    lines = [
        f"Of the measured points of the predicted frontiers {survival.share(survival.survived)} survive: no other "
        "measured configuration costs no more, as measured, and loses less clear of the interval of the difference. "
        f"No baseline does so to {survival.share(survival.baselines)}. Without intervals "
        f"{survival.share(survival.plain)} are not equalled or beaten in both; where costs too have to differ beyond "
        f"their intervals, {survival.share(survival.clear)} are not beaten."
    ]
    if optimism is not None:
        lines += [
            f"Measured minus predicted increase of NLL, mean over {_predicted_points(optimism)} with an interval over "
            "them: "
            f"{interval_text(optimism.search)} nats on the half that was searched on, {interval_text(optimism.verify)} "
            "on the other. Above 0 the search believed too much of what it chose. Predictions times the ratio of sums "
            f"on the first half leave {interval_text(optimism.left)} nats on the other.",
            f"Corrected estimate: {interval_text(optimism.factor, 2, signed=False)} times the predicted change. The "
            f"mean error over the points goes from {optimism.error:.3f} to {optimism.corrected:.3f} nats, each "
            "corrected by the others.",
        ]
    return {
        "lines": lines,
        "rounds": _rounds(verdict),
        "figure": Picture.of(
            lambda theme, narrow: optimism_plot(verdict.results, theme, narrow=narrow),
            "On the line the prediction holds.",
        ),
    }


def _predicted_points(optimism: Optimism) -> str:
    left_out = f" ({optimism.left_out} of dropped layers alone, whose loss the search was told, left out)"
    return f"{optimism.points} points" + (left_out if optimism.left_out else "")


def _rounds(verdict: Verdict) -> Table:
    rows = []
    for number, each in enumerate(verdict.results.rounds, 1):
        if each.predicted:
            gaps = [mine - guess for mine, guess in zip(each.measured, each.predicted, strict=True)]
            rows.append(
                [
                    number,
                    len(gaps),
                    f"{np.mean(each.predicted):.3f}",
                    f"{np.mean(each.measured):.3f}",
                    interval_text(mean(gaps)),
                ]
            )
    columns = ("search", "points", "predicted, mean", "measured, mean", "measured minus predicted")
    return Table(columns=columns, rows=rows)
