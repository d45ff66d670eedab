"""A Mixtral really run by several processes: its experts cut like MLPs, or dealt out, with rows sent to them and back.

As `sharded`, of which it takes attention, embeddings and the wire. Dealt out, each process runs its own sequences
through the whole of everything but the experts, of which process r of N has r, r + N, r + 2 N, ...
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import sharded
import torch
import torch.distributed as dist
from sharded import Wire, mine
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import MixtralConfig, MixtralForCausalLM

STACKS = ("gate_proj", "up_proj", "down_proj")
Exchange = Callable[[torch.Tensor], torch.Tensor]


class Stack(nn.Module):
    """Linears of all experts of a process, one after the other where they are factored, over rows in their order."""

    def __init__(self, weights: list[torch.Tensor], after: list[Exchange | None]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(weight.contiguous()) for weight in weights])
        self.after = after

    def forward(self, rows: torch.Tensor, counts: list[int]) -> torch.Tensor:
        for weight, wire in zip(self.weights, self.after, strict=True):
            parts = zip(rows.split(counts), weight, strict=True)
            rows = torch.cat([functional.linear(part, each) for part, each in parts])
            rows = rows if wire is None else wire(rows)
        return rows


def stack(name: str, weight: torch.Tensor, factors: sharded.Pair | None, way: str, wire: Wire, cut: bool) -> Stack:
    """The linears of a name, (experts, out, in), or their factors; `cut` where processes share out each expert."""

    def share(tensor: torch.Tensor, axis: int) -> torch.Tensor:
        return mine(tensor, axis) if cut else tensor

    down = name == "down_proj"
    if factors is None:
        return Stack([share(weight, 2 if down else 1)], [None])
    out, into = factors
    if not cut:
        return Stack([into, out], [None, None])
    match way:
        case "replicate":
            return Stack([into, mine(out, 1)], [None, None])
        case "gather":
            return Stack([mine(into, 1), mine(out, 1)], [wire.all_gather, None])
        case "reduce-rank":
            return Stack([mine(into, 2), out], [wire.all_reduce, None])
        case "reduce-hidden":
            return Stack([mine(into, 2), out], [None, None])
        case _:
            return Stack([mine(into, 2), mine(out, 2)], [wire.reduce_scatter, None])


class Experts(nn.Module):
    """The experts of a layer as one process runs them."""

    def __init__(self, stacks: dict[str, Stack], number: int, wire: Wire, *, cut: bool, summed: bool) -> None:
        super().__init__()
        self.stacks, self.number, self.wire, self.cut, self.summed = nn.ModuleDict(stacks), number, wire, cut, summed

    def forward(self, hidden: torch.Tensor, chosen: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        world = 1 if self.cut else dist.get_world_size()
        place = chosen.flatten() % world * self.number + chosen.flatten() // world
        order = place.argsort(stable=True)
        rows, experts = hidden[order // chosen.shape[1]], place[order]
        rows = self._run(rows, experts) if self.cut else self._sent(rows, experts, world)
        result = torch.zeros_like(hidden)
        result.index_add_(0, order // chosen.shape[1], rows * weights.flatten()[order, None])
        return self.wire.all_reduce(result) if self.summed else result

    def _run(self, rows: torch.Tensor, experts: torch.Tensor) -> torch.Tensor:
        counts = torch.bincount(experts, minlength=self.number).tolist()
        gate, up = self.stacks["gate_proj"](rows, counts), self.stacks["up_proj"](rows, counts)
        return self.stacks["down_proj"](functional.silu(gate) * up, counts)

    def _sent(self, rows: torch.Tensor, experts: torch.Tensor, world: int) -> torch.Tensor:
        going = torch.bincount(experts // self.number, minlength=world)
        coming = torch.empty_like(going)
        dist.all_to_all_single(coming, going)
        there, back = going.tolist(), coming.tolist()
        numbers = torch.empty(sum(back), dtype=experts.dtype)
        dist.all_to_all_single(numbers, experts % self.number, back, there)
        order = numbers.argsort(stable=True)
        received = self.wire.all_to_all(rows, there, back)
        ran = torch.empty_like(received)
        ran[order] = self._run(received[order], numbers[order])
        return self.wire.all_to_all(ran, back, there)


def sharded_mixtral(full: MixtralForCausalLM, case: dict[str, Any], wire: Wire) -> MixtralForCausalLM:
    """This process's part of a model whose expert stacks `case["ranks"]` may have replaced by factors."""
    cut = case["parallel"] == "tp"
    world, rank = dist.get_world_size(), dist.get_rank()
    factors = factored(full, case["ranks"])
    if cut:
        sizes = {"num_attention_heads", "num_key_value_heads"}
        shares = {name: value // world if name in sizes else value for name, value in full.config.to_dict().items()}
        part = MixtralForCausalLM(MixtralConfig(**shares, attn_implementation="eager")).eval()
        sharded.share_attention(part, full, {}, {}, wire)
        sharded.share_ends(part, full, wire)
    else:
        part = copy.deepcopy(full)
    for layer, (own, whole) in enumerate(zip(part.model.layers, full.model.layers, strict=True)):
        own.mlp.gate = whole.mlp.gate
        stacks = {}
        for name, weight in weights_of(whole).items():
            pair = factors.get(f"{layer}.{name}")
            chosen = slice(None) if cut else slice(rank, None, world)
            pair = pair and (pair[0][chosen], pair[1][chosen])
            stacks[name] = stack(name, weight[chosen], pair, case["ways"].get(name, ""), wire, cut)
        number = full.config.num_local_experts // (1 if cut else world)
        way = case["ways"]["down_proj"] if f"{layer}.down_proj" in factors else "reduce-hidden"
        own.mlp.experts = Experts(stacks, number, wire, cut=cut, summed=cut and way in ("reduce-hidden", "scatter"))
    return part


def weights_of(layer: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of a layer's experts by name, each (experts, out, in)."""
    gate, up = layer.mlp.experts.gate_up_proj.detach().chunk(2, dim=1)
    return {"gate_proj": gate, "up_proj": up, "down_proj": layer.mlp.experts.down_proj.detach()}


def factored(full: MixtralForCausalLM, ranks: dict[str, int]) -> dict[str, sharded.Pair]:
    """Replace stacks of `full` by products of random factors, `ranks` by `layer.stack`; the factors."""
    factors = {}
    for place, r in ranks.items():
        layer, name = place.split(".")
        weight = weights_of(full.model.layers[int(layer)])[name]
        number, out, into = weight.shape
        factors[place] = torch.randn(number, out, r) / r**0.5, torch.randn(number, r, into) / into**0.5
        weight.copy_(factors[place][0] @ factors[place][1])
    return factors


def run_case(case: dict[str, Any], wire: Wire) -> dict[str, Any]:
    """Run a case on one process, as `sharded.run_case`."""
    full = MixtralForCausalLM(MixtralConfig(**case["config"], attn_implementation="eager")).eval()
    part = sharded_mixtral(full, case, wire)
    tokens = torch.randint(0, full.config.vocab_size, (case["batch"], case["seq_len"]))
    if case["parallel"] == "ep":
        tokens = tokens.chunk(dist.get_world_size())[dist.get_rank()]
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        logits = part(tokens, use_cache=False, logits_to_keep=1).logits
    with torch.no_grad():
        expected = full(tokens, use_cache=False, logits_to_keep=1).logits
    return sharded.told(part, counter, wire, logits, expected)
