"""How a mixture of experts spreads tokens: rows of each expert, and of the experts of the busiest device.

Balanced: all experts get the same number of rows, within one. Power law of exponent a: the loads of experts are the
quantiles of a density x^-a between two ends, scaled to the number of rows: what benchmarks of serving engines draw at
random. Experts are then dealt to the devices of expert parallelism at random, and the busiest device sets the time.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Floats
from costmodel.errors import InputError

BALANCED = "balanced"
POWER_LAW = "power_law_"
TILES = (16, 64, 128)
"""Rows that kernels compute at once, of which a tile of an expert's own may be part empty."""
_DEALS = 8
"""Random deals of experts to devices that an answer is the mean of."""
_MOST_EXPONENT = 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """Work of the busiest device of one layer.

    Attributes:
        rows: products of a token and an expert that it computes.
        experts: of those, the ones that get any row, whose weights are read.
        tiled: `rows` with each expert's rounded up to each of TILES.
    """

    rows: float
    experts: float
    tiled: tuple[float, ...]


def expert_rows(tokens: int, top_k: int, experts: int, distribution: str) -> Floats:
    """Rows of each expert, largest first, whole numbers that add up to tokens x top_k; float64 (experts,).

    Raises:
        InputError: when the distribution is none, or a token has more experts than there are.
    """
    if not 1 <= top_k <= experts:
        raise InputError("experts per token", value=top_k, allowed=f"1 to {experts}, the number of experts")
    exponent, total = exponent_of(distribution), tokens * top_k
    if exponent is None:
        rows = np.full(experts, total // experts, dtype=np.float64)
        rows[: total % experts] += 1
        return rows
    low, high = (1.0, max(0.8 * tokens, 1.001)) if total > experts else (0.01, 2.0)
    share, power = (np.arange(experts)[::-1] + 0.5) / experts, 1 - exponent
    if abs(power) < 1e-9:
        wanted = low * (high / low) ** share
    else:
        wanted = ((high**power - low**power) * share + low**power) ** (1 / power)
    wanted *= total / wanted.sum()
    while wanted.max() > tokens * (1 + 1e-9):  # no token takes an expert twice
        full = wanted >= tokens
        wanted[~full] *= (total - tokens * full.sum()) / wanted[~full].sum()
        wanted[full] = tokens
    rows = np.floor(wanted + 1e-9)
    left = round(total - rows.sum())
    rows[np.argsort(rows - wanted, kind="stable")[:left]] += 1
    return np.sort(rows)[::-1]


def exponent_of(distribution: str) -> float | None:
    """The exponent of `power_law_A`; None of `balanced`.

    Raises:
        InputError: when it is neither.
    """
    if distribution == BALANCED:
        return None
    try:
        exponent = float(distribution.removeprefix(POWER_LAW)) if distribution.startswith(POWER_LAW) else float("nan")
    except ValueError:
        exponent = float("nan")
    if not 0 <= exponent <= _MOST_EXPONENT:
        raise InputError(
            "unknown distribution", value=distribution, allowed=f"{BALANCED}, or {POWER_LAW}1.2 and the like"
        )
    return exponent


@functools.lru_cache(maxsize=1 << 16)
def routed(tokens: int, top_k: int, experts: int, devices: int, distribution: str) -> Routed:
    """The busiest of `devices` that share the experts evenly.

    Raises:
        InputError: as `expert_rows`, or when the devices do not divide the experts.
    """
    if devices < 1 or experts % devices:
        raise InputError("expert parallel devices", value=devices, allowed=f"a divisor of {experts}, the experts")
    rows = expert_rows(tokens, top_k, experts, distribution)
    if devices == 1 or distribution == BALANCED:
        deals = [rows[::devices]]
    else:
        rng = np.random.default_rng(0)
        dealt = [rows[rng.permutation(experts)].reshape(devices, -1) for _ in range(_DEALS)]
        deals = [each[each.sum(axis=1).argmax()] for each in dealt]
    return Routed(
        rows=float(np.mean([each.sum() for each in deals])),
        experts=float(np.mean([(each > 0).sum() for each in deals])),
        tiled=tuple(float(np.mean([(np.ceil(each / tile) * tile).sum() for each in deals])) for tile in TILES),
    )
