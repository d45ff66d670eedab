"""From a stored weight to what is written of it: itself, its factors or their product, and what the manifest says."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from costmodel.decomposition.factors import Factor, Site
from costmodel.tensors import WeightTensor
from validate.checkpoint.expert_steps import layout_of
from validate.checkpoint.makers import Makers
from validate.checkpoint.manifest import SiteRecord
from validate.checkpoint.plan import Plan
from validate.checkpoint.source import DenseSource
from validate.checkpoint.steps import Step
from validate.factors.factorize import product
from validate.hf.experts import as_linear
from validate.hf.modules import to_int8
from validate.hf.names import DTYPES
from validate.models.weights import dense_weight, require_finite


class Factoring:
    """Makes the tensors of one step after the other; keeps the stack of experts that was read last.

    Args:
        source: the dense checkpoint.
        makers: give the factors of each site.
        plan: says the types and the form.
        device: where weights are factored.
    """

    def __init__(self, source: DenseSource, makers: Makers, plan: Plan, device: torch.device) -> None:
        self._source, self._makers, self._plan, self._device = source, makers, plan, device
        self._dtype = DTYPES[plan.dtype][0]
        self._last: tuple[str, torch.dtype, torch.Tensor] | None = None

    def written(self, step: Step) -> tuple[list[torch.Tensor], list[SiteRecord]]:
        """What a step writes, rounded to the plan's type, in memory of its own, and a record of each factored site.

        Raises:
            ModelError: when the weight cannot be read.
            MeasurementError: when it is not finite, or not in the type asked for, or a factorisation fails.
        """
        if step.parts:
            return self._experts(step)
        self._last = None
        weight = self._read(step.source, factored=step.site is not None)
        if step.site is None:
            return [weight], []
        if step.factor is None:
            return [self._filled(step.source, weight).contiguous()], []
        return self._site(step.source, step.site, step.factor, weight.to(self._device))

    def _read(self, name: str, *, factored: bool) -> torch.Tensor:
        weights = self._source.weights
        kind = weights.wide_type(name, self._dtype) if factored else self._dtype
        if self._last is not None and self._last[:2] == (name, kind):
            return self._last[2]
        weight = weights.read(name, kind)
        require_finite(weight, name, self._dtype)
        return weight

    def _filled(self, name: str, weight: torch.Tensor) -> torch.Tensor:
        """A linear's stored weight as (out, in)."""
        dense = self._source.model.get_submodule(name.removesuffix(".weight"))
        return weight if isinstance(dense, nn.Linear) else weight.T

    def _site(
        self, name: str, site: Site, factor: Factor, weight: torch.Tensor
    ) -> tuple[list[torch.Tensor], list[SiteRecord]]:
        """Of one weight: its factors, or their product as the dense model stores it."""
        tensor = self._source.spec.tensor(site.tensor, site.layer)
        dense: Any = self._source.model.get_submodule(name.removesuffix(".weight"))
        empty = dense.weight
        dense.weight = nn.Parameter(weight, requires_grad=False)
        try:
            stages, norm, off = self._stages(site, tensor, factor, dense)
        finally:
            dense.weight = empty
        if self._plan.form == "merged" and not isinstance(dense, nn.Linear):
            stages = [stages[0].T]
        return [_own(stage) for stage in stages], [_record(site, tensor, factor, off / norm if norm else off)]

    def _experts(self, step: Step) -> tuple[list[torch.Tensor], list[SiteRecord]]:
        """Of a stack: what is taken out of it, or merged the whole with products in their places."""
        rounded = any(part.given is not None for part in step.parts)
        rounded = rounded or any(output.kind == "int8" for output in step.outputs)
        stack = self._read(step.source, factored=rounded)
        self._last = step.source, stack.dtype, stack
        path, _, _ = step.source.rpartition(".")
        layout = layout_of(self._source.model.get_submodule(path))
        merged = self._plan.form == "merged"
        whole = stack.to(self._dtype, copy=True) if merged else stack
        tensors: list[torch.Tensor] = []
        squares: dict[Site, tuple[float, float]] = {}
        records: dict[Site, tuple[WeightTensor, Factor]] = {}
        for part in step.parts:
            weight = layout.part(stack, part.linear, part.expert)
            if part.given is None:
                tensors.append(_own(weight))
                continue
            given, dense = part.given, as_linear(weight.to(self._device))
            stages, norm, off = self._stages(given.own, given.tensor, given.factor, dense)
            norms, offs = squares.get(given.given, (0.0, 0.0))
            squares[given.given] = norms + norm**2, offs + off**2
            records[given.given] = given.tensor, given.factor
            if merged:
                layout.part(whole, part.linear, part.expert).copy_(stages[0])
            else:
                tensors += [_own(stage) for stage in stages]
        found = []
        for site, (tensor, factor) in records.items():
            norms, offs = squares[site]
            found.append(_record(site, tensor, factor, math.sqrt(offs / norms) if norms else math.sqrt(offs)))
        return [whole] if merged else tensors, found

    def _stages(
        self, site: Site, tensor: WeightTensor, factor: Factor, dense: nn.Module
    ) -> tuple[list[torch.Tensor], float, float]:
        """What is written of a linear's weight, that weight's norm, and the norm of what is lost of it."""
        stages = [stage.to(self._dtype) for stage in self._makers(site)(site, tensor, factor, dense)]
        exact = dense_weight(dense).to(torch.float32)
        if self._plan.form == "merged":
            stages = [product(stages).to(self._dtype)]
        kept = [_dequantised(stage) for stage in stages] if self._plan.int8 else stages
        norm = float(torch.linalg.vector_norm(exact, dtype=torch.float64))
        off = float(torch.linalg.vector_norm(exact - product(kept), dtype=torch.float64))
        return stages, norm, off


def _record(site: Site, tensor: WeightTensor, factor: Factor, error: float) -> SiteRecord:
    first, last = factor.ranks
    form: Any = factor.to_json()["form"]
    return SiteRecord(
        layer=site.layer, tensor=site.tensor, module=tensor.path, form=form, rank=(first, last), relative_error=error
    )


def _own(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _dequantised(weight: torch.Tensor) -> torch.Tensor:
    """A weight as int8 and scale give it back."""
    whole, scale = to_int8(weight, weight.dtype)
    return whole.to(scale.dtype) * scale[:, None]
