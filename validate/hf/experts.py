"""The experts of a layer with weights as factors or in int8, in place of transformers' stacked experts."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from validate.hf.errors import FactoredCheckpointError
from validate.hf.expert_products import expert_products
from validate.hf.modules import FactoredLinear, Int8Linear

LINEARS = ("gate_proj", "up_proj", "down_proj")
"""The linears of an expert in the order they run."""
ALIGNED = 64
"""Bytes; products of matrices that lie otherwise are rounded otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StackLayout:
    """How a class of transformers keeps the linears of all experts in tensors of three dimensions.

    Attributes:
        gated: whether gate and up are one stack, `gate_up_proj`; else there is `up_proj` alone.
        biased: whether each stack has a bias beside it.
        transposed: whether a stack is (experts, in, out).
        interleaved: whether gate and up take turns in their stack, row by row, as gpt-oss' do.
    """

    gated: bool
    biased: bool
    transposed: bool
    interleaved: bool

    @classmethod
    def of(cls, experts: nn.Module) -> StackLayout:
        """The layout of a module.

        Raises:
            FactoredCheckpointError: for one that transformers does not describe so, as Llama 4's.
        """
        if isinstance(experts, FactoredExperts):
            raise FactoredCheckpointError("experts that are factored already")
        if getattr(experts, "has_gate", None) is None or getattr(experts, "has_post_expert_norm", False):
            name = type(experts).__name__
            raise FactoredCheckpointError(f"experts of {name} cannot be factored: stacked in another way")
        module: Any = experts
        return cls(
            gated=bool(module.has_gate),
            biased=bool(module.has_bias),
            transposed=bool(module.is_transposed),
            interleaved=not module.is_concatenated,
        )

    @property
    def linears(self) -> tuple[str, ...]:
        """Those that an expert has."""
        return LINEARS if self.gated else LINEARS[1:]

    def stack_of(self, linear: str) -> str:
        """The name of the stack that a linear is in."""
        return "gate_up_proj" if self.gated and linear != "down_proj" else linear

    def part(self, stack: torch.Tensor, linear: str, expert: int) -> torch.Tensor:
        """One expert's weight (out, in) of a stack, or its bias (out,) of a stack's biases; a view."""
        own = stack[expert]
        own = own.T if own.dim() == 2 and self.transposed else own
        return own[self._rows(linear, len(own))]

    def stack(self, parts: Mapping[str, Sequence[torch.Tensor]], name: str) -> torch.Tensor:
        """The stack, or the stack of biases, of every expert's parts by linear."""
        rows = []
        for own in zip(*(parts[each] for each in self.linears if self.stack_of(each) == name), strict=True):
            whole = own[0].new_empty(sum(map(len, own)), *own[0].shape[1:])
            for linear, part in zip(LINEARS if len(own) > 1 else (name,), own, strict=False):
                whole[self._rows(linear, len(whole))] = part
            rows.append(whole.T if whole.dim() == 2 and self.transposed else whole)
        return torch.stack(rows)

    def _rows(self, linear: str, size: int) -> slice:
        """Where a linear's outputs are among those of its stack."""
        if not self.gated or linear == "down_proj":
            return slice(None)
        first = linear == "gate_proj"
        if self.interleaved:
            return slice(0 if first else 1, None, 2)
        return slice(0, size // 2) if first else slice(size // 2, None)


class FactoredExperts(nn.Module):
    """down(act(gate(x)) * up(x)) of the experts that a token is routed to, added up with their weights.

    Its submodules are `gate_proj`, `up_proj` and `down_proj`, each a list of one linear for every expert, dense or
    factored, that run one after the other. It takes what transformers' experts take: hidden states (tokens, hidden),
    and for each token the numbers and the weights of its experts, (tokens, k). On the meta device, where there are no
    numbers, every expert gets its share of the rows. Under torch.compile, what takes no gradient and is not int8 runs
    by `expert_products`, one operator for each linear of all experts; under torch.export every expert is written down,
    whether rows are routed to it or not.

    Args:
        dense: the module replaced; weights that are not factored are shared with it where they lie in order.
        factors: (linear, expert) -> weights of its factors in the order they run, each (out, in) of its own linear.

    Raises:
        FactoredCheckpointError: for experts that are stacked in an unknown way.
    """

    def __init__(self, dense: nn.Module, factors: Mapping[tuple[str, int], Sequence[torch.Tensor]]) -> None:
        super().__init__()
        self.layout = StackLayout.of(dense)
        self.num_experts = int(dense.num_experts)  # type: ignore[arg-type]
        shell: Any = copy.copy(dense)
        shell._parameters = {}
        self._apply_gate: Callable[[torch.Tensor], torch.Tensor] = shell._apply_gate  # a method: no module of this one
        self.act_fn: Any = getattr(dense, "act_fn", None)
        for name in self.layout.linears:
            linears = []
            for expert in range(self.num_experts):
                linear = expert_linear(dense, name, expert)
                own = factors.get((name, expert))
                linears.append(_settled(linear) if own is None else FactoredLinear(own, linear.bias))
            self.add_module(name, nn.ModuleList(linears))

    def forward(self, hidden: torch.Tensor, numbers: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """(tokens, hidden) -> (tokens, hidden)."""
        if torch.compiler.is_compiling() and not torch.compiler.is_exporting() and self._is_opaque():
            return self._grouped(hidden, numbers, weights)
        downs: Any = self.down_proj
        result = torch.zeros_like(hidden)
        for expert, token, place in self._routed(numbers):
            output = downs[expert](self._inner(expert, hidden[token])) * weights[token, place, None]
            result.index_add_(0, token, output.to(result.dtype))
        return result

    def _is_opaque(self) -> bool:
        """Whether the operator that knows neither gradients nor int8 serves."""
        return not torch.is_grad_enabled() and not any(isinstance(each, Int8Linear) for each in self.modules())

    def _grouped(self, hidden: torch.Tensor, numbers: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """As `forward`, with the rows of all experts one behind the other."""
        chosen = numbers.flatten()
        order = chosen.argsort(stable=True)
        tokens = order // numbers.shape[1]
        ends = (chosen[:, None] == torch.arange(self.num_experts, device=chosen.device)).sum(0).cumsum(0)
        inner = self._joined(lambda name, rows: self._products(name, rows, ends), hidden[tokens])
        output = self._products("down_proj", inner, ends) * weights.flatten()[order, None]
        return torch.zeros_like(hidden).index_add_(0, tokens, output.to(hidden.dtype))

    def _products(self, name: str, rows: torch.Tensor, ends: torch.Tensor) -> torch.Tensor:
        """One linear of all experts over the rows of each."""
        linears: Any = self.get_submodule(name)
        chains: list[list[Any]] = [
            list(each._modules.values()) if isinstance(each, FactoredLinear) else [each] for each in linears
        ]
        stages = [stage.weight for chain in chains for stage in chain]
        biases = [chain[-1].bias for chain in chains] if self.layout.biased else []
        products: torch.Tensor = expert_products(rows, ends, stages, [len(chain) for chain in chains], biases)
        return products

    def dense(self) -> nn.Module:
        """transformers' module of the products of the factors."""
        shell: Any = copy.copy(self._apply_gate.__self__)  # type: ignore[attr-defined]
        shell._parameters = {}
        lists: dict[str, Any] = {name: self.get_submodule(name) for name in self.layout.linears}
        kinds = {name: _computed_in(linears[0]) for name, linears in lists.items()}
        weights = {name: [_dense_weight(each) for each in linears] for name, linears in lists.items()}
        biases = {name: [_last(each).bias for each in linears] for name, linears in lists.items()}
        for name in dict.fromkeys(map(self.layout.stack_of, lists)):
            kind = kinds["up_proj" if name == "gate_up_proj" else name]
            stack = self.layout.stack(weights, name).to(kind.dtype)
            shell.register_parameter(name, nn.Parameter(stack, requires_grad=kind.requires_grad))
            if self.layout.biased:
                stack = self.layout.stack(biases, name).detach()
                shell.register_parameter(f"{name}_bias", nn.Parameter(stack, requires_grad=kind.requires_grad))
        return shell.train(self.training)  # type: ignore[no-any-return]

    def _inner(self, expert: int, seen: torch.Tensor) -> torch.Tensor:
        """What an expert's last linear reads."""
        return self._joined(lambda name, rows: self.get_submodule(name)[expert](rows), seen)  # type: ignore[index]

    def _joined(self, linear: Callable[[str, torch.Tensor], torch.Tensor], seen: torch.Tensor) -> torch.Tensor:
        """What the last linear reads, where `linear` runs one by its name."""
        if not self.layout.gated:
            inner: torch.Tensor = self.act_fn(linear("up_proj", seen))
            return inner
        halves = [linear("gate_proj", seen), linear("up_proj", seen)]
        both = torch.stack(halves, dim=-1).flatten(-2) if self.layout.interleaved else torch.cat(halves, dim=-1)
        return self._apply_gate(both)

    def _routed(self, numbers: torch.Tensor) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Each expert that is hit, and of each of its rows the token and the place among the token's experts."""
        if numbers.is_meta:
            rows, count = numbers.numel(), self.num_experts
            for expert in range(count):
                own = torch.arange(rows * expert // count, rows * (expert + 1) // count, device=numbers.device)
                if len(own):
                    yield expert, own // numbers.shape[1], own % numbers.shape[1]
            return
        listed = range(self.num_experts) if torch.compiler.is_exporting() else torch.unique(numbers).tolist()
        for expert in listed:
            if expert < self.num_experts:  # beyond it is how transformers marks a token without an expert here
                token, place = torch.where(numbers == expert)
                yield expert, token, place


def expert_linear(experts: nn.Module, name: str, expert: int) -> nn.Linear:
    """One expert's linear out of stacked experts, its weight and bias views of theirs.

    Raises:
        FactoredCheckpointError: for experts that are stacked in an unknown way.
    """
    layout = StackLayout.of(experts)
    stack = layout.stack_of(name)
    weight = layout.part(getattr(experts, stack), name, expert)
    bias = layout.part(getattr(experts, f"{stack}_bias"), name, expert) if layout.biased else None
    return as_linear(weight, bias)


def as_linear(weight: torch.Tensor, bias: torch.Tensor | None = None) -> nn.Linear:
    """A linear of a weight (out, in) and a bias (out,)."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta", dtype=weight.dtype)
    linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    if bias is not None:
        linear.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return linear


def _settled(linear: nn.Linear) -> nn.Linear:
    """The linear as one whose weight was read for itself: in order, and aligned."""
    weight = linear.weight
    if not weight.is_contiguous() or (not weight.is_meta and weight.data_ptr() % ALIGNED):
        weight = weight.clone(memory_format=torch.contiguous_format)
        linear.weight = nn.Parameter(weight.detach(), requires_grad=False)
    return linear


def _dense_weight(linear: Any) -> torch.Tensor:
    """The weight (out, in) that a linear stands for."""
    if isinstance(linear, FactoredLinear):
        return linear.product()
    return linear.dense() if isinstance(linear, Int8Linear) else linear.weight.detach()


def _computed_in(linear: Any) -> torch.Tensor:
    """A parameter of the type that a linear computes in, which says as well whether it is trained."""
    last = _last(linear)
    return last.weight_scale if isinstance(last, Int8Linear) else last.weight


def _last(linear: Any) -> Any:
    """The linear that has the bias."""
    return list(linear._modules.values())[-1] if isinstance(linear, FactoredLinear) else linear
