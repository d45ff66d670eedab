"""Steps of an optimiser that bring a factored model's predictions nearer to the dense one's."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from costmodel.errors import InputError
from validate.errors import MeasurementError
from validate.hf.modules import FactoredLinear, Int8Linear
from validate.models.blocks import IGNORED, Blocks

State = dict[str, torch.Tensor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """Sums over each block, nats: negative log-likelihood, and divergence of the model from the dense one."""

    nll: list[float]
    kl: list[float]


def factor_weights(model: nn.Module) -> dict[str, nn.Parameter]:
    """Weights of all factors by name; biases are not among them.

    Raises:
        InputError: when there are none, or they are in int8.
    """
    found: dict[str, nn.Parameter] = {}
    for name, module in model.named_modules():
        if not isinstance(module, FactoredLinear):
            continue
        for stage, part in module.named_children():
            if isinstance(part, Int8Linear):
                hint = "give a folder that `validate apply` wrote without --weight-dtype"
                raise InputError("factors in int8 cannot be healed", value=name, hint=hint)
            found[f"{name}.{stage}.weight"] = part.weight  # type: ignore[assignment]
    if not found:
        raise InputError("no factors to heal", hint="give a folder of `validate apply`")
    return found


class Distillation:
    """AdamW on the factors alone, the loss KL(dense || factored) per predicted token (Hinton et al. 2015).

    Args:
        dense, factored: models with heads, of one tokenizer.
        blocks: to learn from.
        steps, rate, batch, seed: as of `HealSettings`. The blocks of a step depend on these alone, so a continued run
            is the run that was not stopped.
    """

    def __init__(
        self, dense: nn.Module, factored: nn.Module, blocks: Blocks, *, steps: int, rate: float, batch: int, seed: int
    ) -> None:
        self._dense, self._factored, self._blocks = dense, factored, blocks
        self._steps, self._rate, self._batch, self._seed = steps, rate, batch, seed
        self._weights = factor_weights(factored)
        for weight in self._weights.values():
            weight.requires_grad_(True)
        self._optimizer = torch.optim.AdamW(self._weights.values(), lr=rate, weight_decay=0.0)
        self.done = 0

    def run(self, until: int) -> Iterator[float]:
        """Take steps up to number `until`; gives the loss of each before it was taken.

        Raises:
            MeasurementError: when a loss is not finite.
        """
        while self.done < until:
            places = torch.Generator().manual_seed(self._seed + self.done)
            chosen = torch.randperm(len(self._blocks.inputs), generator=places)[: self._batch]
            loss = self._loss(self._blocks.inputs[chosen], self._blocks.targets[chosen])
            if not math.isfinite(float(loss.detach())):
                raise MeasurementError("non-finite", f"loss of step {self.done + 1}", hint="lower --rate")
            for group in self._optimizer.param_groups:
                group["lr"] = self._rate * (1 + math.cos(math.pi * self.done / self._steps)) / 2
            self._optimizer.zero_grad()
            loss.backward()
            self._optimizer.step()
            self.done += 1
            yield float(loss.detach())

    def state(self) -> State:
        """Weights, what the optimiser keeps of each, and the number of steps."""
        found: State = {"done": torch.tensor(self.done)}
        for name, weight in self._weights.items():
            found[f"{name} weight"] = weight.detach()
            found |= {f"{name} {key}": value for key, value in self._optimizer.state[weight].items()}
        return found

    @property
    def shapes(self) -> dict[str, Sequence[int]]:
        """Of what `state` gives after a step."""
        found: dict[str, Sequence[int]] = {"done": ()}
        for name, weight in self._weights.items():
            found |= {f"{name} {key}": weight.shape for key in ("weight", "exp_avg", "exp_avg_sq")}
            found[f"{name} step"] = ()
        return found

    def restore(self, state: State) -> None:
        """Go on from a state."""
        self.done = int(state["done"])
        for name, weight in self._weights.items():
            with torch.no_grad():
                weight.copy_(state[f"{name} weight"])
            kept = {key: state[f"{name} {key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            self._optimizer.state[weight] = {key: value.to(weight.device) for key, value in kept.items()}
            self._optimizer.state[weight]["step"] = kept["step"]

    def _loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            truth = _log_probabilities(self._dense, inputs, targets)
        own = _log_probabilities(self._factored, inputs, targets)
        return nn.functional.kl_div(own, truth, reduction="sum", log_target=True) / len(truth)


@torch.no_grad()
def judge(dense: nn.Module, model: nn.Module, blocks: Blocks) -> Judged:
    """A model beside the dense one on each block."""
    nll, kl = [], []
    for inputs, targets in zip(blocks.inputs, blocks.targets, strict=True):
        truth, own = (_log_probabilities(each, inputs[None], targets[None]) for each in (dense, model))
        asked = targets[targets != IGNORED].to(own.device)
        nll.append(-float(own.gather(1, asked[:, None]).double().sum()))
        kl.append(float(((truth - own) * truth.exp()).double().sum()))
    return Judged(nll=nll, kl=kl)


def _log_probabilities(model: Any, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Where something is asked: float32 (predictions, vocabulary)."""
    device = next(model.parameters()).device
    logits = model(input_ids=inputs.to(device)).logits
    return torch.log_softmax(logits[targets.to(device) != IGNORED].float(), dim=-1)
