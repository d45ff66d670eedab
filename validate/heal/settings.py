"""The settings of a healing, with the words that the command line has for them."""

from __future__ import annotations

from dataclasses import dataclass

from validate.store.settings import MAX_SEED, DeviceChoice, option


@dataclass(frozen=True, slots=True, kw_only=True)
class HealSettings:
    """Options of `validate heal` beside what it is about."""

    steps: int = option(200, "Steps of the optimiser.", low=1, high=1_000_000)
    rate: float = option(1e-4, "Learning rate at the first step; it falls to 0 by a cosine.", low=1e-9, high=1.0)
    blocks: int = option(256, "Blocks of the text to learn from.", low=1, high=1_000_000)
    judge_blocks: int = option(64, "Blocks of the text to judge on.", low=2, high=1_000_000)
    length: int | None = option(
        None, "Tokens of a block.  [default: 256, or the most that the model takes]", low=2, high=1_000_000
    )
    batch: int = option(4, "Blocks of a step.", low=1, high=4096)
    keep_every: int = option(50, "Steps after which the state is kept, to continue from.", low=1, high=1_000_000)
    seed: int = option(0, "Of the order of blocks.", low=0, high=MAX_SEED)
    device: DeviceChoice = option("auto", "auto takes CUDA where there is one.")
