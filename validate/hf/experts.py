"""The experts of a layer with some of their weights as factors, in place of transformers' stacked experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from validate.hf.errors import FactoredCheckpointError
from validate.hf.modules import FactoredLinear

LINEARS = ("gate_proj", "up_proj", "down_proj")
"""The linears of an expert in the order they run; stacked experts keep the first two as one."""


class FactoredExperts(nn.Module):
    """down(act(gate(x)) * up(x)) of the experts that a token is routed to, added up with their weights.

    Its submodules are `gate_proj`, `up_proj` and `down_proj`, each a list of one linear for every expert, dense or
    factored. It takes what transformers' experts take: hidden states (tokens, hidden), and for each token the numbers
    and the weights of its experts, (tokens, k).

    Args:
        dense: the module replaced; weights that are not factored are shared with it.
        factors: (linear, expert) -> weights of its factors in the order they run, each (out, in) of its own linear.
    """

    def __init__(self, dense: nn.Module, factors: Mapping[tuple[str, int], Sequence[torch.Tensor]]) -> None:
        super().__init__()
        self.num_experts = int(dense.num_experts)  # type: ignore[arg-type]
        self.act_fn: Any = dense.act_fn
        for name in LINEARS:
            linears = []
            for expert in range(self.num_experts):
                own = factors.get((name, expert))
                linears.append(expert_linear(dense, name, expert) if own is None else FactoredLinear(own, None))
            self.add_module(name, nn.ModuleList(linears))

    def forward(self, hidden: torch.Tensor, numbers: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """(tokens, hidden) -> (tokens, hidden)."""
        gates, ups, downs = (self.get_submodule(name) for name in LINEARS)
        result = torch.zeros_like(hidden)
        for expert in torch.unique(numbers).tolist():
            if expert >= self.num_experts:  # how transformers marks a token without an expert here
                continue
            token, place = torch.where(numbers == expert)
            seen = hidden[token]
            inner = self.act_fn(gates[expert](seen)) * ups[expert](seen)  # type: ignore[index]
            output = downs[expert](inner) * weights[token, place, None]  # type: ignore[index]
            result.index_add_(0, token, output.to(result.dtype))
        return result


def expert_linear(experts: nn.Module, name: str, expert: int) -> nn.Linear:
    """One expert's linear out of stacked experts, its weight a view of theirs.

    Raises:
        FactoredCheckpointError: for experts that are stacked otherwise, as gpt-oss' and Llama 4's are, transposed.
    """
    if isinstance(experts, FactoredExperts):
        raise FactoredCheckpointError("experts that are factored already")
    down: Any = getattr(experts, "down_proj", None)
    packed: Any = getattr(experts, "gate_up_proj", None)
    inner = getattr(experts, "intermediate_dim", None)
    if packed is None or down is None or down.dim() != 3 or packed.shape[1] != 2 * (inner or 0) or _biased(experts):
        raise FactoredCheckpointError(f"experts of {type(experts).__name__} cannot be factored: stacked in another way")
    weight = {"gate_proj": packed[expert, :inner], "up_proj": packed[expert, inner:], "down_proj": down[expert]}[name]
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta", dtype=weight.dtype)
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return linear


def _biased(experts: nn.Module) -> bool:
    return any("bias" in name for name, _ in experts.named_parameters())
