"""Peaks of live activations of many configurations, from the lists of operations of one dense pass.

A factored site keeps its linear's inputs alive as the dense one does and adds the inner activations that its last
factor reads; everything else of the pass stays. So the peak is the largest of few numbers for each layer.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from costmodel.arrays import Bools, Ints
from costmodel.decomposition.factors import Decomposition
from costmodel.forward.cost import OpCost
from costmodel.forward.frame import INPUT, epilogue_ops, layer_ops, prologue
from costmodel.forward.ops import Op, live_bytes
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import Workload
from costmodel.model import ModelSpec


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Liveness:
    """Live bytes of dense passes, what lives through all layers included.

    Attributes:
        site: int64 (variants, tensors): while each site's linear runs, 0 where a variant has no such tensor.
        fixed: int64 (variants,): the most while any other operation of a layer runs.
        outer: the most outside the layers; `empty`: in a pass whose layers are all dropped.
        shared: of the first layer's input, which `site` and `fixed` count twice in the first layer that is kept: also
            among what lives through all layers.
    """

    site: Ints
    fixed: Ints
    outer: int
    empty: int
    shared: int

    @classmethod
    @functools.lru_cache(maxsize=64)
    def of(cls, model: ModelSpec, work: Workload, variants: tuple[tuple[ModelSpec, int | None], ...]) -> Liveness:
        """Of a model whose layers are of these kinds with these sliding windows; the same for every stack."""
        before, (first, held) = prologue(model, work)
        after = epilogue_ops(model, work)
        held_bytes = sum(op.out_bytes for op in before if op.name in held)
        hidden_bytes = next(op.out_bytes for op in before if op.name == first)
        layers = [_layer(layer_ops(kind, work, window), hidden_bytes, held_bytes) for kind, window in variants]
        columns = {tensor: column for column, tensor in enumerate(model.tensors)}
        live = np.zeros((len(variants), len(columns)), dtype=np.int64)
        for row, ((kind, _), (_, sites)) in enumerate(zip(variants, layers, strict=True)):
            for tensor in kind.tensors:
                live[row, columns[tensor]] = sites[tensor.name]
        empty = Decomposition(dropped=frozenset(range(model.num_layers)))
        return cls(
            site=live,
            fixed=np.array([fixed for fixed, _ in layers], dtype=np.int64),
            outer=max(live_bytes([*before, _placeholder(hidden_bytes, (first,), held), *after])),
            empty=max(live_bytes(forward_ops(model, empty, work))),
            shared=hidden_bytes if first in held else 0,
        )

    def peak(self, variant_of_layer: Ints, kept: Bools, extra: Ints) -> Ints:
        """Peaks of configurations, int64 (...).

        Args:
            variant_of_layer: int64 (layers,): each layer's place among the variants.
            kept: bool (..., layers).
            extra: int64 (..., layers, tensors): what each site adds to its dense linear's live bytes.
        """
        live = np.maximum((self.site[variant_of_layer] + extra).max(axis=-1), self.fixed[variant_of_layer])
        peak: Ints
        if kept.all():
            live[..., 0] -= self.shared
            peak = np.maximum(live.max(axis=-1), self.outer)
            return peak
        first = kept & (np.cumsum(kept, axis=-1) == 1)
        live = np.where(kept, live - first * self.shared, 0)
        peak = np.where(kept.any(axis=-1), np.maximum(live.max(axis=-1), self.outer), self.empty)
        return peak


def _layer(ops: tuple[Op, ...], hidden_bytes: int, held_bytes: int) -> tuple[int, dict[str, int]]:
    """Live bytes while a dense layer's operations run: the most over those without a site, and for each site's
    linear. `held_bytes` live through all layers; the layer's input is a tensor of its own."""
    lives = [live + held_bytes for live in live_bytes([_placeholder(hidden_bytes), *ops])[1:]]
    fixed = max(live for op, live in zip(ops, lives, strict=True) if op.site is None)
    sites: dict[str, int] = {}
    for op, live in zip(ops, lives, strict=True):
        if op.site:
            sites[op.site] = max(live, sites.get(op.site, 0))
    return fixed, sites


def _placeholder(hidden_bytes: int, inputs: tuple[str, ...] = (), holds: tuple[str, ...] = ()) -> Op:
    """What stands for the input of a layer, or for all layers before the epilogue."""
    return Op(name=INPUT, kind="elementwise", cost=OpCost(), out_bytes=hidden_bytes, inputs=inputs, holds=holds)
