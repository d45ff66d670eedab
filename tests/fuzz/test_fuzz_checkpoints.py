"""Mutated checkpoints: config.json, weights and their headers, indices, tokenizers, manifests, sensitivity files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fuzzing import answer_of, cases, hold, mutated, mutated_text
from hypothesis import strategies as st

pytest.importorskip("torch")
pytest.importorskip("transformers")

from checkpoints import dense_folder, factored_folder
from predicting import made_sensitivity
from quality_cases import tokenizer
from validating import LLAMA

from validate.checkpoint.source import open_source
from validate.hf.errors import FactoredCheckpointError
from validate.hf.names import MANIFEST
from validate.hf.quantizer import load_factored
from validate.models.pretrained import read_tokenizer
from validate.sensitivity.file import load_sensitivity, save_sensitivity

SMALL = {**LLAMA, "num_hidden_layers": 1, "hidden_size": 16, "intermediate_size": 24, "vocab_size": 32}


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of several weight files, with a tokenizer."""
    folder = dense_folder(tmp_path_factory.mktemp("fuzz") / "dense", SMALL, max_shard_size="4KB")
    tokenizer(masked=False).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def factored(dense: Path) -> Path:
    return factored_folder(dense, dense.parent / "factored", ["rank=2 tensors=mlp"]).folder


def law_of(folder: Path, name: str, read: Callable[[], object]) -> Callable[[bytes], None]:
    def law(content: bytes) -> None:
        (folder / name).write_bytes(content)
        answer_of(read)

    return law


@cases(60)
def test_config_json_of_a_checkpoint(cases: int, dense: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(dense, tmp_path / "copy")
    good = json.loads((folder / "config.json").read_text())
    hold(law_of(folder, "config.json", lambda: open_source(str(folder))), mutated(good), cases)


@cases(60)
def test_the_index_of_weights(cases: int, dense: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(dense, tmp_path / "copy")
    name = "model.safetensors.index.json"
    good = json.loads((folder / name).read_text())
    hold(law_of(folder, name, lambda: open_source(str(folder))), mutated(good), cases)


@pytest.mark.parametrize("name", ["x" * 300, "\u00e4" * 140, "../other", "", "a\0b", "."])
def test_a_weight_file_of_an_impossible_name_is_refused(name: str, dense: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dense, tmp_path / "copy"))
    path = folder / "model.safetensors.index.json"
    index = json.loads(path.read_text())
    index["weight_map"]["lm_head.weight"] = f"{name}.safetensors"
    path.write_text(json.dumps(index))
    assert answer_of(lambda: open_source(str(folder))) is None


@cases(60)
def test_headers_of_weights(cases: int, dense: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(dense, tmp_path / "copy")
    path = min(folder.glob("*.safetensors"), key=lambda each: each.stat().st_size)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])

    def whole(changed: bytes) -> bytes:
        return len(changed).to_bytes(8, "little") + changed + content[8 + length :]

    mutations = st.one_of(mutated(header).map(whole), mutated_text(content))
    hold(law_of(folder, path.name, lambda: open_source(str(folder))), mutations, cases)


@cases(30)
def test_settings_of_a_tokenizer(cases: int, dense: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(dense, tmp_path / "copy")
    for name in ("tokenizer_config.json", "tokenizer.json"):
        good = (folder / name).read_bytes()
        hold(law_of(folder, name, lambda: read_tokenizer(folder)), mutated(json.loads(good)), max(1, cases // 2))
        (folder / name).write_bytes(good)


@cases(40)
def test_manifests_of_factored_checkpoints(cases: int, factored: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(factored, tmp_path / "copy")

    def read() -> Any:
        try:
            return load_factored(folder)
        except FactoredCheckpointError as error:
            return str(error).splitlines()

    hold(law_of(folder, MANIFEST, read), mutated(json.loads((folder / MANIFEST).read_text())), cases)


@cases(60)
def test_sensitivity_files(cases: int, tmp_path: Path) -> None:
    path = tmp_path / "model.sensitivity"
    save_sensitivity(path, made_sensitivity(config=SMALL))
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    run = json.loads(header["__metadata__"]["run"])

    def whole(changed: bytes) -> bytes:
        return len(changed).to_bytes(8, "little") + changed + content[8 + length :]

    def with_run(changed: bytes) -> bytes:
        text = changed.decode("utf-8", "replace")
        return whole(json.dumps({**header, "__metadata__": {**header["__metadata__"], "run": text}}).encode())

    mutations = st.one_of(mutated(header).map(whole), mutated(run).map(with_run), mutated_text(content))
    hold(law_of(tmp_path, path.name, lambda: load_sensitivity(path)), mutations, cases)
