"""The script that writes random checkpoints: what it writes can be read, and it leaves whole folders or none."""

from __future__ import annotations

import json
import types
from pathlib import Path
from typing import Any

import pytest
from validating import LLAMA, write_config

from costmodel.cli import run
from studies.models import random_model
from validate.models.pretrained import open_pretrained


@pytest.fixture(scope="module")
def script() -> types.ModuleType:
    return random_model


def test_the_folder_is_whole_or_absent(
    script: types.ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model, out = write_config(tmp_path / "tiny", LLAMA), tmp_path / "random"
    call = ["--model", str(model), "--out", str(out), "--dtype", "fp32"]

    def killed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(script, "_SHARD_BYTES", 50_000)  # several files
    with monkeypatch.context() as patch:
        patch.setattr(script, "_tokenizer", killed)
        assert run(script.command, call) == 130
    assert not out.exists()
    (tmp_path / ".random.partial" / "folder").mkdir(parents=True)  # as a kill that nothing can catch leaves it
    (tmp_path / ".random.partial" / "folder" / "model-00001.safetensors").write_bytes(b"half")
    assert run(script.command, call) == 0
    assert "GB of random weights" in capsys.readouterr().out
    assert not (tmp_path / ".random.partial").exists()
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 1
    read = open_pretrained(str(out))
    assert sum(each.nbytes for each in read.model.parameters()) == index["metadata"]["total_size"]
    assert read.tokenizer("any text, Größe")["input_ids"]
    capsys.readouterr()
    assert run(script.command, call) == 2
    assert capsys.readouterr().err == f"error: --out exists: got '{out}'; allowed: a folder that does not exist yet\n"


def test_an_unknown_model_is_one_line(
    script: types.ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(script.command, ["--model", "lama", "--out", str(tmp_path / "out")]) == 2
    errors = capsys.readouterr().err
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1
    assert not (tmp_path / "out").exists()
