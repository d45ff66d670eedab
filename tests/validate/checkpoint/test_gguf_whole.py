"""Of a GGUF file nothing is left out and nothing made up: a model that is not the whole file is refused by name."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("gguf")

import gguf
import numpy as np
from fuzzing import OBEYED
from safetensors.numpy import load_file

from costmodel.cli import run
from validate.cli import cli

HIDDEN, INNER, LETTERS = 16, 24, 32
SHAPES = {
    "attn_q": (HIDDEN, HIDDEN),
    "attn_k": (HIDDEN, HIDDEN),
    "attn_v": (HIDDEN, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN),
    "ffn_gate": (INNER, HIDDEN),
    "ffn_up": (INNER, HIDDEN),
    "ffn_down": (HIDDEN, INNER),
    "attn_norm": (HIDDEN,),
    "ffn_norm": (HIDDEN,),
}
ENTRIES = {
    "block_count": 2,
    "context_length": 64,
    "embedding_length": HIDDEN,
    "feed_forward_length": INNER,
    "attention.head_count": 2,
    "attention.head_count_kv": 2,
    "rope.dimension_count": HIDDEN // 2,
    "vocab_size": LETTERS,
}


def tensors(blocks: int = 2) -> dict[str, Any]:
    """Those of a Llama, some values of each."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (LETTERS, HIDDEN), "output_norm.weight": (HIDDEN,)}
    shapes["output.weight"] = (LETTERS, HIDDEN)
    shapes |= {f"blk.{block}.{name}.weight": shape for block in range(blocks) for name, shape in SHAPES.items()}
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


def write(path: Path, held: dict[str, Any], entries: dict[str, Any]) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    for key, value in entries.items():
        add = {int: writer.add_uint64, str: writer.add_string}[type(value)]
        add(f"llama.{key}", value)
    writer.add_float32("llama.attention.layer_norm_rms_epsilon", 1e-5)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>", *(chr(97 + place) for place in range(LETTERS - 3))])
    writer.add_token_scores([-float(place) for place in range(LETTERS)])
    writer.add_token_types([2, 3, 3, *[1] * (LETTERS - 3)])
    writer.add_unk_token_id(0)
    for name, values in held.items():
        writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def imported(file: Path, capsys: pytest.CaptureFixture[str], more: Sequence[str] = ()) -> tuple[int, str]:
    """Exit code and the last line on stderr; one that was refused leaves no folder."""
    out = file.parent / "out"
    code = run(cli, ["import", "gguf", str(file), "--out", str(out), *more])
    told = capsys.readouterr().err
    assert not OBEYED.search(told)
    assert (code == 0) == out.is_dir()
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name, *(["out"] if code == 0 else [])]
    return code, (told.strip().splitlines() or [""])[-1]


def test_a_whole_file_is_the_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = tensors()
    assert imported(write(tmp_path / "a.gguf", held, ENTRIES), capsys)[0] == 0
    found = load_file(tmp_path / "out" / "model.safetensors")
    assert sum(values.size for values in found.values()) == sum(values.size for values in held.values())
    for name, own in (
        ("model.layers.1.mlp.down_proj", "blk.1.ffn_down"),
        ("lm_head", "output"),
        ("model.norm", "output_norm"),
    ):
        assert (found[f"{name}.weight"] == held[f"{own}.weight"]).all()


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("blk.0.attn_q.weight", "model.layers.0.self_attn.q_proj.weight"),
        ("blk.1.ffn_down.weight", "model.layers.1.mlp.down_proj.weight"),
        ("output_norm.weight", "model.norm.weight"),
        ("token_embd.weight", "model.embed_tokens.weight"),
    ],
)
def test_what_the_file_lacks_is_named(
    name: str, place: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = tensors()
    del held[name]
    code, told = imported(write(tmp_path / "a.gguf", held, ENTRIES), capsys)
    assert code == 2
    assert place in told


@pytest.mark.parametrize("name", ["blk.0.attn_q.bias", "foo.weight", "blk.1.ffn_gate_inp.weight", "mm.0.weight"])
def test_what_the_model_has_no_place_for_is_named(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = {**tensors(), name: np.ones(HIDDEN, np.float32)}
    code, told = imported(write(tmp_path / "a.gguf", held, ENTRIES), capsys)
    assert code == 2
    assert name in told


def test_one_tensor_in_place_of_another_of_its_size_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    held = tensors()
    held["foo.weight"] = held.pop("blk.0.attn_v.weight")
    code, told = imported(write(tmp_path / "a.gguf", held, ENTRIES), capsys)
    assert code == 2
    assert "model.layers.0.self_attn.v_proj.weight" in told


@pytest.mark.parametrize("count", [0, 1, 3, 10**6, 2**40])
def test_blocks_are_those_that_the_header_says(count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    code, told = imported(write(tmp_path / "a.gguf", tensors(), {**ENTRIES, "block_count": count}), capsys)
    assert code == 2
    assert f"block_count is {count}" in told
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("entry", ["feed_forward_length", "vocab_size", "embedding_length", "attention.head_count_kv"])
@pytest.mark.parametrize("value", [0, 2, 8, 2**31, 2**40])
def test_sizes_at_odds_are_refused_before_memory_is_taken(
    entry: str, value: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _ = imported(write(tmp_path / "a.gguf", tensors(), {**ENTRIES, entry: value}), capsys)
    assert code == (0 if value == ENTRIES[entry] else 2)


@pytest.mark.parametrize("odd", [np.nan, np.inf])
def test_a_value_that_is_not_finite_is_named(odd: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = tensors()
    held["blk.1.ffn_norm.weight"][3] = odd
    code, told = imported(write(tmp_path / "a.gguf", held, ENTRIES), capsys)
    assert (code, "post_attention_layernorm.weight holds NaN or infinity" in told) == (1, True)


def test_a_value_beyond_fp16_advises_a_type_that_holds_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = tensors()
    held["output.weight"][0] = 1e6
    file = write(tmp_path / "a.gguf", held, ENTRIES)
    code, told = imported(file, capsys, ["--dtype", "fp16"])
    assert code == 1
    assert "lm_head.weight does not fit fp16; choose --dtype fp32 or bf16" in told
    assert imported(file, capsys, ["--dtype", "bf16"])[0] == 0


@pytest.mark.parametrize(
    ("tensor", "entry", "said"),
    [
        ("rope_freqs.weight", "", "rope_freqs.weight"),
        ("", "rope.scaling.type", "llama.rope.scaling.type"),
    ],
)
def test_scaling_of_positions_that_transformers_does_not_read_is_said(
    tensor: str, entry: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = {tensor: np.ones(HIDDEN // 4, np.float32)} if tensor else {}
    entries = {**ENTRIES, **({entry: "linear"} if entry else {})}
    code, told = imported(write(tmp_path / "a.gguf", {**tensors(), **more}, entries), capsys)
    assert code == 0
    assert told.startswith(f"warning: {said} of the file")
    assert said in (tmp_path / "out" / "imported.json").read_text()


def test_tensors_that_overlap_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = write(tmp_path / "a.gguf", tensors(), ENTRIES)
    content = bytearray(file.read_bytes())
    place = content.find(b"blk.1.ffn_norm.weight") + len(b"blk.1.ffn_norm.weight") + 4 + 8 + 4
    content[place : place + 8] = bytes(8)  # where its data begin: at those of the first
    file.write_bytes(content)
    code, told = imported(file, capsys)
    assert code == 2
    assert "overlap" in told
