"""How a checkpoint holds weights that are not plain: in fewer bits with scales and zero points, or as factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from costmodel.units import DType

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Count = TypeVar("Count", int, "npt.NDArray[np.int64]", "npt.NDArray[np.float64]")


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightFormat:
    """The form of a checkpoint's decomposable weights, but for those that it leaves plain (`WeightTensor.plain`);
    arithmetic stays in the workload's type."""

    method: str
    """What made it, by the name that configurations give it: gptq, awq, bitsandbytes, fp8, ..."""
    dtype: DType
    """The nearest type by bits: int4, int8 or fp8."""
    bits: int
    """Of one weight."""
    group: int | None = None
    """Weights along k that share a scale, None for a whole row."""
    rows: int | None = 1
    """Output rows that share a scale, None for all of them."""
    scale_bits: int = 16
    """Of one scale."""
    zero_bits: int = 0
    """Of one zero point, 0 without."""
    embeddings: bool = False
    """Whether the token embedding and the LM head are held so, too."""

    @property
    def text(self) -> str:
        """In words: `awq: 4 bits a weight, a scale of 16 bits and a zero point of 4 for 128 of them`."""
        zero = f" and a zero point of {self.zero_bits}" if self.zero_bits else ""
        shared = f"{self.group} of them" if self.group else "each row"
        if self.rows is None:
            shared = "each matrix"
        elif self.rows > 1:
            shared = f"blocks of {self.rows} x {self.group}"
        return f"{self.method}: {self.bits} bits a weight, a scale of {self.scale_bits} bits{zero} for {shared}"

    def matrix_bytes(self, n: Count, k: Count) -> Count:
        """Bytes of an n x k weight with its scales and zero points; arrays broadcast."""
        rows = 1 * (n > 0) if self.rows is None else -(-n // self.rows)
        groups = 1 * (k > 0) if self.group is None else -(-k // self.group)
        return -(-n * k * self.bits // 8) + -(-rows * groups * (self.scale_bits + self.zero_bits) // 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class FactoredWeights:
    """What a folder of `validate apply` holds of the dense model that its config.json is of."""

    sites: tuple[tuple[int, str, str, tuple[int, int]], ...]
    """Layer of the dense model, name of the weight, form, and ranks after the first factor and before the last."""
    dropped: tuple[int, ...]
    """Layers of the dense model that are left out."""
