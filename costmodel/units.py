"""Data types by their size in bits, and numbers for human eyes. Everything inside is SI: 1 TB/s is 1e12 B/s."""

from __future__ import annotations

import enum

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

    @property
    def bits(self) -> int:
        """Bits that one element takes in memory; tf32 is stored as fp32."""
        return _BITS[self]

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


_BITS = {
    DType.FP32: 32, DType.TF32: 32, DType.FP16: 16, DType.BF16: 16, DType.FP8: 8, DType.INT8: 8, DType.INT4: 4,
}  # fmt: skip
_ALIASES = {"float32": "fp32", "float": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16", "float8": "fp8"}

COMPUTE_DTYPES = (DType.FP32, DType.TF32, DType.FP16, DType.BF16)
"""Types that activations and the KV cache can have here."""
WEIGHT_DTYPES = (*COMPUTE_DTYPES, DType.INT8, DType.INT4)
"""Types that resident weights can have: the compute type, or weight-only int8 and int4."""

_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


def si(value: float, unit: str, digits: int = 3) -> str:
    """`value` with a decimal prefix: `si(2.039e12, "B/s") == "2.04 TB/s"`."""
    for factor, prefix in _PREFIXES:
        if abs(value) >= factor * 0.9995:
            return f"{value / factor:.{digits}g} {prefix}{unit}" if abs(value) < 1e18 else f"{value:.{digits}e} {unit}"
    return f"{value:.{digits}g} {unit}"


def seconds(value: float, digits: int = 4) -> str:
    """A duration in s, ms, us or ns: `seconds(0.00642) == "6.42 ms"`."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if abs(value) >= factor * 0.99995:
            return f"{value / factor:.{digits}g} {unit}"
    return f"{value * 1e9:.{digits}g} ns"
