"""Names of the array types that the package passes around."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]
Choices = npt.NDArray[np.int64]
"""Configurations of a space as choice numbers, shape (configurations, places)."""
