"""The dense model under test, and candidates that share its untouched weights."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from costmodel.decomposition.factors import Decomposition
from costmodel.forward.workload import Workload
from costmodel.model import ModelSpec
from costmodel.units import DType
from validate.devices.device import Device
from validate.factors.replace import RandomFactors, Replacement, StageMaker, WeightFactors, clone
from validate.models.build import EXPERTS, TORCH_DTYPES, RandomMatrices, build_model, set_attention, set_experts
from validate.models.passes import Pass, make_pass
from validate.models.reading import read_factored
from validate.plans.case import Case
from validate.speed.records import ModelRecord

if TYPE_CHECKING:
    from validate.runtimes.passes import StackPasses

COLD = 2
"""Weights count as cold when this many times the last cache is read between two uses of them."""
MAX_COPIES = 8
ROOM = 0.25
"""Share of the device's memory that copies for the sake of their places may take."""


@dataclass(slots=True, kw_only=True)
class Pair:
    """A candidate and the dense reference as trees of modules, one per set of weights."""

    candidates: list[nn.Module]
    references: list[nn.Module]


class Subject:
    """A model on a device.

    Args:
        config: the decoded config.json that `spec` was made from.
        weights: a folder of safetensors, or None for random weights and random factors.
        seed: of random weights and factors.
        artefact: a folder of `validate apply`, whose weights the candidate has; the dense reference is random.
    """

    def __init__(
        self,
        config: Mapping[str, Any],
        spec: ModelSpec,
        device: Device,
        dtype: DType,
        *,
        seed: int = 0,
        weights: Path | None = None,
        artefact: Path | None = None,
    ) -> None:
        self.spec, self.device, self._seed = spec, device, seed
        self._artefact, self._dtype = artefact, dtype
        self.model = build_model(config, spec, dtype=dtype, device=device.torch_device, seed=seed, weights=weights)
        self._weight_factors = WeightFactors() if weights else None
        self.remake = None if weights else RandomMatrices(seed, device.torch_device, TORCH_DTYPES[dtype])
        """Makes a matrix of the dense model again; None with real weights."""
        self.record = ModelRecord.of(config, spec, weights or artefact)

    def candidate(self, decomposition: Decomposition) -> nn.Module:
        """A tree of its own with the decomposition applied; what it does not replace it shares with `model`.

        Raises:
            MeasurementError: when a factorisation fails.
        """
        if self._artefact is not None and (decomposition.factors or decomposition.dropped):
            return self._loaded(self._artefact)
        maker: StageMaker = self._weight_factors or RandomFactors(self._seed)
        tree = clone(self.model)
        Replacement(tree, self.spec, decomposition, maker)
        return tree

    def _loaded(self, artefact: Path) -> nn.Module:
        """The artefact as it is deployed, with a head that may want a gradient, as the reference has it."""
        import transformers

        auto = transformers.AutoModel if self.spec.is_encoder else transformers.AutoModelForCausalLM
        with torch.inference_mode(False):  # ordinary tensors, which can be exported
            tree: Any = read_factored(auto, artefact, dtype=TORCH_DTYPES[self._dtype])
        tree = tree.to(self.device.torch_device).eval().requires_grad_(False)
        if not self.spec.is_encoder:
            tree.get_output_embeddings().weight.requires_grad_()
        return tree  # type: ignore[no-any-return]

    def pair(self, case: Case, candidate: nn.Module) -> Pair:
        """Candidate and reference in copies that take turns.

        As many as caches demand, so that no pass finds the weights of the one before it, and as many as the device
        wants places in memory and has room for. Under a stack one each, which is compiled or exported.
        """
        if case.work.stack is not None:
            return Pair(candidates=[candidate], references=[self.model])
        needed = COLD * self.device.cache_bytes
        sizes = [resident_bytes(tree) for tree in (candidate, self.model)]
        room = int(ROOM * self.device.memory_bytes / sum(sizes))
        count = max(min(MAX_COPIES, math.ceil(needed / min(sizes))), min(self.device.placements, room))
        if count == 1:
            return Pair(candidates=[candidate], references=[self.model])
        return Pair(candidates=_copies(candidate, count), references=_copies(self.model, count))

    def run(self, tree: nn.Module, decomposition: Decomposition, work: Workload) -> Pass:
        """PyTorch's own pass of a workload through one tree."""
        set_attention(tree, work.attention)
        if self.spec.experts is not None:
            set_experts(tree, EXPERTS[work.experts])
        return make_pass(tree, self.spec, decomposition, work, self.device.torch_device, self._seed)

    @functools.cached_property
    def stack_passes(self) -> StackPasses:
        """What makes the passes of workloads that name a stack."""
        from validate.runtimes.passes import StackPasses

        return StackPasses(self.spec, self.device.torch_device, self._seed)


def resident_bytes(tree: nn.Module) -> int:
    """Bytes of all parameters, shared ones included."""
    return sum(parameter.nbytes for parameter in tree.parameters())


def _copies(tree: nn.Module, count: int) -> list[nn.Module]:
    return [clone(tree, torch.clone) for _ in range(count)]
