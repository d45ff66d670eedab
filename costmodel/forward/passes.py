"""The forward pass of a configuration: the list of operations that arrays, rows and graphs are made from."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator

from costmodel.decomposition.factors import Decomposition, Factor, LowRank, Site
from costmodel.forward.cost import OpCost
from costmodel.forward.frame import INPUT, epilogue_ops, layer_ops, prologue
from costmodel.forward.ops import FACTOR_SUFFIXES, Op, site_product, summed_rows
from costmodel.forward.routing import grouped_work, stack_work
from costmodel.forward.sharding import WAYS, split_stages
from costmodel.forward.stages import send, stage_layers
from costmodel.forward.workload import Way, Workload
from costmodel.model import ModelSpec
from costmodel.tensors import WeightTensor


def first_way(tensor: WeightTensor, factor: Factor) -> Way:
    """The first way to split any factored weight, the only one on a single device."""
    return WAYS[tensor.split][0]


def forward_ops(
    model: ModelSpec,
    decomposition: Decomposition,
    work: Workload,
    way: Callable[[WeightTensor, Factor], Way] = first_way,
) -> list[Op]:
    """Every operation of one pass in execution order, with the names of the Hugging Face modules.

    Args:
        model: what one device runs (`costmodel.forward.sharding.rank_of`).
        decomposition, work: what is run.
        way: how several devices split a factored weight.
    """
    runs = [
        (run, layer)
        for run, layer in itertools.product(range(model.loops), range(model.num_layers))
        if layer not in decomposition.dropped
    ]
    return list(itertools.chain.from_iterable(_parts(model, decomposition, work, way, runs, sends=True)))


def counted_ops(
    model: ModelSpec,
    decomposition: Decomposition,
    work: Workload,
    way: Callable[[WeightTensor, Factor], Way] = first_way,
) -> list[tuple[Op, int]]:
    """The operations of a pass and how often each runs: of layers that do the same, those of the first. Arguments as of
    `forward_ops`, whose operations these are in the order of their first runs."""
    factors: dict[int, set[tuple[str, Factor]]] = {}
    for site, factor in decomposition.factors.items():
        factors.setdefault(site.layer, set()).add((site.tensor, factor))
    alike: dict[object, list[int]] = {}
    for layer, variant in enumerate(model.variants):
        if layer not in decomposition.dropped:
            alike.setdefault((variant, frozenset(factors.get(layer, ()))), []).append(layer)
    runs = [(0, same[0]) for same in alike.values()]
    before, *layers, after = _parts(model, decomposition, work, way, runs, sends=False)
    counted = [(op, 1) for op in before]
    if work.pp > 1:
        counted.append((send(model, work, before[-1].name), work.pp - 1))
    for ops, same in zip(layers, alike.values(), strict=True):
        counted += [(op, model.loops * len(same)) for op in ops]
    return counted + [(op, 1) for op in after]


def _parts(
    model: ModelSpec,
    decomposition: Decomposition,
    work: Workload,
    way: Callable[[WeightTensor, Factor], Way],
    runs: Iterable[tuple[int, int]],
    *,
    sends: bool,
) -> Iterator[list[Op]]:
    """The prologue, each of these (run, layer) after the other, and the epilogue, with `sends` what stages send."""
    before, (current, _) = prologue(model, work)
    yield list(before)
    outside = {op.name: op.name for op in before}
    listed: dict[tuple[ModelSpec, int | None], tuple[Op, ...]] = {}
    linears: dict[tuple[ModelSpec, str], FactoredLinear] = {}
    cut = [layers.start for layers in stage_layers(model.num_layers, work.pp)[1:]] if sends else []

    def sent(layer: int) -> Iterator[Op]:
        nonlocal current
        while cut and cut[0] <= layer:
            cut.pop(0)
            yield send(model, work, current)
            current = f"{current}.send"

    for run, layer in runs:
        ops = list(sent(layer))
        names = {**outside, INPUT: current}
        prefix = f"{model.layer_prefix}.{layer}." + (f"run_{run}." if run else "")
        kind = model.kind_of(layer)
        variant = kind, model.sliding_windows[layer]
        if variant not in listed:
            listed[variant] = layer_ops(kind, work, variant[1])
        for op in listed[variant]:
            factor = None if op.site is None else decomposition.factors.get(Site(layer, op.site))
            if op.site is None or factor is None:
                ops.append(_place(op, names, prefix))
            elif op.kind == "gemm":
                if (kind, op.site) not in linears:
                    linears[kind, op.site] = FactoredLinear(kind.tensor(op.site), kind, work)
                linear, holds = linears[kind, op.site], tuple([names[name] for name in op.holds])
                inputs = tuple([names[name] for name in op.inputs])
                ops += linear.ops(prefix + op.name, inputs, holds, factor, way(linear.tensor, factor))
            names[op.name] = current = ops[-1].name
        yield ops
    last = list(sent(model.num_layers))
    names = {**outside, INPUT: current}
    for op in epilogue_ops(model, work):
        last.append(_place(op, names, ""))
        names[op.name] = op.name
    yield last


class FactoredLinear:
    """What replaces the dense linear of one tensor in one workload: what all ranks share is looked up once.

    Args:
        tensor: of the model `kind`, whose layers are all alike.
        work: what is run.
    """

    def __init__(self, tensor: WeightTensor, kind: ModelSpec, work: Workload) -> None:
        stack = stack_work(tensor, kind, work)
        self.tensor, self._tp, self._act_bytes, self._fp8 = tensor, work.tp, work.act_bytes, work.fp8
        self._rows, self._summed_rows = stack.rows, summed_rows(tensor, stack, work)
        self._bias = tensor.out_features if tensor.bias else 0
        self._product = site_product(work, tensor, stack)
        self._experts = [grouped_work(tensor, kind, work, place) for place in range(len(FACTOR_SUFFIXES))]

    def ops(
        self, dense: str, inputs: tuple[str, ...], holds: tuple[str, ...], factor: Factor, way: Way = "replicate"
    ) -> list[Op]:
        """`.in` and `.out`, with `.core` between them in the Tucker form, and what several devices exchange.

        Args:
            dense, inputs, holds: name of the linear that they replace, and of what it reads and holds.
            factor: its form and ranks.
            way: how it is split over the devices.
        """
        source, (first, last) = inputs, factor.ranks
        core = 0 if isinstance(factor, LowRank) else last
        out, inner = self.tensor.out_features, self.tensor.in_features
        rows, site, ops, place, held = self._rows, self.tensor.name, list[Op](), 0, holds
        for suffix, kind, n, k, bias, summed in split_stages(way, first, last, core, out, inner, self._bias, self._tp):
            if not n:
                continue
            name, size = dense + suffix, rows * n * self._act_bytes
            if kind == "gemm":
                cost, gemm, experts = self._product(n, k, bias=bias > 0), (rows, n, k), self._experts[place]
                place += 1
            else:
                cost, gemm, experts = self._exchange(n, summed), None, None
            ops.append(Op._make((name, kind, cost, size, 0, gemm, None, source, held, site, 0, self._fp8, experts)))
            source, held = (name,), (*holds, *inputs)
        return ops

    def _exchange(self, width: int, summed: bool) -> OpCost:
        rows = self._summed_rows if summed else self._rows
        return OpCost(message_bytes=rows * width * self._act_bytes, kernels=1)


_INPUTS = Op._fields.index("inputs")
"""Behind it stands `holds`."""


def _place(op: Op, names: dict[str, str], prefix: str) -> Op:
    inputs = tuple([names[name] for name in op.inputs])
    holds = tuple([names[name] for name in op.holds]) if op.holds else ()
    return Op._make((prefix + op.name, *op[1:_INPUTS], inputs, holds, *op[_INPUTS + 2 :]))
