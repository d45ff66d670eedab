"""What a factored checkpoint will hold, before any weight is read: names, shapes, files, and the memory to write it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from costmodel.decomposition.factors import Decomposition, Factor, Site, Tucker, factor_stages
from costmodel.model import ModelSpec
from validate.checkpoint.source import DenseSource
from validate.hf.names import DTYPES

PROCESS_BYTES = 10**9
"""An interpreter with torch and transformers, before any weight; measured 0.5 GB."""
SVD_MATRICES, TUCKER_MATRICES, WHITENED_MATRICES = 9, 18, 20
"""fp32 matrices of the weight's size that one factorisation holds at its peak, result and LAPACK's workspace included.
Measured at 1024 x 1024 and 2816 x 1024: at most 7.7, 15.7 and 18.6."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One tensor to write, and the number of its file."""

    name: str
    shape: tuple[int, ...]
    shard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One tensor to read, and what becomes of it: itself, or the factors of a site in the order they run."""

    source: str
    outputs: tuple[Output, ...]
    site: Site | None = None
    factor: Factor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The steps in the model's order, so that files fill one after the other.

    Attributes:
        dtype: fp32, bf16 or fp16, of every tensor.
        steps: what is not named in them belongs to dropped layers.
        files: names of the weight files; a step's outputs name them by their place here.
    """

    dtype: str
    steps: tuple[Step, ...]
    files: tuple[str, ...]

    @property
    def element_bytes(self) -> int:
        """Bytes of one weight."""
        return DTYPES[self.dtype][0].itemsize

    @property
    def params(self) -> int:
        """Weights to write, tied ones once."""
        return sum(prod(each.shape) for step in self.steps for each in step.outputs)

    @property
    def bytes(self) -> int:
        """Bytes of all tensors."""
        return self.params * self.element_bytes

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
                sizes[each.shard] += prod(each.shape) * self.element_bytes
        return sizes


def plan_checkpoint(source: DenseSource, decomposition: Decomposition, dtype: str, max_shard_bytes: int) -> Plan:
    """Decide what is written where.

    Args:
        dtype: fp32, bf16 or fp16.
        max_shard_bytes: a file takes tensors up to this size, at least one.
    """
    steps: list[Step] = []
    shard, filled = 0, 0
    width = DTYPES[dtype][0].itemsize
    for step in _steps(source, decomposition):
        outputs = []
        for output in step.outputs:
            size = prod(output.shape) * width
            if filled and filled + size > max_shard_bytes:
                shard, filled = shard + 1, 0
            filled += size
            outputs.append(Output(name=output.name, shape=output.shape, shard=shard))
        steps.append(Step(source=step.source, outputs=tuple(outputs), site=step.site, factor=step.factor))
    count = shard + 1
    names = [f"factored-{index:05d}-of-{count:05d}.safetensors" for index in range(1, count + 1)]
    return Plan(dtype=dtype, steps=tuple(steps), files=tuple(names if count > 1 else ["factored.safetensors"]))


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
        if step.factor is not None:
            matrices = TUCKER_MATRICES if isinstance(step.factor, Tucker) else SVD_MATRICES
            matrices = WHITENED_MATRICES if calibration_tokens else matrices
            factoring = max(factoring, matrices * 4 * prod(shapes[step.source]))
    shard = max(plan.shard_bytes())
    largest = max(map(prod, shapes.values())) * (source.weights.element_bytes + plan.element_bytes)
    total = PROCESS_BYTES + largest + max(2 * shard, shard + factoring)
    if calibration_tokens:
        total += 4 * spec.params_per_layer + moment_bytes(spec) + 2 * 4 * calibration_tokens * spec.hidden_size
    return total


def moment_bytes(spec: ModelSpec) -> int:
    """Bytes of one layer's second moments in float64, sums and means, at most: weights of equal input share them."""
    return sum(2 * 8 * each.in_features**2 for each in spec.tensors)


def step_cost(step: Step, source: DenseSource) -> float:
    """Seconds that a step takes, roughly, for the time left: 1 GB/s of weights, a factorisation of m x n at 20 m n
    min(m, n) operations and 20 GFLOP/s."""
    shape = source.weights.shapes[step.source]
    work = 0.0 if step.factor is None else 20 * prod(shape) * min(shape) / 20e9
    return work + 4 * prod(shape) / 1e9


def _steps(source: DenseSource, decomposition: Decomposition) -> Iterator[Step]:
    spec = source.spec
    kept = [index for index in range(spec.num_layers) if index not in decomposition.dropped]
    for name, shape in source.weights.shapes.items():
        number, _, rest = name.removeprefix(f"{source.layers}.").partition(".")
        if not name.startswith(f"{source.layers}."):
            yield Step(source=name, outputs=(Output(name=name, shape=shape, shard=0),))
            continue
        layer = int(number)
        if layer in decomposition.dropped:
            continue
        place = f"{source.layers}.{kept.index(layer)}"
        module, _, kind = rest.rpartition(".")
        site = _site(spec, layer, module)
        factor = decomposition.factors.get(site) if site else None
        if site is None or factor is None:
            yield Step(source=name, outputs=(Output(name=f"{place}.{rest}", shape=shape, shard=0),))
        elif kind == "bias":
            yield Step(source=name, outputs=(Output(name=f"{place}.{module}.out.bias", shape=shape, shard=0),))
        else:
            stages = factor_stages(factor, spec.tensor(site.tensor))
            outputs = [
                Output(name=f"{place}.{module}{each.suffix}.weight", shape=(each.n, each.k), shard=0) for each in stages
            ]
            yield Step(source=name, outputs=tuple(outputs), site=site, factor=factor)


def _site(spec: ModelSpec, layer: int, path: str) -> Site | None:
    return next((Site(layer, each.name) for each in spec.tensors if each.path == path), None)
