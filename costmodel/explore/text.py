"""Numbers of an exploration as short text: values with units, and a histogram in one line."""

from __future__ import annotations

import math
from collections.abc import Sequence

from costmodel.units import seconds, si, unit_of

_LEVELS = " ▁▂▃▄▅▆▇█"


def objective_text(name: str, value: float) -> str:
    """A value of the objective called `name`, with the unit that its name says."""
    match unit_of(name):
        case "%":
            return f"{value:.3f} %"
        case "x":
            return f"{value:.3f}x"
        case "tok/s":
            return f"{value:,.4g} tok/s"
        case "s":
            return seconds(value)
        case "B" | "J" as unit:
            return si(value, unit, 4)
    if name.endswith("params"):
        return si(value, "", 4).rstrip()
    return f"{value:,}" if isinstance(value, int) else f"{value:.5g}"


def count_text(count: int) -> str:
    """A count in full up to 18 digits, else as 1.535e26."""
    if count < 10**18:
        return f"{count:,}"
    digits = str(count)
    exponent = len(digits) - 1
    mantissa = round(int(digits[:6]) / 10**5, 3)
    return f"{mantissa:.3f}e{exponent}" if mantissa < 10 else f"1.000e{exponent + 1}"


def bars(counts: Sequence[int], width: int) -> str:
    """A histogram as one line of blocks, neighbouring bins joined until they are no more than `width`; a bin with any
    configuration shows at least the lowest block."""
    step = max(1, -(-len(counts) // width))
    counts = [sum(counts[start : start + step]) for start in range(0, len(counts), step)]
    highest = max(counts, default=0)
    if not highest:
        return ""
    return "".join(_LEVELS[math.ceil(8 * count / highest)] if count < highest else _LEVELS[8] for count in counts)
