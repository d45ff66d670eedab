"""Which experts the tokens of a pass reach: rows of each, and how many of a stack are read at all.

Every token passes `per_token` experts, so a stack of all experts has tokens x per_token rows whatever the routing. How
many experts are hit is its expected number, rounded, with tokens routed independently of each other: balanced, each of
E experts is among a token's k with probability k / E, so E (1 - (1 - k / E)^T) of T tokens'; under the power law, the
e-th most popular one with a probability in proportion to e^-1.2, capped at 1.

Experts that several devices share are dealt out by popularity, one after the other; what is told is of the first
device, whose experts are the most popular of their round, and which the others wait for.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

from costmodel.forward.work import NO_EXPERTS, ExpertWork
from costmodel.forward.workload import ExpertKernels, Latent, Routing, Workload
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor

POWER = 1.2
"""Exponent of the power law, that of the measured tables (`power_law_1.2`)."""


class StackWork(NamedTuple):
    """What a linear of a layer does in one pass: of all tokens, or of a stack of experts."""

    rows: int
    """Of all experts together; all tokens where there are none."""
    read: int
    """Weights of the stack that are read."""
    kernels: int


@functools.lru_cache(maxsize=4096)
def stack_work(tensor: WeightTensor, model: ModelSpec, work: Workload) -> StackWork:
    """The work of a decomposable linear of `model`."""
    if tensor.over_cache and work.latent is Latent.PLAIN:
        return StackWork(work.batch * work.kv_len, 1, 1)
    if not tensor.experts or model.experts is None:
        return StackWork(work.tokens, 1, 1)
    number, per_token = model.experts.number, model.experts.per_token
    rows = expert_rows(model, work)
    members: Iterable[int] = range(0, number, work.ep)
    if tensor.members:
        members = tensor.members
        rows = sum(rows * (each + 1) // number - rows * each // number for each in members)
    chances = hit_chances(number, per_token, work.tokens * work.ep, work.routing)
    read = min(rows, max(1, round(sum(chances[each] for each in members))))
    return StackWork(rows, read, min(read, 1) if work.experts is ExpertKernels.FUSED else read)


@functools.lru_cache(maxsize=1024)
def expert_rows(model: ModelSpec, work: Workload) -> int:
    """Rows that reach the experts of a device, of the one with the most; `work.tokens` are those of each device."""
    assert model.experts is not None
    number, per_token = model.experts.number, model.experts.per_token
    if work.ep == 1 or work.routing is Routing.BALANCED:
        return work.tokens * per_token
    shares = hit_chances(number, per_token, 1, work.routing)
    return math.ceil(work.tokens * work.ep * sum(shares[:: work.ep]))


@functools.lru_cache(maxsize=256)
def hit_chances(number: int, per_token: int, tokens: int, routing: Routing) -> tuple[float, ...]:
    """For each expert the probability that some token reaches it; their sum is the expected number of experts hit."""
    if routing is Routing.BALANCED:
        return (_some(per_token / number, tokens),) * number
    weights = [(place + 1) ** -POWER for place in range(number)]
    scale = _scale(weights, per_token)
    return tuple(_some(min(1.0, scale * weight), tokens) for weight in weights)


def _some(chance: float, tokens: int) -> float:
    """1 - (1 - chance)^tokens."""
    return 1.0 if chance >= 1 else -math.expm1(tokens * math.log1p(-chance))


def _scale(weights: list[float], total: int) -> float:
    """The factor with which the weights, in descending order and capped at 1, add up to `total`."""
    rest = sum(weights)
    for capped, weight in enumerate(weights):
        scale = (total - capped) / rest if total > capped else 0.0
        if scale * weight <= 1:
            return scale
        rest -= weight
    return 1.0


def grouped_work(
    tensor: WeightTensor, model: ModelSpec, work: Workload, place: int | None = None
) -> ExpertWork[int] | None:
    """What a product of a stack of experts is of its layer, where one kernel makes it of all; else None.

    Args:
        place: of a factor among those of its weight, from 0; None for the dense weight. Dense gate and up are one
            kernel; a weight's first factor takes the place of the kernel, or half of one, that its dense product is.
    """
    if not tensor.experts or model.experts is None or work.experts is not ExpertKernels.FUSED:
        return None
    paired = 2 if model.experts.gated and not tensor.name.endswith("down_proj") else 1
    extra = {None: 0, 0: paired - 1}.get(place, 2)
    if tensor.members and place is None:
        extra = 2
    hit = stack_work(tensor, model, work).read
    return NO_EXPERTS._replace(hit=hit, paired=1 if place is not None else paired, extra=extra)


class ChainWork(NamedTuple):
    """What the operations around the products of a layer's experts are of their chain of kernels; None of each where
    experts run one after the other."""

    routed: ExpertWork[int] | None = None
    """Of choosing the experts."""
    handed: ExpertWork[int] | None = None
    """Of giving them their rows."""
    activated: ExpertWork[int] | None = None
    multiplied: ExpertWork[int] | None = None
    """Of the gate's product with up."""
    summed: ExpertWork[int] | None = None
    """Of adding up their results."""


def chain_work(model: ModelSpec, work: Workload) -> ChainWork:
    """The shares of one layer of experts."""
    experts = model.experts
    if experts is None or work.experts is not ExpertKernels.FUSED:
        return ChainWork()
    rows, width = expert_rows(model, work), experts.width or model.hidden_size
    chances = hit_chances(experts.number, experts.per_token, work.tokens * work.ep, work.routing)
    hit, stream = max(1, round(sum(chances[:: work.ep]))), 2 * work.tokens * width
    inner = rows * (3 if experts.gated else 2) * experts.intermediate_size
    first = inner // 2 if experts.gated else inner
    return ChainWork(
        routed=NO_EXPERTS._replace(hit=hit, layers=1),
        handed=NO_EXPERTS._replace(hidden=rows * width // 2, stream=stream),
        activated=NO_EXPERTS._replace(inner=first),
        multiplied=NO_EXPERTS._replace(inner=inner - first),
        summed=NO_EXPERTS._replace(hidden=rows * width - rows * width // 2, stream=stream),
    )
