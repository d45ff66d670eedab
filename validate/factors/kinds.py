"""How factors are computed: from the weights alone, or fitted to activations on a text too."""

from __future__ import annotations

from typing import Literal

Factors = Literal["plain", "whitened"]
FactorsUsed = Literal["none", "plain", "whitened"]
"""What a record says: none where nothing is factored."""
