"""Weights of types that are no weight's: quantised, whole numbers, complex; every command names them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch
from checkpoints import dense_folder
from quality_cases import TEXT, tokenizer
from safetensors.torch import load_file, save_file
from validating import LLAMA

from costmodel.cli import run
from costmodel.errors import CostModelError
from validate.cli import cli
from validate.sensitivity.file import load_sensitivity

NAME = "model.layers.0.mlp.up_proj.weight"
KINDS = {
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}
COMMANDS = [
    ["apply", "--decompose", "rank=2 tensors=attn", "--dtype", "fp32"],
    ["sensitivity", "--text", "text.txt", "--blocks", "2", "--length", "16"],
    ["quality", "--text", "text.txt", "--blocks", "2", "--length", "16", "--samples", "1", "--threads", "1"],
]


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    small = {**LLAMA, "num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 24, "vocab_size": 128}
    folder = dense_folder(tmp_path_factory.mktemp("kinds") / "dense", small)
    tokenizer(masked=False).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[0])
@pytest.mark.parametrize("kind", KINDS)
def test_a_weight_of_another_type_is_named_and_nothing_is_written(
    kind: str,
    words: list[str],
    dense: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(dense, tmp_path / "model"))
    (weights,) = folder.glob("*.safetensors")
    tensors = load_file(weights)
    tensors[NAME] = tensors[NAME].to(KINDS[kind])
    save_file(tensors, weights, metadata={"format": "pt"})
    (tmp_path / "text.txt").write_text(TEXT)
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert run(cli, [*words, "--model", str(folder), "--out", "out", "--device", "cpu"]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("note: ")]
    assert line.startswith(f"error: {weights.name}: {NAME} is of a type")
    assert f"got '{kind}'; allowed: F64, F32, BF16, F16" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model", "text.txt"]


def test_a_pipe_is_no_sensitivity_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CostModelError, match="a pipe or a device"):
        load_sensitivity(tmp_path / "pipe")
