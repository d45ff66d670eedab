"""The paper's case studies (arXiv 2405.06626) as configurations of any model: layers, tensors and ranks. No torch.

Two factors stand for the paper's three: of a matrix both truncate to the same product. Beside each configuration stand
its whitened twin and, where whole layers are factored, the same layers dropped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from costmodel.decomposition.factors import Decomposition, Factor, Site, break_even_rank, make_factor
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor
from validate.factors.kinds import FactorsUsed
from validate.plans.case import params_of
from validate.quality.case import QualityCase

SHARES = (0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0)
"""Ranks of sweeps as shares of each tensor's break-even rank; rank 1 comes before them."""
MODERATE = 0.25
"""The rank, as a share of break-even, of sweeps over something else than the rank; beside rank 1."""
PLAIN, WHITENED, DROPPED = "plain", "whitened", "dropped"
FEW = "all tensors, rank 1"
"""How the places of few layers in the study of budgets begin."""
PAPER_LAYERS = 32
PAPER_SETS: tuple[tuple[int, ...], ...] = (
    (2, 29),
    (2, 17, 31),
    (2, 8, 14, 20, 26),
    (4, 8, 12, 16, 20, 24, 28),
    (*range(2, 30, 3), 31),
    tuple(range(0, 32, 2)),
    (1, 3, 5, 7, 9, *range(10, 19), 20, 22, 24, 26, 28, 30),
    (1, 3, 5, 7, 9, *range(10, 30)),
    (0, 2, 4, 6, *range(8, 32)),
    tuple(range(32)),
)
"""The ten sets of layers of Llama 2 7B that the paper timed and scored, from 6 to 96 % of the parameters (the authors'
artifact, MIT)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One configuration in one study.

    Attributes:
        study: rank, tensor, count, position, spacing, budget or sets.
        panel: part of the study's figure.
        series: what is compared: plain, whitened, dropped, with the rank where that varies.
        x: place in the panel: a number, or a name.
        case: what is measured; the same case may be in several studies.
    """

    study: str
    panel: str
    series: str
    x: float | str
    case: QualityCase


def case_studies(spec: ModelSpec) -> list[Point]:
    """Every point of every study, without the dense model."""
    return [
        *_rank(spec),
        *_tensor(spec),
        *_count(spec),
        *_position(spec),
        *_spacing(spec),
        *_budget(spec),
        *paper_sets(spec),
    ]


def spread(spec: ModelSpec, count: int) -> list[int]:
    """`count` layers at equal distances, the first, which costs more than any other, only when all are asked for: of
    8 layers, 2 are 2 and 6."""
    start = 0 if count == spec.num_layers else 1
    return [start + int((2 * place + 1) * (spec.num_layers - start) / (2 * count)) for place in range(count)]


def factored(spec: ModelSpec, layers: Sequence[int], tensors: Sequence[str], share: float | None) -> Decomposition:
    """These tensors of these layers at a share of each one's break-even rank, at least rank 1; None for rank 1."""
    factors: dict[Site, Factor] = {}
    for name in tensors:
        factor = make_factor("svd", rank_at(spec.tensor(name), share))
        factors |= {Site(layer, name): factor for layer in layers}
    return Decomposition(factors)


def rank_at(tensor: WeightTensor, share: float | None) -> int:
    """The rank of two factors at a share of break-even, at least 1; 1 for None."""
    limit = break_even_rank(tensor.out_features, tensor.in_features, "svd")
    return 1 if share is None else max(1, int(share * limit + 1e-9))


def removed(spec: ModelSpec, decomposition: Decomposition) -> float:
    """Share of the model's parameters that a configuration lacks."""
    return 1 - params_of(spec, decomposition) / spec.num_params


def matched(
    spec: ModelSpec, tensors: Sequence[str], size: float, layers: Sequence[int] | None = None
) -> Decomposition | None:
    """These tensors in these layers, all by default, at the share of break-even that removes `size` of the parameters
    most nearly; None where even rank 1 removes too little."""
    layers = range(spec.num_layers) if layers is None else layers
    if removed(spec, factored(spec, layers, tensors, None)) < 0.97 * size:
        return None

    def gone(step: int) -> float:
        found = 0
        for tensor in map(spec.tensor, tensors):
            factor = make_factor("svd", rank_at(tensor, step / 400))
            found += tensor.weight_params - factor.weight_params(tensor.out_features, tensor.in_features)
        return len(layers) * found / spec.num_params

    return factored(spec, layers, tensors, min(range(401), key=lambda step: abs(gone(step) - size)) / 400)


def _both(study: str, panel: str, x: float | str, each: Decomposition, suffix: str = "") -> Iterator[Point]:
    kinds: tuple[tuple[str, FactorsUsed], ...] = ((PLAIN, "plain"), (WHITENED, "whitened"))
    for series, factors in kinds:
        case = QualityCase(decomposition=each, factors=factors)
        yield Point(study=study, panel=panel, series=series + suffix, x=x, case=case)


def _dropped(study: str, panel: str, x: float | str, layers: Sequence[int]) -> Point:
    case = QualityCase(decomposition=Decomposition(dropped=frozenset(layers)), factors="none")
    return Point(study=study, panel=panel, series=DROPPED, x=x, case=case)


def _rank(spec: ModelSpec) -> Iterator[Point]:
    """How far a rank can fall: all tensors of one layer, a quarter of the layers, all layers."""
    names = spec.groups["all"]
    for count in dict.fromkeys((1, max(1, spec.num_layers // 4), spec.num_layers)):
        layers = spread(spec, count)
        panel = f"{_listed(layers)} of {spec.num_layers}" if count < spec.num_layers else "all layers"
        for share in (None, *SHARES):
            yield from _both("rank", panel, 0.0 if share is None else share, factored(spec, layers, names, share))
        if count < spec.num_layers:
            yield _dropped("rank", panel, 0.0, layers)


def _tensor(spec: ModelSpec) -> Iterator[Point]:
    """Which tensors: each alone, then the groups, in all layers."""
    groups = {
        **{name: (name,) for name in spec.groups["all"]},
        **{f"{g} group": spec.groups[g] for g in ("attn", "mlp")},
    }
    for name, tensors in groups.items():
        for panel, share in (("rank 1", None), (f"{100 * MODERATE:.0f} % of break-even", MODERATE)):
            yield from _both("tensor", panel, name, factored(spec, range(spec.num_layers), tensors, share))


def _count(spec: ModelSpec) -> Iterator[Point]:
    """How many layers, spread out."""
    for count in range(1, spec.num_layers + 1):
        layers = spread(spec, count)
        for suffix, share in ((", rank 1", None), (f", {100 * MODERATE:.0f} % of break-even", MODERATE)):
            yield from _both("count", "all", count, factored(spec, layers, spec.groups["all"], share), suffix)
        if count < spec.num_layers:
            yield _dropped("count", "all", count, layers)


def _position(spec: ModelSpec) -> Iterator[Point]:
    """Which layer: each alone at rank 1."""
    for layer in range(spec.num_layers):
        yield from _both("position", "all", layer, factored(spec, [layer], spec.groups["all"], None))
        yield _dropped("position", "all", layer, [layer])


def _spacing(spec: ModelSpec) -> Iterator[Point]:
    """How far apart: every pair of layers at rank 1; of deep models the first layer and 11 spread ones."""
    layers = range(spec.num_layers) if spec.num_layers <= 12 else [0, *spread(spec, 11)]
    for first, second in combinations(layers, 2):
        pair = factored(spec, [first, second], spec.groups["all"], None)
        yield from _both("spacing", "all", second - first, pair)
        yield _dropped("spacing", "all", second - first, [first, second])


def _budget(spec: ModelSpec) -> Iterator[Point]:
    """All tensors of few layers, or fewer tensors of all: at the size of 1, 2 and 3 eighths of the layers at rank 1.

    The first layer costs more than any other, so like stands beside like: few layers with it and without it, and
    fewer tensors of all layers and of all but the first.
    """
    every, inner = range(spec.num_layers), range(1, spec.num_layers)
    options = {
        "all tensors": spec.groups["all"],
        **{f"{g} group": spec.groups[g] for g in ("attn", "mlp")},
        **{name: (name,) for name in spec.groups["all"]},
    }
    for count in dict.fromkeys(max(1, round(spec.num_layers * eighths / 8)) for eighths in (1, 2, 3)):
        layers = spread(spec, count)
        size = removed(spec, factored(spec, layers, spec.groups["all"], None))
        panel = f"{100 * size:.0f} % of parameters removed"
        for few in (layers, [0, *layers[1:]]) if layers[0] else (layers,):
            whole = factored(spec, few, spec.groups["all"], None)
            yield from _both("budget", panel, f"{FEW}, {_listed(few)}", whole)
            yield _dropped("budget", panel, _listed(few), few)
        for where, many in (("all layers", every), ("all layers but the first", inner)):
            for name, tensors in options.items():
                found = matched(spec, tensors, size, many) if len(many) > count else None
                if found is not None:
                    yield from _both("budget", panel, f"{name}, {where}", found)


def paper_sets(spec: ModelSpec) -> Iterator[Point]:
    """The paper's ten sets at rank 1, moved to the same share of this model's depth; of a model of less than half the
    paper's layers too many would fall on each other, and there are none."""
    if 2 * spec.num_layers < PAPER_LAYERS:
        return
    scale = (spec.num_layers - 1) / (PAPER_LAYERS - 1)
    for layers in dict.fromkeys(tuple(dict.fromkeys(round(layer * scale) for layer in own)) for own in PAPER_SETS):
        yield from _both("sets", "all", _numbers(layers), factored(spec, layers, spec.groups["all"], None))
        if len(layers) < spec.num_layers:
            yield _dropped("sets", "all", _numbers(layers), layers)


def _numbers(layers: Sequence[int]) -> str:
    """Layers with those that follow each other as ranges: 0, 2, 5-9."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _listed(layers: Sequence[int]) -> str:
    return f"layer{'s' if len(layers) > 1 else ''} {', '.join(map(str, layers))}"
