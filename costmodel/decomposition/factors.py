"""Which weights are replaced by low-rank factors: sites, forms, ranks, dropped layers, and the configuration file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

from costmodel.errors import DecompositionError
from costmodel.files.node import Node
from costmodel.files.read import read_json
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor

Form = Literal["svd", "tucker"]
FORMS: tuple[Form, ...] = ("svd", "tucker")
_MOST_LAYERS = 10**6
_SITE = re.compile(r"layers\.(0|[1-9][0-9]{0,8})\.([^.\d][^.]*(?:\.[^.]+)*)", re.ASCII)


class Site(NamedTuple):
    """One decomposable weight: a layer, counted from 0, and the name of a tensor in it."""

    layer: int
    tensor: str

    def __str__(self) -> str:
        return f"layers.{self.layer}.{self.tensor}"


@dataclass(frozen=True, slots=True)
class LowRank:
    """W (out x in) as two factors, in -> rank -> out; `rank * (out + in)` parameters."""

    rank: int

    @property
    def ranks(self) -> tuple[int, int]:
        """The inner widths: after the first factor, and before the last."""
        return self.rank, self.rank

    def weight_params(self, out_features: int, in_features: int) -> int:
        """Parameters of the factors, bias not counted."""
        return self.rank * (out_features + in_features)

    def to_json(self) -> dict[str, object]:
        return {"form": "svd", "rank": self.rank}


@dataclass(frozen=True, slots=True)
class Tucker:
    """W (out x in) as three factors, in -> rank_in -> rank_out -> out, the core not folded in."""

    rank_in: int
    rank_out: int

    @property
    def ranks(self) -> tuple[int, int]:
        """The inner widths: after the first factor, and before the last."""
        return self.rank_in, self.rank_out

    def weight_params(self, out_features: int, in_features: int) -> int:
        """Parameters of the factors, bias not counted."""
        return self.rank_in * in_features + self.rank_in * self.rank_out + self.rank_out * out_features

    def to_json(self) -> dict[str, object]:
        return {"form": "tucker", "rank": [self.rank_in, self.rank_out]}


Factor = LowRank | Tucker


class Stage(NamedTuple):
    """One of the linears that run in place of a factored weight, (m, k) @ (k, n)."""

    suffix: str
    """What it appends to the module's name."""
    n: int
    k: int
    bias: bool


def factor_stages(factor: Factor, tensor: WeightTensor) -> list[Stage]:
    """The linears of a factored weight in the order in which they run; the bias stays with the last."""
    first, last = factor.ranks
    core = [] if isinstance(factor, LowRank) else [Stage(".core", last, first, False)]
    return [
        Stage(".in", first, tensor.in_features, False),
        *core,
        Stage(".out", tensor.out_features, last, tensor.bias),
    ]


def make_factor(form: Form, rank: int) -> Factor:
    """The factor of one rank: `svd` gives two factors, `tucker` three with both ranks equal."""
    return LowRank(rank) if form == "svd" else Tucker(rank, rank)


def break_even_rank(out_features: int, in_features: int, form: Form) -> int:
    """Largest rank whose factors hold no more parameters (and MACs per token) than the dense weight.

    Two factors: r (m + n) <= m n, so floor(m n / (m + n)). Three: r (m + n) + r^2 <= m n, the positive root
    (-(m + n) + sqrt((m + n)^2 + 4 m n)) / 2 rounded down. 4096 x 4096: 2048 and 1696.
    """
    total, product = out_features + in_features, out_features * in_features
    if form == "svd":
        return product // total
    return (math.isqrt(total * total + 4 * product) - total) // 2


@dataclass(frozen=True, slots=True)
class Decomposition:
    """A configuration: factored sites and dropped layers; every site not named stays dense.

    Attributes:
        factors: the factored sites.
        dropped: layers left out whole, with their norms and their part of the KV cache.
    """

    factors: Mapping[Site, Factor] = field(default_factory=dict)
    dropped: frozenset[int] = frozenset()

    def __hash__(self) -> int:
        return hash((frozenset(self.factors.items()), self.dropped))

    def params(self, model: ModelSpec) -> int:
        """Parameters of the whole model so decomposed."""
        total = model.num_params - sum(model.layer_params(layer) for layer in self.dropped)
        for (layer, name), factor in self.factors.items():
            if layer not in self.dropped:
                tensor = model.tensor(name, layer)
                held = factor.weight_params(tensor.out_features, tensor.in_features)
                total += tensor.copies * held - tensor.weight_params
        return total

    def check(self, model: ModelSpec, where: str = "") -> Decomposition:
        """Return self if every site exists in `model` and every rank is possible there.

        Args:
            model: that the configuration is for.
            where: what it was read from, for messages.

        Raises:
            DecompositionError: naming the first site, layer or rank that is not.
        """
        prefix = f"{where}: " if where else ""
        kinds = {kind: {tensor.name: tensor for tensor in kind.tensors} for kind in model.kinds.values() or (model,)}
        for layer in sorted(self.dropped):
            check_layer(layer, model, f"{prefix}drop: ")
        for site, factor in self.factors.items():
            layer, name = site
            if not 0 <= layer < model.num_layers:
                check_layer(layer, model, prefix)
            if layer in self.dropped:
                raise DecompositionError(
                    f"{prefix}a rank is given for a dropped layer", value=str(site), hint="remove the rank or the drop"
                )
            kind = model.kind_of(layer)
            tensors = kinds[kind]
            tensor = tensors.get(name) or kind.one_expert(name)
            if tensor is None:
                raise DecompositionError(
                    f"{prefix}{model.name} has no such site",
                    value=str(site),
                    allowed=f"layers.{layer}. and {', '.join(tensors)}",
                )
            first, last = factor.ranks
            limit = min(tensor.out_features, tensor.in_features)
            if type(first) is not int or type(last) is not int or not (1 <= first <= limit and 1 <= last <= limit):
                for rank in (first, last):
                    check_rank(rank, tensor, f"{prefix}{site}")
        return self

    def above_break_even(self, model: ModelSpec) -> list[Site]:
        """Sites whose factors hold more parameters than the dense weight they replace."""
        kinds = {kind: {tensor.name: tensor for tensor in kind.tensors} for kind in model.kinds.values() or (model,)}
        above = []
        for site, factor in self.factors.items():
            layer, name = site
            tensor = kinds[model.kind_of(layer)].get(name) or model.tensor(name, layer)
            out_features, in_features = tensor.out_features, tensor.in_features
            if factor.weight_params(out_features, in_features) > out_features * in_features:
                above.append(site)
        return sorted(above)

    def to_json(self) -> dict[str, Any]:
        """The configuration as the contract's FILE: a plain rank where the form is the file's, else both."""
        two_factor = all(isinstance(factor, LowRank) for factor in self.factors.values())
        square = all(isinstance(f, Tucker) and f.rank_in == f.rank_out for f in self.factors.values())
        form = "tucker" if square and not two_factor else "svd"
        ranks: dict[str, object] = {}
        for site, factor in sorted(self.factors.items()):
            plain = factor == make_factor(form, factor.ranks[0])  # type: ignore[arg-type]
            ranks[str(site)] = factor.ranks[0] if plain else factor.to_json()
        return {"form": form, "ranks": ranks, "drop": sorted(self.dropped)}

    @classmethod
    def from_json(cls, data: object, model: ModelSpec, where: str = "configuration") -> Decomposition:
        """Read the contract's FILE and check it against `model`; `chosen`, of a verified choice, is not read.

        Raises:
            DecompositionError: on an unknown key, form, site or rank.
        """
        file = Node(where, data, DecompositionError).table((), ("form", "ranks", "drop", "chosen"))
        form = file["form"].choice(FORMS) if "form" in file else "svd"
        ranks = file["ranks"].entries() if "ranks" in file else {}
        drop = file["drop"].items() if "drop" in file else []
        factors = {_site(name, where): _factor(entry, form) for name, entry in ranks.items()}
        return cls(factors, frozenset(layer.integer(0, _MOST_LAYERS) for layer in drop)).check(model, where)


def load_decomposition(path: str | Path, model: ModelSpec) -> Decomposition:
    """Read a configuration file.

    Raises:
        DecompositionError: when it cannot be read, is not JSON, or does not fit `model`.
    """
    return Decomposition.from_json(read_json(path, "configuration file", DecompositionError), model, where=str(path))


def check_layer(layer: int, model: ModelSpec, where: str = "") -> None:
    """Raise DecompositionError unless `model` has this layer."""
    if not 0 <= layer < model.num_layers:
        allowed = f"0 to {model.num_layers - 1}"
        raise DecompositionError(f"{where}layer out of range for {model.name}", value=layer, allowed=allowed)


def check_rank(rank: int, tensor: WeightTensor, where: str, hint: str = "") -> None:
    """Raise DecompositionError unless `rank` is a whole number with 1 <= rank <= min(out, in) of `tensor`."""
    limit = min(tensor.out_features, tensor.in_features)
    if isinstance(rank, float | bool) or not 1 <= rank <= limit:
        allowed = f"1 to {limit} ({tensor.out_features} x {tensor.in_features})"
        raise DecompositionError(f"{where}: rank out of range", value=rank, allowed=allowed, hint=hint)


def _site(name: str, where: str) -> Site:
    match = _SITE.fullmatch(name)
    if not match:
        raise DecompositionError(f"{where}: not a site", value=name, allowed="layers.NUMBER.TENSOR")
    return Site(int(match[1]), match[2])


def _factor(node: Node, form: Form) -> Factor:
    if isinstance(node.value, dict):
        part = node.table(["rank"], ["form"])
        form = part["form"].choice(FORMS) if "form" in part else form
        node = part["rank"]
    value = node.value
    if type(value) is int:
        return make_factor(form, value)
    if form == "tucker" and isinstance(value, list) and len(value) == 2 and all(type(rank) is int for rank in value):
        return Tucker(*value)
    raise node.wrong(f"a rank of form {form}, a whole number" + (" or [rank_in, rank_out]" if form == "tucker" else ""))
