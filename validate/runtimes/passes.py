"""The pass of a workload by the stack that it names, held against PyTorch's own before it is timed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from costmodel.decomposition.factors import Decomposition
from costmodel.forward.workload import Workload
from costmodel.model import ModelSpec
from validate.errors import MeasurementError
from validate.models.build import EXPERTS, set_experts
from validate.models.passes import Pass, make_pass
from validate.runtimes.compiled import compiled_pass, forget_compiled, require_compiler
from validate.runtimes.export import require_onnx
from validate.runtimes.onnx import onnx_pass
from validate.runtimes.stacks import COMPILE, RUNTIME_OF

TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
"""Largest difference of an output, relative to the largest output, by type: other kernels round otherwise."""


def require_runtime(runtime: str, device: torch.device) -> None:
    """Try what `--runtime compile` or `onnx` needs, before anything is built.

    Raises:
        InputError: when torch.compile does not work here, or a package is not installed.
    """
    if runtime == COMPILE:
        require_compiler(device)
    else:
        require_onnx()


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedPass:
    """A pass, and how far its outputs are from PyTorch's, relative to the largest."""

    run: Pass
    difference: float
    tolerance: float


class StackPasses:
    """Makes the passes of one model by torch.compile or ONNX Runtime.

    Args:
        spec: of the dense model.
        seed: of tokens.
    """

    def __init__(self, spec: ModelSpec, device: torch.device, seed: int) -> None:
        self._spec, self._device, self._seed = spec, device, seed

    def forget(self) -> None:
        """Drop what the passes of earlier samples hold."""
        forget_compiled()

    def make(self, tree: nn.Module, decomposition: Decomposition, work: Workload) -> CheckedPass:
        """The pass of the workload's stack.

        Raises:
            InputError: when the stack cannot run the workload.
            MeasurementError: when the tree does not compile or export whole, or the outputs differ.
        """
        assert work.stack is not None
        if self._spec.experts is not None:
            set_experts(tree, EXPERTS[work.experts])
        plain = make_pass(tree, self._spec, decomposition, work, self._device, self._seed)
        if RUNTIME_OF[work.stack] == COMPILE:
            return require_close(compiled_pass(plain), plain, work.stack)
        run = onnx_pass(tree, self._spec, decomposition, work, self._seed)
        return require_close(run, plain, work.stack)


def require_close(run: Pass, plain: Pass, what: str) -> CheckedPass:
    """A pass whose outputs are those of `plain` but for other kernels' rounding.

    Raises:
        MeasurementError: when they are not.
    """
    expected = plain()
    difference = difference_of(run(), expected)
    tolerance = TOLERANCE[expected.dtype]
    if not difference <= tolerance:
        told = f"outputs of {what} differ by {difference:.2g} of the largest"
        raise MeasurementError("identity", told, allowed=f"{tolerance:g}")
    return CheckedPass(run=run, difference=difference, tolerance=tolerance)


def largest_difference(found: Iterable[torch.Tensor], expected: Iterable[torch.Tensor]) -> float:
    """The largest of `difference_of` over outputs, at least one; NaN where one is, which `max` would pass over."""
    return float(torch.tensor([difference_of(*pair) for pair in zip(found, expected, strict=True)]).max())


def difference_of(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference of an element, relative to the largest element of `expected`; NaN where either holds one."""
    return float((found.float() - expected.float()).abs().max() / expected.float().abs().max())
