"""Data types by their size in bits, and numbers for human eyes. Everything inside is SI: 1 TB/s is 1e12 B/s."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping

from costmodel.errors import InputError

KIB = 1024
"""Binary prefix, for cache sizes only; capacities and rates are decimal."""


class DType(enum.Enum):
    """An element type; the value is its name in files and options."""

    FP32 = "fp32"
    TF32 = "tf32"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"
    INT8 = "int8"
    INT4 = "int4"

    bits: int
    """Bits that one element takes in memory; tf32 is stored as fp32."""

    __hash__ = object.__hash__  # members are singletons; Enum's own hash runs in Python, and hot paths look types up

    def bytes_for(self, count: int) -> int:
        """Bytes that `count` elements take, rounded up to a whole byte."""
        return -(-count * self.bits // 8)

    @classmethod
    def parse(cls, text: str, what: str = "dtype", allowed: tuple[DType, ...] | None = None) -> DType:
        """The type called `text`, common aliases (float16, bfloat16, half, ...) included.

        Raises:
            InputError: when there is no such type, or it is not among `allowed`.
        """
        choices = allowed or tuple(cls)
        name = _ALIASES.get(text.lower().removeprefix("torch."), text.lower())
        for choice in choices:
            if choice.value == name:
                return choice
        raise InputError(f"unknown {what}", value=text, allowed=", ".join(c.value for c in choices))


for _name, _bits in (("fp32", 32), ("tf32", 32), ("fp16", 16), ("bf16", 16), ("fp8", 8), ("int8", 8), ("int4", 4)):
    DType(_name).bits = _bits  # a plain attribute, since hot paths read it

_ALIASES = {"float32": "fp32", "float": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16", "float8": "fp8"}

COMPUTE_DTYPES = (DType.FP32, DType.TF32, DType.FP16, DType.BF16)
"""Types that activations and the KV cache can have here."""
RUN_DTYPES = (*COMPUTE_DTYPES, DType.FP8)
"""Types of a pass: in fp8 decomposable weights and what they multiply are fp8, everything else has 16 bits."""
WEIGHT_DTYPES = (*COMPUTE_DTYPES, DType.FP8, DType.INT8, DType.INT4)
"""Types that resident weights can have: the compute type, fp8, or weight-only int8 and int4."""
KV_DTYPES = (*COMPUTE_DTYPES, DType.FP8, DType.INT8)
"""Types that a KV cache can have."""
HALF_BYTES = 2

_PREFIXES = ((1e21, "Z"), (1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_DURATIONS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))


_UNIT_OF_SUFFIX = {
    "_pct": "%",
    "speedup": "x",
    "tokens_per_s": "tok/s",
    "_s": "s",
    "_bytes": "B",
    "_j": "J",
    "flops": "FLOP",
    "arithmetic_intensity": "FLOP/B",
}


def unit_of(name: str) -> str:
    """The unit that a quantity's name ends with: `unit_of("decode.latency_s") == "s"`; empty for a plain number."""
    return next((unit for suffix, unit in _UNIT_OF_SUFFIX.items() if name.endswith(suffix)), "")


def significant(value: float, digits: int, pad: bool = False) -> str:
    """`value` with that many significant digits, trailing zeros kept with `pad`: 13.80 for (13.8, 4, True)."""
    return f"{value:#.{digits}g}".rstrip(".") if pad and value else f"{value:.{digits}g}"


def si(value: float, unit: str, digits: int = 3, pad: bool = False) -> str:
    """`value` with a decimal prefix: `si(2.039e12, "B/s") == "2.04 TB/s"`; the prefix follows from the rounded value,
    so that 999,999 is 1 M and not 1000 k."""
    size = abs(float(f"{value:.{digits - 1}e}"))
    for factor, prefix in _PREFIXES:
        if factor <= size < 1e24:
            return f"{significant(value / factor, digits, pad)} {prefix}{unit}"
    return f"{significant(value, digits, pad and size >= 1)} {unit}"


def percent(share: float, digits: int = 1, *, signed: bool = False) -> str:
    """A share in per cent: `percent(0.123) == "12.3 %"`."""
    return f"{100 * share:{'+' if signed else ''}.{digits}f} %"


def seconds(value: float, digits: int = 4, pad: bool = False) -> str:
    """A duration in s, ms, us or ns: `seconds(0.00642) == "6.42 ms"`; from 10,000 s on in whole seconds."""
    size = abs(float(f"{value:.{digits - 1}e}"))
    if size >= 1e4:
        return f"{value:,.0f} s"
    for factor, unit in _DURATIONS:
        if size >= factor:
            return f"{significant(value / factor, digits, pad)} {unit}"
    return f"{value * 1e9:.{digits}g} ns" if value else "0 s"


_SCALES = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40}
_LONG = {"min": 60.0, "h": 3600.0}
_SMALL = {"": 1.0, "m": 1e-3, "u": 1e-6, "\N{MICRO SIGN}": 1e-6, "n": 1e-9}
_LEAST_BARE = {"%": 1.0, "B": 1e6}
"""Below this a number without a unit is more likely a share of 1, or gigabytes, than what it says."""
_AMOUNT = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|[+-]?(?:nan|inf))\s*(\D*)", re.ASCII)


def parse_amount(text: str, unit: str, what: str = "amount") -> float:
    """A number with a unit, in SI: `parse_amount("10ms", "s") == 0.01`; without one it is in `unit` itself.

    Prefixes of bytes are decimal, KiB to TiB binary; a B after a prefix may be left out: `24G`. Percent stay percent.
    Letters may be of either case where that leaves one meaning: `24gb` and `10MS`, not `5mj`. `unit` empty: a count,
    such as `7B` or `350M` parameters.

    Raises:
        InputError: when the text is no number, or has a unit of something else, or one that may mean two things.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if not match:
        raise InputError(f"{what}: not a number", value=text, allowed=_allowed(unit))
    known = _units(unit)
    name = match[2].strip()
    if unit == "B" and name.endswith("b") and name != name.lower():
        raise InputError(
            f"{what}: b after a capital letter is bits", value=text, hint=f"for bytes write {match[1]}{name[:-1]}B"
        )
    alike = [name] if name in known else [other for other in known if other.lower() == name.lower()]
    if not alike:
        raise InputError(f"{what}: not a unit of it", value=text, allowed=_allowed(unit))
    if len({known[other] for other in alike}) > 1:
        raise InputError(f"{what}: a unit that may mean two things", value=text, hint=f"write {' or '.join(alike)}")
    return float(match[1]) * known[alike[0]]


def require_unit(text: str, amount: float, unit: str, what: str) -> None:
    """Refuse a number alone that may mean two things: a share below 1 % (0.2: 20 %?), or bytes below 1 MB (24: GB?).

    Args:
        text: as `parse_amount` took it.
        amount: what it made of it.
        unit: "%" or "B".

    Raises:
        InputError: with both meanings written out.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or match[2].strip() or not 0 < amount < _LEAST_BARE[unit]:
        return
    meant = f"{amount:g}GB or {amount:g}B" if unit == "B" else f"{100 * amount:g}% or {amount:g}%"
    raise InputError(f"{what} without a unit may mean two things", value=text, hint=f"write {meant}")


def _units(unit: str) -> Mapping[str, float]:
    """What may follow a number of a quantity, and the factor to SI."""
    if unit == "B":
        scales = _SCALES | _BINARY
        return scales | {f"{prefix}{letter}": factor for prefix, factor in scales.items() for letter in ("B", "b")}
    if unit in ("s", "J"):
        scales = _SMALL | ({} if unit == "s" else {"k": 1e3, "M": 1e6})
        names = {"": 1.0, **{f"{prefix}{unit}": factor for prefix, factor in scales.items()}}
        return names | (_LONG if unit == "s" else {})
    if unit == "nats":
        return {"": 1.0, "nat": 1.0, "nats": 1.0}
    if unit:
        return {"": 1.0, unit: 1.0, **{f"{prefix}{unit}": factor for prefix, factor in _SCALES.items()}}
    return _SCALES | {"B": 1e9}


def _allowed(unit: str) -> str:
    """Examples of what `parse_amount` takes."""
    examples = {
        "B": "24GB, 512MiB or bytes",
        "s": "10ms, 2.5s, 5min or seconds",
        "%": "20% or 20",
        "J": "5J, 200mJ or joules",
        "nats": "nats such as 0.05, which is 5 % more perplexity",
    }
    return examples.get(unit, f"a number{f', in {unit}' if unit else ', such as 7B or 350M'}")
