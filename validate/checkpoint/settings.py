"""The settings of a factored checkpoint, with the words that the command line has for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from validate.factors.kinds import HELP, Factors
from validate.store.settings import DeviceChoice, option


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplySettings:
    """Options of `validate apply` beside checkpoint and configuration."""

    factors: Factors = option("plain", HELP)
    calibration_text: Path | None = option(None, "UTF-8 text to fit factors to.", metavar="FILE")
    blocks: int = option(64, "Blocks of calibration text.", low=1, high=100_000)
    length: int | None = option(
        None, "Tokens of a block.  [default: 256, or what the model can take]", low=2, high=100_000
    )
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", "Of the weights written; auto keeps the checkpoint's."
    )
    weight_dtype: Literal["int8"] | None = option(
        None, "Of the linears of the layers, factored or not: int8 with a scale for each output."
    )
    merged: bool = option(False, "Write the products of the factors under the names of the dense weights.")
    max_shard_size: str = option("5GB", "Of one file of weights; memory holds about one, or two.", metavar="SIZE")
    device: DeviceChoice = option("auto", "Where weights are factored; auto takes CUDA where there is one.")
