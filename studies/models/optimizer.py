"""Muon for the matrices of the layers, AdamW for everything else, under one learning-rate schedule."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from costmodel.errors import InputError
from studies.models.recipe import Recipe


class Optimizer:
    """Both optimisers as one; the learning rates follow from the step, so that they need no state.

    Muon (Jordan et al. 2024) orthogonalises the momentum of a matrix by Newton-Schulz iteration; its updates are
    scaled to the size of AdamW's (Moonshot's `match_rms_adamw`), so both take rates of the same order.
    """

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.recipe, self._model = recipe, model
        matrices, embeddings, vectors = _sorted(model)
        decay = recipe.weight_decay
        self._parts: list[tuple[torch.optim.Optimizer, float]] = []
        if recipe.matrix_rate:
            self._parts.append((_muon(matrices, recipe), recipe.matrix_rate))
        else:
            embeddings = matrices + embeddings
        groups = [{"params": embeddings, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
        adamw = torch.optim.AdamW(groups, lr=recipe.rate, betas=(0.9, 0.95), fused=True)
        self._parts.append((adamw, recipe.rate))

    def step(self, step: int) -> float:
        """Update the weights with the gradients there are, then drop those; returns the gradient's norm before it was
        clipped."""
        norm = nn.utils.clip_grad_norm_(self._model.parameters(), self.recipe.clip)
        for part, rate in self._parts:
            for group in part.param_groups:
                group["lr"] = rate * self.recipe.scale(step)
            part.step()
            part.zero_grad(set_to_none=True)
        return float(norm)

    def state(self) -> dict[str, torch.Tensor]:
        """Every tensor of the state by name; loading them into a fresh optimiser continues it exactly."""
        return {
            f"{number}.{index}.{name}": torch.as_tensor(value)
            for number, (part, _) in enumerate(self._parts)
            for index, values in part.state_dict()["state"].items()
            for name, value in values.items()
        }

    def load(self, state: dict[str, torch.Tensor]) -> None:
        """Continue from `state()` of an optimiser of the same recipe and model."""
        for number, (part, _) in enumerate(self._parts):
            values: dict[int, dict[str, torch.Tensor]] = {}
            for key, tensor in state.items():
                owner, index, name = key.split(".", 2)
                if int(owner) == number:
                    values.setdefault(int(index), {})[name] = tensor
            part.load_state_dict({"state": values, "param_groups": part.state_dict()["param_groups"]})


def _sorted(model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Matrices of linear layers in the body, other matrices (embeddings and heads), and vectors."""
    linear = {id(module.weight) for module in model.base_model.modules() if isinstance(module, nn.Linear)}  # type: ignore[union-attr]
    matrices: list[nn.Parameter] = []
    embeddings: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for parameter in model.parameters():
        if id(parameter) in linear:
            matrices.append(parameter)
        else:
            (embeddings if parameter.ndim == 2 else vectors).append(parameter)
    return matrices, embeddings, vectors


def _muon(matrices: list[nn.Parameter], recipe: Recipe) -> torch.optim.Optimizer:
    kind: Any = getattr(torch.optim, "Muon", None)
    if kind is None:
        hint = "newer versions of torch have it; or give a matrix rate of 0 to use AdamW alone"
        raise InputError("this recipe needs torch.optim.Muon", value=torch.__version__, allowed="torch 2.9", hint=hint)
    muon: torch.optim.Optimizer = kind(
        matrices, lr=recipe.matrix_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return muon
