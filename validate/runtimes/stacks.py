"""Ways of running that `validate` can measure beside PyTorch's own, and the stacks that price them. No torch."""

from __future__ import annotations

from typing import Any

from costmodel.errors import InputError
from costmodel.forward.workload import Cache, ExpertKernels, Runtime
from costmodel.hardware.stack import load_stack
from costmodel.model import ModelSpec
from costmodel.units import DType

COMPILE, ONNX = "compile", "onnx"
STACKS = {(COMPILE, "cpu"): "torch-compile-cpu", (COMPILE, "cuda"): "torch-compile", (ONNX, "cpu"): "onnxruntime-cpu"}
"""`--runtime` and kind of device -> name of the stack in `hw_profiles/stacks`."""
RUNTIME_OF = {stack: runtime for (runtime, _), stack in STACKS.items()}
"""Stack -> `--runtime`."""


def experts_of(runtime: str) -> ExpertKernels:
    """How experts, dense and factored, run under a `--runtime`: under torch.compile each linear of all of them is one
    operator; PyTorch's own passes and exported files take one expert after the other."""
    return ExpertKernels.FUSED if runtime == COMPILE else ExpertKernels.LOOPED


def stack_options(runtime: str, kind: str, dtype: DType, spec: ModelSpec) -> dict[str, Any]:
    """The fields of the workloads that `--runtime compile` or `onnx` measures on a kind of device.

    Raises:
        InputError: when the device, the type or the model cannot be run so.
    """
    if (runtime, kind) not in STACKS:
        raise InputError(f"--runtime {runtime} on this device", value=kind, allowed="cpu")
    if runtime == ONNX and dtype is not DType.FP32:
        raise InputError("--runtime onnx computes in one type", value=dtype.value, allowed="fp32")
    if runtime == ONNX and spec.is_encoder:
        raise InputError("--runtime onnx takes decoders", value=spec.name, hint="use --runtime compile")
    if runtime == ONNX:
        require_plain_cache(spec)
    stack = load_stack(STACKS[runtime, kind])
    return {"stack": stack.name, "runtime": Runtime(stack.runtime), "cache": Cache(stack.cache)}


def require_plain_cache(spec: ModelSpec) -> None:
    """Raise InputError where a layer holds something else than keys and values of heads, which exported files take."""
    for kind in (spec, *spec.kinds.values()):
        if kind.latent is not None or kind.compressed is not None or kind.state_size:
            told = "ONNX files take keys and values as their cache, not latent vectors or states"
            raise InputError(told, value=spec.name, hint="eager and compile run it")
