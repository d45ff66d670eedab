"""One weight matrix of a layer that can be factored, alone or as a stack of experts, and how an expert is addressed."""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # of quantised models alone
    from costmodel.weights import WeightFormat

Split = Literal["", "rows", "columns"]
"""Which side of a weight several devices share out: none, its out_features or its in_features."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightTensor:
    """One weight matrix of a layer that can be factored: y = W x + b with W of out_features x in_features."""

    name: str
    """Name in a decomposition, unique in its family: `q_proj`, `attn_output`, `c_fc`, ..."""
    path: str
    """Module path inside the layer, as in Hugging Face checkpoints: `self_attn.q_proj`, `attention.output.dense`."""
    out_features: int
    in_features: int
    bias: bool
    """Whether a bias of out_features is added; it stays when the weight is factored."""
    group: str
    """`attn` or `mlp`."""
    experts: int = 0
    """Experts that have such a weight each, factored alike; 0 where every token passes the one weight."""
    split: Split = ""
    """How it is split, where this is one device's share (`costmodel.forward.sharding`)."""
    members: tuple[int, ...] = ()
    """The numbers of these experts where they are not all of the layer's."""
    plain: bool = False
    """Whether a quantised checkpoint holds it in the activations' type."""
    form: WeightFormat | None = None
    """How a quantised checkpoint holds it, where it has other weights in another form."""
    over_cache: bool = False
    """Whether it runs over all cached positions, not over the new tokens: plain latent attention's kv_b_proj."""
    merged_n: int = 0
    """Columns of the product that an engine makes of it and of the layer's weights that read the same input, all dense;
    0 where it stands alone. Layers that merge it with other neighbours have it as another weight."""

    def over_the_cache(self) -> WeightTensor:
        """The same weight over all cached positions."""
        return replace(self, over_cache=True)

    @property
    def copies(self) -> int:
        """Weights of this shape: one of each expert, or the one."""
        return max(1, self.experts)

    @property
    def weight_params(self) -> int:
        """Elements of the matrix, of all experts' matrices, the bias left out."""
        return self.copies * self.out_features * self.in_features

    @property
    def params(self) -> int:
        """Elements of the matrices and their biases."""
        return self.weight_params + (self.copies * self.out_features if self.bias else 0)


def attention_weight(name: str, path: str, out_features: int, in_features: int, *, bias: bool) -> WeightTensor:
    """A weight of the group `attn`."""
    return WeightTensor(
        name=name, path=path, out_features=out_features, in_features=in_features, bias=bias, group="attn"
    )


def mlp_weight(name: str, path: str, out_features: int, in_features: int, *, bias: bool) -> WeightTensor:
    """A weight of the group `mlp`."""
    return replace(attention_weight(name, path, out_features, in_features, bias=bias), group="mlp")


_MERGED = (("q_proj", "k_proj", "v_proj"), ("query", "key", "value"), ("gate_proj", "up_proj"))
"""Groups of names of weights that read the same input."""


def with_merged_widths(tensors: tuple[WeightTensor, ...]) -> tuple[WeightTensor, ...]:
    """The tensors of one layer, each with the width of the product that it would be part of."""
    widths = {tensor.name: tensor.out_features for tensor in tensors}
    merged: dict[str, int] = {}
    for group in _MERGED:
        members = [name for name in group if name in widths]
        if len(members) > 1:
            merged |= dict.fromkeys(members, sum(widths[name] for name in members))
    return tuple(replace(each, merged_n=merged[each.name]) if each.name in merged else each for each in tensors)


_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


@functools.lru_cache(maxsize=1024)
def expert_address(name: str) -> tuple[str, int] | None:
    """The stack and the number of the expert that a tensor's name addresses: `experts.3.up_proj` is the fourth expert
    of `experts.up_proj`; None for any other name."""
    words = name.split(".")
    numbers = [place for place, word in enumerate(words) if _NUMBER.fullmatch(word)]
    if len(numbers) != 1:
        return None
    return ".".join(words[: numbers[0]] + words[numbers[0] + 1 :]), int(words[numbers[0]])


def split_experts(tensors: tuple[WeightTensor, ...], apart: tuple[tuple[str, int], ...]) -> tuple[WeightTensor, ...]:
    """The tensors with some experts' weights as tensors of their own, behind what is left of their stack."""
    if not apart:
        return tensors
    found: list[WeightTensor] = []
    for tensor in tensors:
        own = sorted(number for stack, number in apart if stack == tensor.name)
        rest = tuple(number for number in range(tensor.experts) if number not in own)
        if rest or not own:
            found.append(replace(tensor, experts=len(rest), members=rest) if own else tensor)
        for number in own:
            name, path = (_numbered(text, number) for text in (tensor.name, tensor.path))
            found.append(replace(tensor, name=name, path=path, experts=1, members=(number,)))
    return tuple(found)


def _numbered(text: str, number: int) -> str:
    """`mlp.experts.up_proj` as `mlp.experts.3.up_proj`."""
    before, _, last = text.rpartition(".")
    return f"{before}.{number}.{last}"


def name_at(path: str, tensors: Sequence[WeightTensor]) -> str | None:
    """Name of the weight at a module path inside a layer, one expert's of a stack among them; None without any."""
    own = next((tensor.name for tensor in tensors if tensor.path == path), None)
    if own is not None or (address := expert_address(path)) is None:
        return own
    stacks = (tensor for tensor in tensors if tensor.path == address[0] and address[1] < tensor.experts)
    return next((_numbered(tensor.name, address[1]) for tensor in stacks), None)
