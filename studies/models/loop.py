"""The training loop: a fixed number of steps that can be interrupted after any of them and gives the same weights."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from studies.models.batches import IGNORED, Batches, Masker
from studies.models.optimizer import Optimizer
from studies.models.recipe import Recipe
from studies.models.state import Point, State, load_state, save_state
from validate.errors import MeasurementError

Watch = Callable[[State], None]
SAVE_S = 60.0
"""Seconds between saves of the state: an interruption loses no more than those."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """One training: what to learn from, what to check against, where to keep the state.

    Attributes:
        recipe: model and steps.
        batches: blocks of the training part; for a masked model two tokens shorter than the recipe's sequences.
        masker: None for a causal model.
        check: loss of the model on a fixed part of the held-out text, nats per token.
        folder: of the state; None keeps none.
        key: digest of all that fixes the result.
        device: where the model is; the order and the masks are drawn on the processor, alike for every device.
    """

    recipe: Recipe
    batches: Batches
    masker: Masker | None
    check: Callable[[nn.Module], float]
    folder: Path | None
    key: str
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def run(self, model: nn.Module, *, points: int = 20, watch: Watch | None = None) -> State:
        """Train in place, continuing from the folder's state if there is one.

        Args:
            points: of the curve.
            watch: called after every step.

        Raises:
            MeasurementError: when the loss is not finite.
            RunError: when the state cannot be read or written.
        """
        recipe, optimizer = self.recipe, Optimizer(model, self.recipe)
        state = self._restore(model, optimizer)
        marks = {math.ceil(recipe.steps * point / points) for point in range(1, points + 1)}
        saved = time.monotonic()
        while state.step < recipe.steps:  # interrupted within a step, the last saved state is the one that counts
            self._step(model, optimizer, state)
            if state.step in marks:
                self._mark(model, state)
            if time.monotonic() - saved > SAVE_S or state.step == recipe.steps:
                self._save(model, optimizer, state)
                saved = time.monotonic()
            if watch:
                watch(state)
        return state

    def _step(self, model: nn.Module, optimizer: Optimizer, state: State) -> None:
        wall, cpu = time.monotonic(), time.process_time()
        blocks = self.batches.at(state.step)
        mixed = torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.mixed)
        with exact(self.recipe.threads), mixed:
            loss = self._loss(model, blocks, state.step)
            loss.backward()  # type: ignore[no-untyped-call]
            value = float(loss.detach())
            if not math.isfinite(value):
                raise MeasurementError("non-finite", "training diverged: loss", value=value, hint="lower the rates")
            optimizer.step(state.step)
        state.step += 1
        state.losses.append(value)
        state.step_s.append(time.monotonic() - wall)
        state.wall_s += state.step_s[-1]
        state.cpu_s += time.process_time() - cpu

    def _loss(self, model: nn.Module, blocks: torch.Tensor, step: int) -> torch.Tensor:
        if self.masker is None:
            blocks = blocks.to(self.device)
            logits = model(input_ids=blocks, use_cache=False).logits
            return functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), blocks[:, 1:].flatten())
        inputs, targets = (each.to(self.device) for each in self.masker.train(blocks, self.recipe.seed, step))
        return functional.cross_entropy(masked_logits(model, inputs, targets), targets[targets != IGNORED])

    def _mark(self, model: nn.Module, state: State) -> None:
        model.eval()
        heldout = self.check(model)
        model.train()
        tokens = state.step * self.recipe.batch * self.recipe.length
        point = Point(
            step=state.step,
            tokens=tokens,
            loss=math.fsum(state.losses) / len(state.losses),
            heldout=heldout,
            rate=self.recipe.scale(state.step - 1),
            cpu_s=state.cpu_s,
            wall_s=state.wall_s,
        )
        state.curve.append(point)
        state.losses.clear()

    def _restore(self, model: nn.Module, optimizer: Optimizer) -> State:
        model.train()
        found = load_state(self.folder, self.key) if self.folder else None
        if found is None:
            return State(step=0, losses=[], curve=[], cpu_s=0.0, wall_s=0.0)
        state, weights, moments = found
        optimizer.load(moments)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(weights[name])
        return state

    def _save(self, model: nn.Module, optimizer: Optimizer, state: State) -> None:
        if self.folder:
            weights = {name: parameter.detach() for name, parameter in model.named_parameters()}
            save_state(self.folder, self.key, state, weights, optimizer.state())


def masked_logits(model: nn.Module, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Logits of the positions asked for alone, float32 (positions, vocabulary); the rest of them would be a
    fifth of a small model's work."""
    hidden = model.base_model(input_ids=inputs).last_hidden_state  # type: ignore[operator]
    logits: torch.Tensor = model.cls(hidden[targets != IGNORED])  # type: ignore[operator]
    return logits.float()


@contextmanager
def exact(threads: int) -> Iterator[None]:
    """A fixed number of threads and deterministic kernels, then as it was: the same run gives the same bits."""
    before, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(before)
