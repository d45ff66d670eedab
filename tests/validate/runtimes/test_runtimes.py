"""Exported files compute what PyTorch computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from checkpoints import dense_folder, factored_folder, logits  # noqa: E402
from validating import BERT, LLAMA  # noqa: E402

from costmodel.cli import run  # noqa: E402
from validate.cli import cli  # noqa: E402
from validate.hf import load_factored  # noqa: E402
from validate.runtimes.export import names_of  # noqa: E402

MIXED = ["layers=0 rank=7", "layers=2 tensors=mlp rank=9 form=tucker", "layers=1 form=drop"]


@pytest.mark.slow
def test_an_exported_file_generates_as_the_model_does(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    factored_folder(dense_folder(tmp_path / "dense", LLAMA), tmp_path / "out", MIXED)
    assert run(cli, ["export", "onnx", str(tmp_path / "out"), "--out", str(tmp_path / "model.onnx")]) == 0
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    model: Any = load_factored(tmp_path / "out")
    inputs, outputs = names_of(2)
    assert [each.name for each in session.get_inputs()] == inputs
    tokens = torch.tensor([[5, 9, 17, 3]])
    new, cache = tokens, [torch.zeros(1, 2, 0, 16) for _ in range(4)]
    for _ in range(4):
        feed = {name: each.numpy() for name, each in zip(inputs, [new, *cache], strict=True)}
        found, *rest = (torch.from_numpy(each) for each in session.run(outputs, feed))
        assert torch.allclose(found[:, -1], logits(model, tokens)[:, -1], atol=1e-4)
        new, cache = found[:, -1].argmax(-1, keepdim=True), rest
        tokens = torch.cat([tokens, new], dim=1)
    assert run(cli, ["export", "onnx", str(tmp_path / "out"), "--out", str(tmp_path / "model.onnx")]) == 2


def test_what_is_not_exported(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    dense = dense_folder(tmp_path / "dense", BERT)
    assert run(cli, ["export", "onnx", str(dense), "--out", str(tmp_path / "model.onnx")]) == 2
    assert run(cli, ["export", "onnx", str(tmp_path / "none"), "--out", str(tmp_path / "model.onnx")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]
