"""`costmodel models list|show`: formats, contents, and errors in one line."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest

from costmodel.cli import main
from costmodel.families.load import builtin_models


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `costmodel models ...`."""
    with pytest.raises(SystemExit) as caught:
        main(["models", *arguments])
    captured = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, captured.out, captured.err


def test_list_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "list", "--format", "json")
    models = json.loads(out)["models"]
    assert (code, err) == (0, "")
    assert tuple(model["name"] for model in models) == builtin_models()
    assert models[0]["params"] == 6_738_415_616


def test_list_csv_is_the_json(capsys: pytest.CaptureFixture[str]) -> None:
    _, as_json, _ = run(capsys, "list", "--format", "json")
    _, as_csv, _ = run(capsys, "list", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(as_csv)))
    assert rows == [{key: str(value) for key, value in model.items()} for model in json.loads(as_json)["models"]]


def test_list_table_names_every_model(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "list")
    assert code == 0
    assert all(f" {name} " in out for name in builtin_models())


def test_show_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", "llama2-7b", "--format", "json")
    shown = json.loads(out)
    assert code == 0
    assert (shown["params"], shown["num_layers"], shown["dtype"]) == (6_738_415_616, 32, "fp16")
    assert sum(shown["outer_params"].values()) + 32 * shown["params_per_layer"] == shown["params"]
    by_name = {row["name"]: row for row in shown["tensors"]}
    # The break-even ranks that the paper's accounting gives for 4096 x 4096 and 4096 x 11008.
    assert (by_name["q_proj"]["break_even_svd"], by_name["q_proj"]["break_even_tucker"]) == (2048, 1696)
    assert (by_name["up_proj"]["break_even_svd"], by_name["up_proj"]["break_even_tucker"]) == (2985, 2553)


@pytest.mark.parametrize("model", ["deepseek-v3", "mixtral-8x7b", "gpt-oss-20b", "gemma3-1b", "modernbert-base"])
def test_show_prints_models_of_every_make(capsys: pytest.CaptureFixture[str], model: str) -> None:
    code, out, _ = run(capsys, "show", model, "--format", "json")
    shown = json.loads(out)
    assert code == 0
    assert {"name", "family", "model_type", "params", "num_layers", "tensors", "kinds", "verified"} <= set(shown)
    assert shown["experts"] is None or shown["experts"]["per_token"] <= shown["experts"]["number"]
    code, table, _ = run(capsys, "show", model)
    assert code == 0
    assert "Experts(" not in table
    paths = {row["path"] for row in shown["tensors"]}
    assert all(f" {path} " in table for path in paths), "a path is cut"


def test_show_csv_has_one_row_a_tensor(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "show", "bert-base", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert [row["name"] for row in rows] == ["query", "key", "value", "attn_output", "intermediate", "output"]
    assert (rows[4]["out_features"], rows[4]["in_features"], rows[4]["params"]) == ("3072", "768", "2362368")


def test_show_table(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "show", "mistral-7b")
    assert code == 0
    assert "32 x 4096" in out  # the sliding windows
    assert "7,241,732,096" in out
    assert "mlp.gate_proj" in out


def test_show_reads_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = {"model_type": "gpt2", "n_embd": 8, "n_layer": 2, "n_head": 2, "vocab_size": 10}
    (tmp_path / "config.json").write_text(json.dumps(config))
    for given in (tmp_path, tmp_path / "config.json"):
        code, out, _ = run(capsys, "show", str(given), "--format", "json")
        assert code == 0
        assert json.loads(out)["name"] == tmp_path.name


@pytest.mark.parametrize("arguments", [["show"], ["show", "llama2-7b", "--format", "xml"], ["nonsense"]])
def test_bad_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_unknown_model_offers_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, "show", "lama2-7b")
    assert (code, out) == (2, "")
    assert err.startswith("error: unknown model: got 'lama2-7b'")
    assert "did you mean llama2-7b" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("arguments", [[], ["list"], ["show"]])
def test_help_has_an_example(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    code, out, _ = run(capsys, *arguments, "--help")
    assert code == 0
    assert "Example: costmodel models" in out


def test_a_folder_whose_name_is_no_text_is_read_and_shown(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    folder = tmp_path / os.fsdecode(b"bad\xff")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("names of files are texts here")
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "vocab_size": 100, **sizes}))
    with pytest.raises(SystemExit) as caught:
        main(["models", "show", str(folder)])
    assert caught.value.code == 0
    assert b"bad\\xff" in capfdbinary.readouterr().out
