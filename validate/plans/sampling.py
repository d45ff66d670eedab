"""Which configurations to measure: seeded, balanced over form, rank, tensors, layers, phase, batch and length."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from costmodel.decomposition.factors import Decomposition, Factor, Form, LowRank, Site, Tucker, break_even_rank
from costmodel.forward.workload import Phase, Workload
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor
from validate.plans.balanced import BLOCK, balanced, layer_counts
from validate.plans.case import RANK_CLASSES, Case

REPEATED = 0.15
"""Share of samples measured twice."""
_LOWEST, _HIGHEST = 0.03, 1.15
"""Ranks as a share of break-even: from a sliver to a loss."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadChoice:
    """Levels to draw workloads from; `options` go to every Workload."""

    phases: tuple[Phase, ...]
    batches: tuple[int, ...]
    seq_lens: tuple[int, ...]
    kv_lens: tuple[int, ...]
    max_tokens: int
    """Most tokens of a prefill: larger draws are shortened."""
    max_cached: int = 2**40
    """Most tokens in the KV cache of a decode step, which a device's memory limits: larger draws are shortened."""
    options: tuple[dict[str, Any], ...]
    """Other fields of the workload: type, runtime, attention; drawn in turn."""

    def draw(self, phase: Phase, batch: int, length: int, options: dict[str, Any], spec: ModelSpec) -> Workload:
        """The workload of a phase; `length` counts levels of its kind, from 0."""
        if phase is Phase.DECODE:
            longest = max(1, self.max_cached // batch)
            kv_len = min(self.kv_lens[length % len(self.kv_lens)], spec.max_positions, longest)
            return Workload.decode(kv_len, batch=batch, **options)
        seq_len = min(self.seq_lens[length % len(self.seq_lens)], spec.max_positions, max(1, self.max_tokens // batch))
        return Workload.prefill(seq_len, batch=batch, **options)


def sample_cases(spec: ModelSpec, count: int, seed: int, choice: WorkloadChoice) -> list[Case]:
    """`count` distinct cases; the first is dense, and with ten or more there is a dense one per phase.

    The plan of a seed is a prefix of every longer plan of that seed.
    """
    cases: list[Case] = []
    seen: set[str] = set()
    block = 0
    while len(cases) < count:
        before = len(cases)
        for decomposition, work, repeat in _block(spec, seed, block, choice):
            case = Case(index=len(cases), spec=spec, decomposition=decomposition, work=work, repeat=repeat)
            if case.id not in seen and len(cases) < count:
                seen.add(case.id)
                cases.append(case)
        block += 1
        if len(cases) == before and block > 50:
            break  # a space smaller than the plan: every configuration of it is in
    return cases


def given_cases(spec: ModelSpec, decompositions: Sequence[Decomposition], choice: WorkloadChoice) -> list[Case]:
    """Dense and the given configurations under every workload of `choice`, each once."""
    cases: dict[str, Case] = {}
    for phase in choice.phases:
        lengths = len(choice.kv_lens if phase is Phase.DECODE else choice.seq_lens)
        for batch in choice.batches:
            for length in range(lengths):
                for options in choice.options:
                    work = choice.draw(phase, batch, length, options, spec)
                    for decomposition in (Decomposition(), *decompositions):
                        case = Case(index=len(cases), spec=spec, decomposition=decomposition, work=work)
                        cases.setdefault(case.id, case)
    return list(cases.values())


def _block(
    spec: ModelSpec, seed: int, block: int, choice: WorkloadChoice
) -> Iterator[tuple[Decomposition, Workload, bool]]:
    rng = random.Random(f"validate {seed} {block}")
    dense = len(choice.phases) if block == 0 else 0
    phases = balanced(rng, choice.phases, BLOCK)
    if dense:
        for index, phase in enumerate(choice.phases):  # the first of the plan are dense, one per phase
            place = phases.index(phase, index)
            phases[index], phases[place] = phases[place], phases[index]
    batches, lengths = balanced(rng, choice.batches, BLOCK), balanced(rng, range(4), BLOCK)
    options = balanced(rng, choice.options, BLOCK)
    forms: list[str] = balanced(rng, ["svd"] * 5 + ["tucker"] * 4 + ["drop"], BLOCK)
    classes, groups = balanced(rng, RANK_CLASSES, BLOCK), balanced(rng, _tensor_groups(spec, rng), BLOCK)
    depths = balanced(rng, layer_counts(spec.num_layers), BLOCK)
    shares = [(place + rng.random()) / BLOCK for place in balanced(rng, range(BLOCK), BLOCK)]
    schemes = balanced(rng, ["same", "same", "scaled", "scaled", "mixed"], BLOCK)
    stretches = round(BLOCK * REPEATED)
    bounds = [dense + (BLOCK - dense) * place // stretches for place in range(stretches + 1)]
    repeated = {rng.randrange(first, last) for first, last in itertools.pairwise(bounds)}  # spread over the block
    for index in range(BLOCK):
        work = choice.draw(phases[index], batches[index], lengths[index], options[index], spec)
        layers = sorted(rng.sample(range(spec.num_layers), depths[index]))
        if index < dense:
            decomposition = Decomposition()
        elif forms[index] == "drop":
            decomposition = Decomposition(dropped=frozenset(layers[: max(1, spec.num_layers // 2)]))
        else:
            share = math.exp(math.log(_LOWEST) + shares[index] * math.log(_HIGHEST / _LOWEST))
            form: Form = "tucker" if forms[index] == "tucker" else "svd"
            decomposition = _factored(spec, rng, layers, groups[index], form, classes[index], share, schemes[index])
        yield decomposition, work, index in repeated


def _factored(
    spec: ModelSpec,
    rng: random.Random,
    layers: list[int],
    names: tuple[str, ...],
    form: Form,
    size: int,
    share: float,
    scheme: str,
) -> Decomposition:
    tensors = [spec.tensor(name) for name in names]
    common = aligned_rank(
        share * min(break_even_rank(t.out_features, t.in_features, form) for t in tensors),
        size,
        min(_limit(t) for t in tensors),
    )

    def rank(tensor: WeightTensor) -> int:
        if scheme == "same":
            return common
        spread = rng.uniform(0.5, 1.5) if scheme == "mixed" else 1.0
        middle = share * spread * break_even_rank(tensor.out_features, tensor.in_features, form)
        return aligned_rank(middle, size, _limit(tensor))

    def factor(tensor: WeightTensor) -> Factor:
        return LowRank(rank(tensor)) if form == "svd" else Tucker(rank(tensor), rank(tensor))

    sites = [(layer, tensor) for layer in layers for tensor in tensors if _has(spec, layer, tensor.name)]
    if scheme == "mixed":
        return Decomposition({Site(layer, tensor.name): factor(tensor) for layer, tensor in sites})
    factors = {tensor.name: factor(tensor) for tensor in tensors}
    return Decomposition({Site(layer, tensor.name): factors[tensor.name] for layer, tensor in sites})


def _has(spec: ModelSpec, layer: int, name: str) -> bool:
    """Whether a layer has the tensor: where kinds of layers differ, not every one has."""
    return any(tensor.name == name for tensor in spec.kind_of(layer).tensors)


def aligned_rank(target: float, size: int, limit: int) -> int:
    """The rank nearest to `target` from 1 to `limit` that `size` divides and no larger class does; where there is
    none, of the next smaller class."""
    larger = [each for each in RANK_CLASSES if each > size]
    fits = [r for r in range(size, limit + 1, size) if not any(r % each == 0 for each in larger)]
    if not fits:
        return aligned_rank(target, RANK_CLASSES[RANK_CLASSES.index(size) + 1], limit)
    return min(fits, key=lambda candidate: abs(candidate - target))


def _limit(tensor: WeightTensor) -> int:
    return min(tensor.out_features, tensor.in_features)


def _tensor_groups(spec: ModelSpec, rng: random.Random) -> list[tuple[str, ...]]:
    """All three times, each group, and two single tensors."""
    groups = spec.groups
    singles = rng.sample(groups["all"], 2)
    return [*[groups["all"]] * 3, groups["attn"], groups["mlp"], *((name,) for name in singles)]
