"""A Llama really run under tensor parallelism: a process a rank, weights cut as Megatron-LM cuts them, gloo between.

The oracle of what the cost model says of a rank: its parameters, its FLOPs as torch counts them, and the bytes of every
collective that it took part in.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import killing
import torch
import torch.distributed as dist
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode
from transformers import LlamaConfig, LlamaForCausalLM

Pair = tuple[torch.Tensor, torch.Tensor]
"""Factors of a weight: out x rank and rank x in."""
COLUMNS = ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")
ROWS = ("o_proj", "down_proj")


class Wire:
    """Collectives of one rank, each noted with the bytes of its whole message."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, int]] = []

    def _note(self, name: str, elements: int, tensor: torch.Tensor) -> None:
        self.sent.append((name, elements * tensor.element_size()))

    def all_reduce(self, part: torch.Tensor) -> torch.Tensor:
        whole = part.contiguous().clone()
        dist.all_reduce(whole)
        self._note("all_reduce", whole.numel(), whole)
        return whole

    def all_gather(self, part: torch.Tensor) -> torch.Tensor:
        """Parts of the last axis side by side."""
        parts = [torch.empty_like(part) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, part.contiguous())
        whole = torch.cat(parts, dim=-1)
        self._note("all_gather", whole.numel(), whole)
        return whole

    def reduce_scatter(self, part: torch.Tensor) -> torch.Tensor:
        """This rank's share of the last axis of the sum."""
        whole = part.contiguous().clone()
        dist.all_reduce(whole)  # gloo has no reduce-scatter of its own: the same result, noted as what it stands for
        self._note("reduce_scatter", whole.numel(), whole)
        return mine(whole, -1)

    def all_to_all(self, rows: torch.Tensor, there: list[int], back: list[int]) -> torch.Tensor:
        """So many rows to each rank, and so many from each."""
        received = rows.new_empty(sum(back), rows.shape[1])
        dist.all_to_all_single(received, rows.contiguous(), back, there)
        self._note("alltoall", rows.numel(), rows)
        return received


def mine(tensor: torch.Tensor, axis: int) -> torch.Tensor:
    """This rank's share of an axis."""
    return tensor.chunk(dist.get_world_size(), dim=axis)[dist.get_rank()].contiguous()


class Linears(nn.Module):
    """Linears of one site one after the other, with what goes over the wire after each."""

    def __init__(self, weights: list[torch.Tensor], after: list[Callable[[torch.Tensor], torch.Tensor] | None]) -> None:
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(weight) for weight in weights])
        self.after = after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for weight, wire in zip(self.weights, self.after, strict=True):
            x = functional.linear(x, weight)
            x = x if wire is None else wire(x)
        return x


def site(name: str, weight: torch.Tensor, factors: Pair | None, way: str, wire: Wire) -> Linears:
    """One site of this rank, dense without factors."""
    if factors is None:
        return Linears([mine(weight, 0)], [None]) if name in COLUMNS else Linears([mine(weight, 1)], [wire.all_reduce])
    out, into = factors
    match way:
        case "replicate":
            return Linears([into, mine(out, 0)], [None, None])
        case "gather":
            return Linears([mine(into, 0), mine(out, 0)], [wire.all_gather, None])
        case "reduce-rank":
            return Linears([mine(into, 1), out], [wire.all_reduce, None])
        case "reduce-hidden":
            return Linears([mine(into, 1), out], [None, wire.all_reduce])
        case _:
            return Linears([mine(into, 1), mine(out, 1)], [wire.reduce_scatter, wire.all_reduce])


class Words(nn.Module):
    """A token embedding of which a rank holds some rows."""

    def __init__(self, weight: torch.Tensor, wire: Wire) -> None:
        super().__init__()
        self.weight, self.wire = nn.Parameter(mine(weight, 0)), wire

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        rows = len(self.weight)
        place = tokens - dist.get_rank() * rows
        inside = (place >= 0) & (place < rows)
        words = functional.embedding(place.clamp(0, rows - 1), self.weight) * inside[..., None]
        return self.wire.all_reduce(words)


def sharded_llama(
    full: LlamaForCausalLM, factors: dict[str, Pair], ways: dict[str, str], wire: Wire
) -> LlamaForCausalLM:
    """This rank's part of a model; `factors` by `layer.tensor`, `ways` of the factored tensors by name."""
    config, world = full.config, dist.get_world_size()
    sizes = {"num_attention_heads", "num_key_value_heads", "intermediate_size"}
    shares = {name: value // world if name in sizes else value for name, value in config.to_dict().items()}
    rank = LlamaForCausalLM(LlamaConfig(**shares, attn_implementation="eager")).eval()
    share_attention(rank, full, factors, ways, wire, ("self_attn", "mlp"))
    share_ends(rank, full, wire)
    return rank


def share_attention(
    rank: nn.Module,
    full: nn.Module,
    factors: dict[str, Pair],
    ways: dict[str, str],
    wire: Wire,
    blocks: tuple[str, ...] = ("self_attn",),
) -> None:
    """Give layers of `rank` the norms of `full`, and this rank's parts of the linears in these blocks."""
    for layer, (part, whole) in enumerate(zip(rank.model.layers, full.model.layers, strict=True)):
        part.input_layernorm, part.post_attention_layernorm = whole.input_layernorm, whole.post_attention_layernorm
        for block in blocks:
            for name in [name for name in (*COLUMNS, *ROWS) if hasattr(getattr(whole, block), name)]:
                weight = getattr(getattr(whole, block), name).weight.detach()
                own = site(name, weight, factors.get(f"{layer}.{name}"), ways.get(name, ""), wire)
                setattr(getattr(part, block), name, own)


def share_ends(rank: nn.Module, full: nn.Module, wire: Wire) -> None:
    """Give `rank` the last norm of `full`, and this rank's rows of the token table and of the LM head."""
    rank.model.norm = full.model.norm
    rank.model.embed_tokens = Words(full.model.embed_tokens.weight.detach(), wire)
    rank.lm_head = Linears([mine(full.lm_head.weight.detach(), 0)], [wire.all_gather])


def factored(full: LlamaForCausalLM, ranks: dict[str, int]) -> dict[str, Pair]:
    """Replace weights of `full` by products of random factors, `ranks` by `layer.tensor`; the factors."""
    factors = {}
    for place, r in ranks.items():
        layer, name = place.split(".")
        block = full.model.layers[int(layer)]
        linear = getattr(block.self_attn if hasattr(block.self_attn, name) else block.mlp, name)
        out, into = linear.weight.shape
        pair = torch.randn(out, r) / r**0.5, torch.randn(r, into) / into**0.5
        linear.weight.data = pair[0] @ pair[1]
        factors[place] = pair
    return factors


def run_case(case: dict[str, Any], wire: Wire) -> dict[str, Any]:
    """Run a case on one rank: parameters, FLOPs, what was sent, and the largest error of its logits against the whole
    model's."""
    full = LlamaForCausalLM(LlamaConfig(**case["config"])).eval()
    factors = factored(full, case["ranks"])
    tokens = torch.randint(0, full.config.vocab_size, (case["batch"], case["seq_len"]))
    part = sharded_llama(full, factors, case["ways"], wire)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        logits = part(tokens, use_cache=False, logits_to_keep=1).logits
    with torch.no_grad():
        expected = full(tokens, use_cache=False, logits_to_keep=1).logits
    return told(part, counter, wire, logits, expected)


def told(
    part: nn.Module, counter: FlopCounterMode, wire: Wire, logits: torch.Tensor, expected: torch.Tensor
) -> dict[str, Any]:
    """What a run is held against."""
    return {
        "params": sum(parameter.numel() for parameter in part.parameters()),
        "flops": counter.get_total_flops(),
        "sent": wire.sent,
        "error": float((logits - expected).abs().max() / expected.abs().max()),
    }


def run_rank(rank: int, world: int, folder: str, cases: list[dict[str, Any]]) -> None:
    """Run every case on one rank, each by its own `run` where it has one; rank r writes `r.json`."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    rows = []
    for case in cases:
        torch.manual_seed(7)
        rows.append(case.get("run", run_case)(case, Wire()))
    (Path(folder) / f"{rank}.json").write_text(json.dumps(rows))
    dist.destroy_process_group()


def run(world: int, folder: Path, cases: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """All ranks of every case, in processes of their own: by rank, then by case."""
    killing.forking()
    torch.multiprocessing.start_processes(
        run_rank, args=(world, str(folder), cases), nprocs=world, start_method="forkserver"
    )
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(world)]
