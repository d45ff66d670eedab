"""A folder, dense or factored, as an ONNX file that was compared with PyTorch before it appears."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch

from costmodel.errors import ModelError
from validate.errors import MeasurementError
from validate.models.artefact import open_factored
from validate.models.kept import is_factored
from validate.models.pretrained import open_pretrained
from validate.runtimes.export import CachedPass, Exported, export_onnx, names_of, open_session
from validate.runtimes.passes import TOLERANCE, largest_difference


def export_folder(folder: Path, out: Path, status: Callable[[str], None] = lambda text: None) -> float:
    """Write a file in fp32.

    Args:
        status: told what is being done.

    Returns:
        The largest difference between ONNX Runtime's and PyTorch's outputs, relative to the largest, over a prompt and
        a step after it.

    Raises:
        ModelError: when the folder cannot be read.
        MeasurementError: when the model does not export, or the file computes something else; nothing is left then.
    """
    if not folder.is_dir():
        raise ModelError("no such folder", value=str(folder))
    status(f"reading {folder}")
    opened = open_factored if is_factored(folder) else open_pretrained
    pretrained = opened(folder, dtype=torch.float32)
    spec, model = pretrained.spec, pretrained.model
    shape = Exported.of(spec)
    temporary = out.with_name(f".{out.name}.writing")
    beside = temporary.with_name(f"{temporary.name}.data")
    try:
        status(f"exporting {spec.name}")
        export_onnx(model, shape, temporary)
        status("comparing ONNX Runtime's outputs with PyTorch's")
        session = open_session(temporary)
        inputs, outputs = names_of(shape.num_layers)
        reference = CachedPass(model, shape.windows).eval()
        tokens = torch.arange(12).view(2, 6) % spec.vocab_size
        past = [torch.zeros(2, shape.num_kv_heads, 0, shape.head_dim) for _ in range(2 * shape.num_layers)]
        found: list[torch.Tensor] = []
        wanted: list[torch.Tensor] = []
        for new in (tokens, tokens[:, :1]):
            with torch.no_grad():
                expected = reference(new, past)
            feed = {name: tensor.numpy() for name, tensor in zip(inputs, [new, *past], strict=True)}
            found += map(torch.from_numpy, session.run(outputs, feed))
            wanted += expected
            past = list(expected[1:])
        off = largest_difference(found, wanted)
        if not off <= TOLERANCE[torch.float32]:
            raise MeasurementError("identity", f"outputs of the file differ by {off:.2g} of the largest")
        if beside.exists():
            raise MeasurementError("export", "weights beyond 2 GB, which one file does not hold")
        os.replace(temporary, out)
    finally:
        for path in (temporary, beside):
            path.unlink(missing_ok=True)
    return off
