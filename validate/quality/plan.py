"""Which configurations to measure the quality of: seeded, balanced over forms, tensors, layers and expected damage."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence

from costmodel.decomposition.factors import Decomposition, Factor, Form, Site, break_even_rank, make_factor
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor
from validate.factors.kinds import FactorsUsed
from validate.plans.balanced import BLOCK, balanced, layer_counts
from validate.quality.case import DENSE, QualityCase

ADVISED = 320
"""Samples to ask for where 300 measured configurations are wanted: the dense model is one, and some may fail."""
_KINDS = ["svd"] * 9 + ["tucker"] * 7 + ["drop"] * 2 + ["both"] * 2
"""`both`: factored, with other layers dropped."""
_LOWEST, _HIGHEST = 0.02, 1.0
"""Ranks as a share of break-even: from a sliver to what saves nothing."""


def sample_cases(spec: ModelSpec, count: int, seed: int, factors: FactorsUsed = "plain") -> list[QualityCase]:
    """`count` distinct configurations, of which the first is dense.

    The plan of a seed is a prefix of every longer plan of that seed, and does not depend on `factors`. A space that
    holds fewer is sampled as far as it goes.
    """
    cases = [DENSE]
    seen = {_key(DENSE.decomposition)}
    block = 0
    while len(cases) < count:
        before = len(cases)
        for decomposition in _block(spec, seed, block):
            key = _key(decomposition)
            if key not in seen and len(cases) < count:
                seen.add(key)
                cases.append(QualityCase(decomposition=decomposition, factors=factors, origin="sample"))
        block += 1
        if len(cases) == before and block > 50:
            break
    return cases


def _block(spec: ModelSpec, seed: int, block: int) -> Iterator[Decomposition]:
    rng = random.Random(f"quality {seed} {block}")
    kinds, groups = balanced(rng, _KINDS, BLOCK), balanced(rng, _groups(spec, rng), BLOCK)
    depths = balanced(rng, layer_counts(spec.num_layers), BLOCK)
    shares = [(place + rng.random()) / BLOCK for place in balanced(rng, range(BLOCK), BLOCK)]
    schemes = balanced(rng, ["same", "same", "scaled", "mixed", "scattered"], BLOCK)
    for index in range(BLOCK):
        layers = sorted(rng.sample(range(spec.num_layers), depths[index]))
        share = _LOWEST * (_HIGHEST / _LOWEST) ** shares[index]
        dropped: frozenset[int] = frozenset()
        if kinds[index] == "drop":
            yield Decomposition(dropped=frozenset(layers[: max(1, spec.num_layers // 2)]))
            continue
        if kinds[index] == "both":
            dropped = frozenset(rng.sample(range(spec.num_layers), 1))
            layers = [layer for layer in layers if layer not in dropped]
        form: Form = "tucker" if kinds[index] == "tucker" else "svd"
        tensors = [spec.tensor(name) for name in groups[index]]
        sites = [(layer, tensor) for layer in layers for tensor in tensors]
        if schemes[index] == "scattered" and len(sites) > 1:
            sites = rng.sample(sites, rng.randint(1, len(sites) - 1))
        yield Decomposition(_ranks(rng, sites, form, share, schemes[index]), dropped)


def _ranks(
    rng: random.Random, sites: Sequence[tuple[int, WeightTensor]], form: Form, share: float, scheme: str
) -> dict[Site, Factor]:
    """A factor for each site: one rank for all, one share of break-even for all, or a share drawn for each."""
    limits = {tensor.name: break_even_rank(tensor.out_features, tensor.in_features, form) for _, tensor in sites}
    factors: dict[Site, Factor] = {}
    for layer, tensor in sites:
        spread = math.exp(rng.uniform(-1.0, 1.0)) if scheme in ("mixed", "scattered") else 1.0
        limit = min(limits.values()) if scheme == "same" else limits[tensor.name]
        rank = max(1, min(limits[tensor.name], round(share * spread * limit)))
        factors[Site(layer, tensor.name)] = make_factor(form, rank)
    return factors


def _groups(spec: ModelSpec, rng: random.Random) -> list[tuple[str, ...]]:
    """All tensors three times, each group, and two single tensors."""
    groups = spec.groups
    singles = rng.sample(groups["all"], 2)
    return [*[groups["all"]] * 3, groups["attn"], groups["mlp"], *((name,) for name in singles)]


def _key(decomposition: Decomposition) -> str:
    return json.dumps(decomposition.to_json(), sort_keys=True)
