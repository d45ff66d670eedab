"""Passes by ONNX Runtime on the CPU, over models exported for one workload."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from costmodel.decomposition.factors import Decomposition
from costmodel.errors import InputError
from costmodel.forward.workload import Phase, Workload
from costmodel.model import ModelSpec
from validate.models.passes import Pass, fixed_cache
from validate.runtimes.export import Exported, export_onnx, names_of, open_session


def onnx_pass(tree: nn.Module, spec: ModelSpec, decomposition: Decomposition, work: Workload, seed: int) -> Pass:
    """The pass of a workload; keys and values before it are those that `fixed_cache` holds.

    Args:
        tree: of `spec`, with `decomposition` applied, on the CPU.
        seed: of the tokens.

    Raises:
        InputError: when a sliding window forgets positions, which exported caches keep.
        MeasurementError: when the tree does not export.
    """
    import onnxruntime

    shape = Exported.of(spec, decomposition)
    if any(window is not None and window < work.kv_len for window in shape.windows):
        shortest = min(window for window in shape.windows if window is not None)
        raise InputError("the cache is longer than a sliding window", value=work.kv_len, allowed=f"to {shortest}")
    held = work.kv_len - 1 if work.phase is Phase.DECODE else 0
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode(False):
        path = Path(folder) / "model.onnx"
        export_onnx(tree, shape, path, fixed=(work.batch, work.q_len, held))
        session = open_session(path)
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, spec.vocab_size, (work.batch, work.q_len), generator=generator)
    layers: list[Any] = fixed_cache(spec, decomposition, work, torch.device("cpu")).layers
    past = [tensor[:, :, :held].contiguous() for layer in layers for tensor in (layer.keys, layer.values)]
    inputs, outputs = names_of(shape.num_layers)
    feed = {
        name: onnxruntime.OrtValue.ortvalue_from_numpy(tensor.numpy())
        for name, tensor in zip(inputs, [tokens, *past], strict=True)
    }

    def run() -> torch.Tensor:
        return torch.from_numpy(session.run_with_ort_values(outputs, feed)[0].numpy())

    return run
