"""A few numbers of each site, for people and for scripts that need no spectra. No torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from costmodel.decomposition.factors import break_even_rank
from validate.sensitivity.file import Sensitivity
from validate.sensitivity.spectra import Floats

_SMALL = 0.05
"""Relative output error that a rank is asked for."""


def site_rows(found: Sensitivity) -> list[dict[str, Any]]:
    """One row a site: its shape, stable rank, errors at half the break-even rank, and the ranks of 5 % error.

    Errors are the expected squared output error in percent of the dense outputs' energy; `loss` columns, in nats, are
    there with gradients only.
    """
    rows = []
    for site, spectra in found.sites.items():
        tensor = found.spec.tensor(site.tensor, site.layer)
        rank = max(1, break_even_rank(tensor.out_features, tensor.in_features, "svd") // 2)
        plain, whitened = (spectra.errors(measure, relative=True) for measure in ("plain_output", "whitened"))
        row: dict[str, Any] = {
            "site": str(site),
            "out_features": tensor.out_features,
            "in_features": tensor.in_features,
            "stable_rank": spectra.stable_rank,
            "rank": rank,
            "frobenius_pct": 100 * float(spectra.errors("plain", relative=True)[rank]),
            "plain_output_pct": 100 * float(plain[rank]),
            "whitened_pct": 100 * float(whitened[rank]),
            "plain_rank_5pct": _rank_of(plain),
            "whitened_rank_5pct": _rank_of(whitened),
        }
        for factors in ("plain", "whitened"):
            changes = spectra.loss_changes(factors)
            if changes is not None:
                row[f"loss_slope_{factors}"] = float(changes[0][rank])
                row[f"loss_curvature_{factors}"] = float(changes[1][rank])
        rows.append(row)
    return rows


def _rank_of(relative: Floats) -> int:
    """The least rank whose error is small; errors of plain truncation on outputs never rise with the rank either."""
    return int(np.argmax(relative <= _SMALL))
