"""Tokenizers as transformers finds them, and tokens that a model lacks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from checkpoints import dense_folder, factored_folder
from quality_cases import BERT, LLAMA, OTHER_TEXT, TEXT, checkpoint, items, opened, tokenizer, write_lines
from validating import GPT2

from costmodel.cli import run
from costmodel.errors import InputError, ModelError
from validate.cli import cli
from validate.models.tokenizers import read_tokenizer, tokenizer_files
from validate.quality.tasks import open_tasks

LETTERS = "abcdefghijklmnopqrstuvwxyz"


def gpt2_words(folder: Path) -> None:
    """vocab.json and merges.txt alone, as GPT-2's first repositories."""
    tokens = ["<|endoftext|>", "Ġ", *LETTERS, "th"]
    (folder / "vocab.json").write_text(json.dumps({token: index for index, token in enumerate(tokens)}))
    (folder / "merges.txt").write_text("#version: 0.2\nt h\n")


def bert_words(folder: Path) -> None:
    """vocab.txt alone."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *LETTERS, *(f"##{each}" for each in LETTERS)]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")


def test_a_tokenizer_of_any_names_is_found_and_copied(tmp_path: Path) -> None:
    gpt2 = dense_folder(tmp_path / "gpt2", GPT2)
    assert read_tokenizer(gpt2) is None  # transformers would make one that reads nothing
    gpt2_words(gpt2)
    assert read_tokenizer(gpt2)("the", add_special_tokens=False)["input_ids"] == [28, 6]
    (gpt2 / "additional_chat_templates").mkdir()
    (gpt2 / "additional_chat_templates" / "tools.jinja").write_text("{{ messages }}")
    factored_folder(gpt2, tmp_path / "out", ["rank=2"])
    assert read_tokenizer(tmp_path / "out")("the", add_special_tokens=False)["input_ids"] == [28, 6]
    assert (tmp_path / "out" / "additional_chat_templates" / "tools.jinja").read_text() == "{{ messages }}"
    bert = dense_folder(tmp_path / "bert", BERT)
    assert read_tokenizer(bert) is None
    bert_words(bert)
    assert read_tokenizer(bert)("a")["input_ids"] == [2, 5, 3]
    assert [path.name for path in tokenizer_files(bert)] == ["vocab.txt"]


def test_a_damaged_tokenizer_is_refused_and_its_files_copied_all_the_same(tmp_path: Path) -> None:
    dense = checkpoint(tmp_path / "dense")
    (dense / "tokenizer.json").write_text("{")
    with pytest.raises(ModelError, match=r"^cannot read tokenizer: got '[^\n]*$"):
        read_tokenizer(dense)
    factored_folder(dense, tmp_path / "out", ["rank=2"])
    assert (tmp_path / "out" / "tokenizer.json").read_text() == "{"


def few_embeddings(folder: Path, config: dict[str, Any]) -> Path:
    """A model with fewer embeddings than its tokenizer has tokens."""
    dense_folder(folder, {**config, "vocab_size": 40})
    tokenizer(config["model_type"] == "bert").save_pretrained(folder)
    return folder


@pytest.mark.parametrize("config", [LLAMA, BERT], ids=["llama", "bert"])
def test_a_token_that_the_model_lacks_is_one_line_in_every_command(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = str(few_embeddings(tmp_path / "model", config))
    (tmp_path / "text.txt").write_text(TEXT)
    (tmp_path / "other.txt").write_text(OTHER_TEXT)
    text, other, out = str(tmp_path / "text.txt"), str(tmp_path / "other.txt"), str(tmp_path / "out")
    small = ["--blocks", "4", "--length", "32", "--device", "cpu", "--out", out]
    spec, whitened = ["--decompose", "rank=2"], ["--factors", "whitened", "--calibration-text"]
    for command in (
        ["apply", "--model", model, *spec, *whitened, text, *small],
        ["quality", "--model", model, "--text", text, *small],
        ["quality", "--model", model, "--text", text, *spec, *whitened, other, *small],
        ["sensitivity", "--model", model, "--text", text, *small],
        ["choose", "--model", model, "--text", text, "--calibration-text", other, "--hw", "epyc-9654", *small],
    ):
        assert run(cli, command) in (1, 2)
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith("error: ")
        assert "that the model lacks" in line


def test_a_token_of_a_task_that_the_model_lacks_names_the_item(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    llama = opened(few_embeddings(tmp_path / "llama", LLAMA))
    choices = str(write_lines(tmp_path / "choices.jsonl", items(4)))
    with pytest.raises(InputError, match="choices, item 0, that the model lacks"):
        open_tasks(llama, [choices])
    bert = opened(few_embeddings(tmp_path / "bert", BERT))
    blanks = write_lines(tmp_path / "blanks.jsonl", [{"context": "a [MASK]", "choices": ["b", "c"], "answer": 0}])
    with pytest.raises(InputError, match="blanks, item 0, that the model lacks"):
        open_tasks(bert, [str(blanks)])
