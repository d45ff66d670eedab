"""The error table of a calibration from whole passes: every level beside the null models and the noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from validate.calibration.shaped import rounded
from validate.speed import statistics
from validate.speed.metrics import NULL_MODELS, Predicted, evaluate, measured
from validate.speed.records import Sample

RATIO = "ratio to dense"


def pass_rows(samples: Sequence[Sample], levels: Mapping[str, Predicted]) -> list[dict[str, Any]]:
    """Rows of the errors of the predicted ratio to dense, then of predicted seconds.

    Args:
        samples: those fitted to.
        levels: predictions by protocol, the fit's own first; the datasheet's are those that the records carry.
    """
    found = evaluate(samples, levels)
    order = [*levels, *(row.name for row in found.ratios if row.name not in levels)]
    rows = [
        {
            "kind": "pass",
            "subset": RATIO,
            "points": row.count,
            "protocol": f"null model: {row.name}" if row.name in NULL_MODELS else row.name,
            **_percent(row.to_json()),
            **({} if row.tau is None else {"tau": round(row.tau, 3)}),
            **({} if row.sign_right is None else {"sign_pct": rounded(100 * row.sign_right, 4), "signs": row.decided}),
        }
        for row in sorted(found.ratios, key=lambda row: order.index(row.name))
    ]
    repeats = [
        math.log(measured(each).ratio / each.repeat.ratio) / math.sqrt(2) for each in samples if each.repeat is not None
    ]
    if repeats:
        rows.append(
            {
                "kind": "pass",
                "subset": RATIO,
                "protocol": "noise floor: measured a second time",
                "points": len(repeats),
                **_percent(statistics.summary(repeats)),
            }
        )
    for name, predicted in levels.items():
        errors = [
            value / seconds.median_s - 1
            for sample in samples
            if sample.id in predicted
            for value, seconds in zip(
                predicted[sample.id], (measured(sample).dense, measured(sample).candidate), strict=True
            )
        ]
        if errors:
            summary = _percent(statistics.summary(errors))
            rows.append({"kind": "pass", "subset": "seconds", "protocol": name, "points": len(errors), **summary})
    return rows


def _percent(row: Mapping[str, Any]) -> dict[str, float]:
    """Error figures in percent."""
    return {f"{name}_pct": rounded(100 * row[name], 3) for name in ("mean", "median", "p95", "bias", "worst")}
