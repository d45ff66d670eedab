"""What a calibration from whole passes says of its own reach: the range measured, and the interval of its errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from costmodel.arrays import Floats
from costmodel.files.node import Node
from costmodel.forward.workload import Workload
from costmodel.model import ModelSpec
from costmodel.timing.columns import OpColumns

CLASSES = ("gemm", "attention", "other")
"""Classes of operations that have factors of their own, as `class_masks` tells them apart."""
REACH_KEYS = ("interval", "range")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """Where the fit holds, and how well.

    Attributes:
        low, high: 90 % of measured passes take between exp(low) and exp(high) times what is predicted.
        tokens, kv_len: least and most that were measured.
        models: what was measured.
    """

    low: float = 0.0
    high: float = 0.0
    tokens: tuple[float, float] = (1, 1)
    kv_len: tuple[float, float] = (1, 1)
    models: tuple[str, ...] = ()

    def outside(self, model: ModelSpec, work: Workload) -> list[str]:
        """One line per way in which a pass leaves what was measured."""
        texts = []
        for name, value, (low, high) in (
            ("batch x length", work.tokens, self.tokens),
            ("kv_len", work.kv_len, self.kv_len),
        ):
            if not low <= value <= high:
                texts.append(f"{name} {value} is outside the {low:g} to {high:g} that were measured")
        if model.name not in self.models:
            texts.append(f"measured on {', '.join(self.models)}, taken to hold for {model.name}")
        return texts

    def to_json(self) -> dict[str, Any]:
        """The file's keys REACH_KEYS."""
        return {
            "interval": {"low": self.low, "high": self.high},
            "range": {"tokens": list(self.tokens), "kv_len": list(self.kv_len), "models": list(self.models)},
        }


def read_reach(part: Mapping[str, Node]) -> Reach:
    """The reach in a file whose keys are `part`.

    Raises:
        CalibrationError: one line that names the key, the value found and what is allowed.
    """
    interval, limits = part["interval"].table(["low", "high"]), part["range"].table(["tokens", "kv_len", "models"])
    return Reach(
        low=interval["low"].number(-10, 0),
        high=interval["high"].number(0, 10),
        tokens=_limits(limits["tokens"]),
        kv_len=_limits(limits["kv_len"]),
        models=tuple(node.text() for node in limits["models"].items()),
    )


def class_masks(ops: OpColumns) -> Floats:
    """1 where an operation is of a class, else 0: float64 (classes, ...), in the order of CLASSES."""
    gemm = ops.k > 0
    attention = ~gemm & (np.asarray(ops.kind) == "attention")
    return np.stack([gemm, attention, ~gemm & ~attention]).astype(np.float64)


def _limits(node: Node) -> tuple[float, float]:
    low, high = node.array((2,), 1).tolist()
    if low > high:
        raise node.wrong("least and most")
    return low, high
