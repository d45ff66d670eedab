"""Where the factors of each site come from while weights pass by one at a time, so that little is kept in memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from costmodel.decomposition.factors import Decomposition, Factor, Site
from costmodel.tensors import WeightTensor
from validate.factors.moments import LayerMoments, Moments, watched
from validate.factors.replace import StageMaker, WeightFactors
from validate.factors.sequential import SequentialPass
from validate.factors.whitening import WhitenedFactors
from validate.models.stream import LayerStream
from validate.models.weights import dense_weight

Makers = Callable[[Site], StageMaker]
"""From a site to what makes its factors; asked for layer by layer, from the first on."""


def plain_makers(site: Site) -> StageMaker:
    """Factors from the weight alone; a factorisation is forgotten with its site."""
    return WeightFactors()


class WhitenedMakers:
    """Factors that fit the dense model's activations; runs it layer by layer as far as sites are asked for.

    In memory are one layer, its second moments and the hidden states of the text.

    Args:
        stream: the dense model.
        blocks: calibration text, int64 (blocks, length).
        experts: whether stacks of experts are factored.
    """

    def __init__(self, stream: LayerStream, blocks: torch.Tensor, *, experts: bool = False) -> None:
        self._stream, self._experts = stream, experts
        self._hidden = stream.start(blocks)
        self._ready = -1
        self._moments = Moments(matrices={})

    def __call__(self, site: Site) -> StageMaker:
        while self._ready < site.layer:
            self._moments = Moments(matrices={})  # this layer's go before the next one's come
            self._ready += 1
            self._collect(self._ready, wanted=self._ready == site.layer)
        return WhitenedFactors(self._moments)

    def _collect(self, index: int, *, wanted: bool) -> None:
        tensors = watched(self._stream.spec.kind_of(index), self._experts) if wanted else ()
        with self._stream.layer(index) as layer, LayerMoments(layer, tensors) as recorder:
            self._hidden = self._stream.run_all(index, layer, self._hidden)
        matrices = {Site(index, name): matrix for name, matrix in recorder.means().items()}
        self._moments = Moments(matrices=matrices)


class SequentialMakers:
    """Factors that are fitted behind those of the layers before; memory as of `SequentialPass`.

    Args:
        stream, blocks: as of `WhitenedMakers`.
        decomposition: what is factored and dropped.
    """

    def __init__(self, stream: LayerStream, blocks: torch.Tensor, decomposition: Decomposition) -> None:
        self._pass = SequentialPass(stream, blocks, decomposition)
        self._layer = -1
        self._stages: dict[str, list[torch.Tensor]] = {}

    def __call__(self, site: Site) -> StageMaker:
        if site.layer != self._layer:
            self._layer, self._stages = site.layer, {}
            self._stages = self._pass.stages(site.layer)
        return self._give

    def _give(self, site: Site, tensor: WeightTensor, factor: Factor, dense: nn.Module) -> list[torch.Tensor]:
        like = dense_weight(dense)
        return [stage.to(device=like.device, dtype=like.dtype) for stage in self._stages[site.tensor]]
