"""What people do today, and chance: configurations that the frontier has to beat. No torch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from costmodel.decomposition.factors import Decomposition, Factor, Site, break_even_rank, make_factor
from costmodel.model import ModelSpec
from costmodel.space.base import DesignSpace
from validate.choose.dropping import Dropping

RULES = {
    "random": "random configuration",
    "paper": "rank 1, spread-out layers, early ones spared",
    "uniform": "one share of break-even everywhere",
    "late": "late layers dropped",
    "block": "best block dropped",
    "greedy": "layers dropped greedily",
    "recipe": "the recipe given",
}
"""Baselines by rule, as the report names them."""
SHARES = (0.9, 0.75, 0.5, 0.25, 0.1)
"""Ranks of uniform configurations as shares of each tensor's break-even rank."""
_SPARED = 8
"""One layer in this many, the first ones, is spared by the paper's rules."""

Named = tuple[str, str, Decomposition]
"""Rule, label, configuration."""


def baselines(
    spec: ModelSpec, homogeneous: DesignSpace, dropped: Sequence[Dropping], *, count: int, seed: int
) -> list[Named]:
    """All baselines of a model.

    Args:
        spec: the model.
        homogeneous: the space that random homogeneous configurations are from, with the candidate ranks.
        dropped: what was found for layer dropping.
        count: random configurations: half of them homogeneous, half with a rank for each site.
        seed: of the random ones.
    """
    found = [*_uniform(spec), *_paper(spec), *_random(spec, homogeneous, count, seed)]
    for each in dropped:
        layers = ", ".join(map(str, each.layers))
        found.append((each.rule, f"layer{'s' if len(each.layers) > 1 else ''} {layers}", each.config))
    return found


def _uniform(spec: ModelSpec) -> Iterator[Named]:
    for share in SHARES:
        factors: dict[Site, Factor] = {}
        for tensor in spec.tensors:
            rank = max(1, int(share * break_even_rank(tensor.out_features, tensor.in_features, "svd")))
            factors |= {Site(layer, tensor.name): make_factor("svd", rank) for layer in range(spec.num_layers)}
        yield "uniform", f"{share:.0%} of break-even", Decomposition(factors)


def _paper(spec: ModelSpec) -> Iterator[Named]:
    """Insights of arXiv 2405.06626: rank 1 in all tensors of a few layers, far apart, early layers left alone."""
    spared = max(1, spec.num_layers // _SPARED) if spec.num_layers > 1 else 0
    free = spec.num_layers - spared
    for count in range(1, max(1, spec.num_layers // 2) + 1):
        layers = sorted({spared + int((2 * place + 1) * free / (2 * count)) for place in range(count)})
        factors = {Site(layer, tensor.name): make_factor("svd", 1) for layer in layers for tensor in spec.tensors}
        yield "paper", f"rank 1 in layers {', '.join(map(str, layers))}", Decomposition(factors)


def _random(spec: ModelSpec, homogeneous: DesignSpace, count: int, seed: int) -> Iterator[Named]:
    whole = count // 2
    drawn = [homogeneous.config(index) for index in homogeneous.sample(whole, seed)]
    for number, config in enumerate(drawn):
        yield "random", f"homogeneous {number}", config
    rng = random.Random(f"loop {seed}")
    for number in range(count - whole):
        density = (number + 0.5) / (count - whole)  # from few factored sites to nearly all
        factors: dict[Site, Factor] = {}
        for layer in range(spec.num_layers):
            for tensor, ranks in zip(spec.tensors, homogeneous.ranks, strict=True):
                if rng.random() < density:
                    factors[Site(layer, tensor.name)] = make_factor("svd", rng.choice(list(ranks)))
        yield "random", f"per-site {number}", Decomposition(factors)
