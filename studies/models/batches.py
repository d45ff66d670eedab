"""The batch of every step, as a function of the step alone: a run that continues needs no state of its data."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from costmodel.errors import InputError
from validate.models.blocks import IGNORED, MASKED_SHARE

EVALUATED = MASKED_SHARE
"""Share of positions that is asked for in evaluation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Batches:
    """Blocks of one row of tokens: each epoch cuts at another offset and goes in another order.

    Attributes:
        tokens: int64 (tokens,).
        length: of a block.
        batch: blocks of a step.
        seed: of offsets and orders.
    """

    tokens: torch.Tensor
    length: int
    batch: int
    seed: int

    @property
    def steps_of_epoch(self) -> int:
        """Steps until every block was seen; a rest that fills no batch is left out.

        Raises:
            InputError: when the text does not fill one batch.
        """
        steps = (len(self.tokens) // self.length - 1) // self.batch
        if steps < 1:
            needed = f"at least {(self.batch + 1) * self.length:,} tokens"
            raise InputError("text too short to train on", value=f"{len(self.tokens):,} tokens", allowed=needed)
        return steps

    def at(self, step: int) -> torch.Tensor:
        """The blocks of a step counted from 0: int64 (batch, length)."""
        epoch, index = divmod(step, self.steps_of_epoch)
        source = generator(self.seed, epoch)
        offset = int(torch.randint(self.length, (), generator=source))
        order = torch.randperm(len(self.tokens) // self.length - 1, generator=source)
        starts = offset + self.length * order[index * self.batch : (index + 1) * self.batch]
        return self.tokens[starts[:, None] + torch.arange(self.length)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Masker:
    """Turns blocks into what a masked model sees: special tokens at both ends, a share of the others hidden.

    Attributes:
        first, last, mask: ids of [CLS], [SEP] and [MASK].
        vocab_size: random tokens come from all of it but the special ones, which are its first five.
        share: of positions that are asked for in training; 15 % in evaluation.
    """

    first: int
    last: int
    mask: int
    vocab_size: int
    share: float

    def wrap(self, blocks: torch.Tensor) -> torch.Tensor:
        """(blocks, length) to (blocks, length + 2)."""
        first, last = (torch.full((len(blocks), 1), each) for each in (self.first, self.last))
        return torch.cat([first, blocks, last], dim=1)

    def train(self, blocks: torch.Tensor, seed: int, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets, both (blocks, length + 2): of the positions asked for 80 % are masked, 10 % random and
        10 % left as they are (Devlin et al. 2019, section 3.1)."""
        source = generator(seed, step, 1)
        inputs, targets, chosen = self._choose(blocks, self.share, source)
        kind = torch.rand(inputs.shape, generator=source)
        random = torch.randint(5, self.vocab_size, inputs.shape, generator=source)
        inputs[chosen & (kind < 0.8)] = self.mask
        spoiled = chosen & (kind >= 0.8) & (kind < 0.9)
        inputs[spoiled] = random[spoiled]
        return inputs, targets

    def evaluate(self, blocks: torch.Tensor, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Inputs and targets, both (blocks, length + 2), with every position asked for masked."""
        inputs, targets, chosen = self._choose(blocks, EVALUATED, generator(seed, 2))
        inputs[chosen] = self.mask
        return inputs, targets

    def _choose(
        self, blocks: torch.Tensor, share: float, source: torch.Generator
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        inputs = self.wrap(blocks)
        chosen = torch.rand(inputs.shape, generator=source) < share
        chosen[:, [0, -1]] = False
        return inputs, torch.where(chosen, inputs, IGNORED), chosen


def generator(*seeds: int) -> torch.Generator:
    """A source of random numbers for each row of seeds."""
    mixed = 0
    for each in seeds:
        mixed = (mixed * 1_000_003 + each + 1) % (1 << 62)
    return torch.Generator().manual_seed(mixed)
