"""What a factored checkpoint will hold, before any weight is read: names, shapes, files, and the memory to write it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import prod
from typing import Literal

from costmodel.decomposition.factors import Decomposition, Site, Tucker, factor_stages
from costmodel.model import ModelSpec
from validate.checkpoint.expert_steps import expert_steps
from validate.checkpoint.source import DenseSource
from validate.checkpoint.steps import Output, Step, weight_outputs
from validate.factors.experts import all_experts, factored_layers
from validate.hf.names import DTYPES, shard_names

PROCESS_BYTES = 10**9
"""An interpreter with torch and transformers, before any weight; measured 0.5 GB."""
SVD_MATRICES, TUCKER_MATRICES, WHITENED_MATRICES = 9, 18, 20
"""fp32 matrices of the weight's size that one factorisation holds at its peak, result and LAPACK's workspace included.
Measured at 1024 x 1024 and 2816 x 1024: at most 7.7, 15.7 and 18.6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps in the model's order, so that files fill one after the other.

    Attributes:
        dtype: fp32, bf16 or fp16, of every tensor that is not in int8.
        form: factors, or the products of them under the names of the dense weights.
        int8: whether the linears of the layers, factored or not, are in int8 with a scale for each output.
        steps: what is not named in them belongs to dropped layers.
        files: names of the weight files; a step's outputs name them by their place here.
    """

    dtype: str
    form: Literal["factored", "merged"] = "factored"
    int8: bool = False
    steps: tuple[Step, ...]
    files: tuple[str, ...]

    @property
    def element_bytes(self) -> int:
        """Bytes of one weight."""
        return DTYPES[self.dtype][0].itemsize

    @property
    def params(self) -> int:
        """Weights to write, tied ones once and scales not counted."""
        return sum(prod(each.shape) for step in self.steps for each in step.outputs if each.kind != "scale")

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return sum(self.shard_bytes())

    @property
    def disk_bytes(self) -> int:
        """What writing takes of the disk: all tensors, and factors once more until the folder is whole."""
        factors = sum(prod(each.shape) for step in self.steps if step.factor for each in step.outputs)
        return self.bytes + factors * self.element_bytes

    def shard_bytes(self) -> list[int]:
        """Bytes of the tensors of each file."""
        sizes = [0] * len(self.files)
        for step in self.steps:
            for each in step.outputs:
                sizes[each.shard] += each.bytes(self.element_bytes)
        return sizes


def plan_checkpoint(
    source: DenseSource,
    decomposition: Decomposition,
    dtype: str,
    max_shard_bytes: int,
    *,
    form: Literal["factored", "merged"] = "factored",
    int8: bool = False,
) -> Plan:
    """Decide what is written where.

    Args:
        dtype: fp32, bf16 or fp16.
        max_shard_bytes: a file takes tensors up to this size, at least one.
        form, int8: as of `Plan`.
    """
    steps: list[Step] = []
    shard, filled = 0, 0
    width = DTYPES[dtype][0].itemsize
    for step in _steps(source, decomposition, form, int8):
        outputs = []
        for output in step.outputs:
            size = output.bytes(width)
            if filled and filled + size > max_shard_bytes:
                shard, filled = shard + 1, 0
            filled += size
            outputs.append(replace(output, shard=shard))
        steps.append(replace(step, outputs=tuple(outputs)))
    names = shard_names(shard + 1, "model" if form == "merged" else "factored")
    return Plan(dtype=dtype, form=form, int8=int8, steps=tuple(steps), files=tuple(names))


def peak_bytes(plan: Plan, source: DenseSource, calibration_tokens: int = 0) -> int:
    """An upper bound of resident memory while writing; the number of layers is no part of it.

    The largest weight as stored and as written, and the larger of two: one file's tensors twice, when the file is read
    back beside them (pages of a mapped file, which count as resident), or once beside the largest factorisation,
    `SVD_MATRICES` and the like times 4 bytes times m n. Whitened factors add a layer, its second moments and the
    hidden states of the text before and after it.

    Args:
        calibration_tokens: of the text for whitened factors, 0 for plain ones.
    """
    spec, shapes = source.spec, source.weights.shapes
    factoring = 0
    for step in plan.steps:
        for factor, shape in step.factored(shapes[step.source]):
            matrices = TUCKER_MATRICES if isinstance(factor, Tucker) else SVD_MATRICES
            matrices = WHITENED_MATRICES if calibration_tokens else matrices
            factoring = max(factoring, matrices * 4 * prod(shape))
    shard = max(plan.shard_bytes())
    largest = max(map(prod, shapes.values())) * (source.weights.element_bytes + plan.element_bytes)
    total = PROCESS_BYTES + largest + max(2 * shard, shard + factoring)
    if calibration_tokens:
        layer = max(spec.layer_params(each) for each in range(spec.num_layers))
        experts = any(part.given is not None for step in plan.steps for part in step.parts)
        total += 4 * layer + moment_bytes(spec, experts=experts) + 2 * 4 * calibration_tokens * spec.hidden_size
    return total


def moment_bytes(spec: ModelSpec, *, experts: bool = False) -> int:
    """Bytes of one layer's second moments in float64, sums and means, at most: weights of equal input share them, and
    with `experts` the last linear of each has its own."""
    copies = [
        (each.experts if each.name.endswith("down_proj") else 1) * experts if each.experts else 1
        for each in spec.tensors
    ]
    return sum(2 * 8 * count * each.in_features**2 for count, each in zip(copies, spec.tensors, strict=True))


def step_cost(step: Step, source: DenseSource) -> float:
    """Seconds that a step takes, roughly, for the time left: 1 GB/s of weights, a factorisation of m x n at 20 m n
    min(m, n) operations and 20 GFLOP/s."""
    shape = source.weights.shapes[step.source]
    work = sum(20 * prod(each) * min(each) / 20e9 for _, each in step.factored(shape))
    return work + 4 * prod(shape) / 1e9


def _steps(
    source: DenseSource, decomposition: Decomposition, form: Literal["factored", "merged"], int8: bool
) -> Iterator[Step]:
    spec = source.spec
    kept = [index for index in range(spec.num_layers) if index not in decomposition.dropped]
    experts = (all_experts if int8 else factored_layers)(spec, decomposition)
    for name, shape in source.weights.shapes.items():
        number, _, rest = name.removeprefix(f"{source.layers}.").partition(".")
        if not name.startswith(f"{source.layers}."):
            yield Step(source=name, outputs=(Output(name=name, shape=shape),))
            continue
        layer = int(number)
        if layer in decomposition.dropped:
            continue
        place = f"{source.layers}.{kept.index(layer)}"
        module, _, kind = rest.rpartition(".")
        if (own := experts[layer]) is not None and module == own.path:
            yield from expert_steps(source, own, layer, f"{place}.{module}", kind, form, int8=int8)
            continue
        site = _site(spec, layer, module)
        factor = decomposition.factors.get(site) if site else None
        if site is None or (factor is None and not (int8 and kind == "weight")):
            yield Step(source=name, outputs=(Output(name=f"{place}.{rest}", shape=shape),))
        elif kind == "bias" and factor is not None and form == "factored":
            yield Step(source=name, outputs=(Output(name=f"{place}.{module}.out.bias", shape=shape),))
        elif kind == "bias" or form == "merged":
            step = Step(source=name, outputs=(Output(name=f"{place}.{rest}", shape=shape),))
            yield step if kind == "bias" else replace(step, site=site, factor=factor)
        else:
            tensor = spec.tensor(site.tensor, layer)
            parts = [(f"{place}.{module}.weight", (tensor.out_features, tensor.in_features))]
            if factor is not None:
                stages = factor_stages(factor, tensor)
                parts = [(f"{place}.{module}{each.suffix}.weight", (each.n, each.k)) for each in stages]
            outputs = [each for name_, shape_ in parts for each in weight_outputs(name_, shape_, int8=int8)]
            yield Step(source=name, outputs=tuple(outputs), site=site, factor=factor)


def _site(spec: ModelSpec, layer: int, path: str) -> Site | None:
    return next((Site(layer, each.name) for each in spec.kind_of(layer).tensors if each.path == path), None)
