"""Passes by ONNX Runtime on the CPU, over exported models."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from costmodel.decomposition.factors import Decomposition
from costmodel.errors import InputError
from costmodel.forward.workload import Phase, Workload
from costmodel.model import ModelSpec
from validate.models.passes import Pass, fixed_cache
from validate.runtimes.export import Exported, export_onnx, names_of


class OnnxPasses:
    """Exports the trees of one model and runs them; the dense model's file is kept, since every sample needs it.

    Args:
        spec: of the dense model.
        seed: of the tokens.
    """

    def __init__(self, spec: ModelSpec, seed: int) -> None:
        self._spec, self._seed = spec, seed

    @functools.cached_property
    def _folder(self) -> Path:
        """For the dense model's file; it goes with this object."""
        folder = tempfile.mkdtemp()
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        return Path(folder)

    def make(self, tree: nn.Module, decomposition: Decomposition, work: Workload) -> Pass:
        """The pass of a workload, with as many threads as torch has.

        Threads do not spin between two passes: those of candidate and reference would take each other's cores.

        Raises:
            InputError: when a sliding window forgets positions, which exported caches keep.
            MeasurementError: when the tree does not export.
        """
        import onnxruntime

        shape = Exported.of(self._spec, decomposition)
        if any(window is not None and window < work.kv_len for window in shape.windows):
            shortest = min(window for window in shape.windows if window is not None)
            raise InputError("the cache is longer than a sliding window", value=work.kv_len, allowed=f"to {shortest}")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        with self._file(tree, decomposition, shape) as path:
            session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        generator = torch.Generator().manual_seed(self._seed)
        tokens = torch.randint(0, self._spec.vocab_size, (work.batch, work.q_len), generator=generator)
        inputs, outputs = names_of(shape.num_layers)
        arrays = [tokens.numpy(), *(tensor.numpy() for tensor in _past(self._spec, decomposition, work))]
        feed = {
            name: onnxruntime.OrtValue.ortvalue_from_numpy(array) for name, array in zip(inputs, arrays, strict=True)
        }

        def run() -> torch.Tensor:
            return torch.from_numpy(session.run_with_ort_values(outputs, feed)[0].numpy())

        return run

    @contextlib.contextmanager
    def _file(self, tree: nn.Module, decomposition: Decomposition, shape: Exported) -> Iterator[Path]:
        is_dense = not decomposition.factors and not decomposition.dropped
        with tempfile.TemporaryDirectory() as folder:
            path = (self._folder if is_dense else Path(folder)) / "model.onnx"
            if not path.exists():
                with torch.inference_mode(False):
                    export_onnx(tree, shape, path)
            yield path


def _past(spec: ModelSpec, decomposition: Decomposition, work: Workload) -> list[torch.Tensor]:
    """Keys and values before the pass, (batch, kv heads, past, head_dim): none, or those that `fixed_cache` holds."""
    layers: list[Any] = fixed_cache(spec, decomposition, work, torch.device("cpu")).layers
    held = work.kv_len - 1 if work.phase is Phase.DECODE else 0
    return [tensor[:, :, :held].contiguous() for layer in layers for tensor in (layer.keys, layer.values)]
