"""A checkpoint that is not there, or has no weights, is one line of our own in every command that opens one."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("torch")

import huggingface_hub
from huggingface_hub import errors
from validating import LLAMA

from costmodel.cli import run
from costmodel.errors import ModelError
from validate.cli import cli
from validate.models.pretrained import locate

ANSWER: Any = SimpleNamespace(headers={}, request=None)
"""What an error of the hub was answered with."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with texts, and `bare`, a checkpoint of a configuration alone."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    Path("text.txt").write_text("one text", encoding="utf-8")
    Path("other.txt").write_text("another", encoding="utf-8")
    Path("bare").mkdir()
    Path("bare/config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    return tmp_path


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    if arguments[0] == "export":
        pytest.importorskip("onnxruntime")
    assert run(cli, [*arguments, "--out", "out.onnx"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert "..." not in error  # nothing is cut
    assert not Path("out.onnx").exists()
    return error


TEXT = ["--text", "text.txt"]
OPENING = {
    "apply": ["apply", "--decompose", "rank=1", "--model"],
    "quality": ["quality", *TEXT, "--decompose", "rank=1", "--model"],
    "sensitivity": ["sensitivity", *TEXT, "--model"],
    "choose": ["choose", *TEXT, "--calibration-text", "other.txt", "--hw", "amd-epyc-2t", "--model"],
    "export": ["export", "onnx"],
    "heal": ["heal", *TEXT, "--judge-text", "other.txt", "--dense", "bare"],
}


@pytest.mark.parametrize("name", OPENING)
def test_a_checkpoint_without_weights_is_a_line(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused([*OPENING[name], "bare"], capsys)
    assert "bare" in error
    told = {"heal": "no factored checkpoint", "choose": "checkpoint without a tokenizer"}
    assert told.get(name, "folder without weights") in error
    assert "; " in error  # what is allowed, or what to do


@pytest.mark.parametrize("name", OPENING)
def test_a_name_that_is_nowhere_is_a_line(name: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    error = refused([*OPENING[name], "no/such-model"], capsys)
    assert "no/such-model" in error
    assert "Error:" not in error  # no exception of a library
    if name in ("apply", "quality", "sensitivity"):
        assert "hf download no/such-model" in error


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (errors.GatedRepoError("x" * 900, response=ANSWER), "log in with"),
        (errors.RepositoryNotFoundError("x" * 900, response=ANSWER), "the hub has no such checkpoint"),
        (errors.LocalEntryNotFoundError("x" * 900), "the hub cannot be reached"),
        (errors.HfHubHTTPError("x" * 900, response=ANSWER), "the hub cannot be reached"),
        (OSError("x" * 900), "the hub cannot be reached"),
    ],
)
def test_what_the_hub_says_is_told_in_our_words(raised: Exception, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*args: Any, **options: Any) -> str:
        raise raised

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetch)
    with pytest.raises(ModelError) as caught:
        locate("owner/name")
    assert told in str(caught.value)
    assert "owner/name" in str(caught.value)
    assert "xxx" not in str(caught.value)


@pytest.mark.parametrize(
    ("file", "told"),
    [("pytorch_model.bin", "save_pretrained"), ("model.gguf", "validate import gguf bare/model.gguf")],
)
def test_weights_in_another_format_are_named(
    file: str, told: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("bare", file).write_bytes(b"x")
    assert told in refused([*OPENING["apply"], "bare"], capsys)


@pytest.mark.parametrize("out", ["model", "model.pt", "model.onnx.txt"])
def test_an_export_is_a_file_named_onnx(out: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["export", "onnx", "bare", "--out", out]) == 2
    assert capsys.readouterr().err == f"error: --out: got {out!r}; allowed: a file named .onnx\n"
    assert not Path(out).exists()
