"""How factors are computed: from the weights alone, or fitted to activations on a text too."""

from __future__ import annotations

from typing import Literal

Factors = Literal["plain", "whitened", "sequential", "fisher"]
FactorsUsed = Literal["none", "plain", "whitened", "sequential", "fisher"]
"""What a record says: none where nothing is factored."""

HELP = (
    "Of the weights alone (plain), or fitted to calibration text: to change outputs least (whitened), to give the "
    "dense outputs behind the layers factored before (sequential), or weighted by the loss's curvature (fisher)."
)
"""What `--factors` says of itself."""
