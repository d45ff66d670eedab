"""The settings of a sensitivity run, with the words that the command line has for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from validate.store.settings import MAX_SEED, DeviceChoice, option


@dataclass(frozen=True, slots=True, kw_only=True)
class SensitivitySettings:
    """Options of `validate sensitivity` beside what it is about; None for what suits the model."""

    blocks: int = option(32, "Blocks of text, spread over the file.", low=1, high=100_000)
    length: int | None = option(
        None, "Tokens of a block.  [default: 512, or what the model can take]", low=2, high=1_000_000
    )
    batch: int = option(8, "Blocks that run together.", low=1, high=4096)
    fisher: bool = option(
        False,
        "Also how the loss answers, from its gradients: takes two to three times as long, and the hidden states before "
        "every layer on disk.",
    )
    seed: int = option(0, "Of the tokens that are masked for an encoder.", low=0, high=MAX_SEED)
    device: DeviceChoice = option("auto", "auto takes CUDA where there is one.")
    dtype: Literal["auto", "fp32", "bf16", "fp16"] = option(
        "auto", "That layers compute in; auto: fp32. Sums and factorisations are in fp64."
    )
