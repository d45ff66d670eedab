"""`validate apply` as a user meets it."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from checkpoints import dense_folder, in_memory, logits, of, random_tokens  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from validating import LLAMA  # noqa: E402

import costmodel.cli  # noqa: E402
from costmodel.cli import run  # noqa: E402
from costmodel.errors import InputError  # noqa: E402
from validate.cli import cli  # noqa: E402
from validate.cli.apply import parse_size  # noqa: E402
from validate.factors.replace import WeightFactors  # noqa: E402
from validate.factors.whitening import make_factors  # noqa: E402
from validate.hf import load_factored  # noqa: E402
from validate.models.pretrained import open_pretrained  # noqa: E402
from validate.models.text import token_blocks  # noqa: E402

SPECS = ["layers=0 rank=50%", "layers=2 tensors=mlp rank=9 form=tucker", "layers=1 form=drop"]
OPTIONS = [word for each in SPECS for word in ("--decompose", each)]


@pytest.fixture(scope="module")
def dense(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama with a tokenizer of bytes."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    folder = dense_folder(tmp_path_factory.mktemp("apply") / "dense", LLAMA)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())[:128]
    tokenizer = Tokenizer(models.BPE(vocab={byte: index for index, byte in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    return folder


@pytest.fixture
def apply(dense: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs `validate apply --model dense ...` in an empty folder and gives the exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, model: Path = dense) -> tuple[int, str, str]:
        code = run(cli, ["apply", "--model", str(model), *arguments])
        return code, *capsys.readouterr()

    return call


def test_a_table_says_what_was_written(apply: Any, dense: Path, tmp_path: Path) -> None:
    code, out, err = apply(*OPTIONS, "--out", "new/out")
    assert (code, err) == (0, "")
    assert "relative error of the factored weights" in out
    assert "down_proj   tucker" in out
    assert " k of 109 k parameters (" in out
    assert ", 1 layer dropped)" in out
    tokens = random_tokens()
    expected = in_memory(
        open_pretrained(str(dense)), of(dense, SPECS), WeightFactors(), lambda tree: logits(tree, tokens)
    )
    assert torch.equal(logits(load_factored(tmp_path / "new/out"), tokens), expected)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new/out").iterdir()}
    mask = os.umask(0)
    os.umask(mask)
    assert modes == {0o666 & ~mask}
    assert stat.S_IMODE((tmp_path / "new/out").stat().st_mode) == 0o777 & ~mask
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def test_json_and_csv(apply: Any, tmp_path: Path) -> None:
    code, out, _ = apply(*OPTIONS, "--out", "out", "--dtype", "bf16", "--max-shard-size", "20KB", "--format", "json")
    data = json.loads(out)
    assert code == 0
    assert data["schema"] == 1
    assert data["dtype"] == "bf16"
    assert data["drop"] == [1]
    assert data["params"] < data["dense_params"]
    assert data["saved_params_pct"] == pytest.approx(100 * (1 - data["params"] / data["dense_params"]))
    assert data["bytes"] == sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert sum(name.endswith(".safetensors") for name in data["files"]) > 2
    assert data["peak_memory_bytes"] > 10**8
    code, out, _ = apply("--config", "out/decomposition.json", "--out", "again", "--format", "csv")
    rows = list(csv.DictReader(io.StringIO(out)))
    assert code == 0
    assert len(rows) == len(data["sites"]) == 10
    assert rows[0]["tensor"] == "q_proj"
    assert {row["form"] for row in rows} == {"svd", "tucker"}


def test_the_cost_model_prices_the_folder(
    apply: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, out, _ = apply(*OPTIONS, "--out", "out", "--format", "json")
    options = [
        "--model",
        "out",
        "--config",
        "out/decomposition.json",
        "--hw",
        "t4",
        "--dtype",
        "fp32",
        "--phase",
        "prefill",
        "--seq-len",
        "8",
        "--format",
        "json",
    ]
    assert run(costmodel.cli.cli, ["estimate", *options]) == 0
    priced = json.loads(capsys.readouterr().out)["phases"][0]
    assert priced["decomposed"]["params"] == json.loads(out)["params"]
    assert priced["dense"]["params"] == json.loads(out)["dense_params"]


def test_whitened_factors_are_those_of_the_text(apply: Any, dense: Path, tmp_path: Path) -> None:
    text = "".join(f"def f{index}(x): return {index * index} * x\n" for index in range(300))
    Path("text.txt").write_text(text)
    options = ["--factors", "whitened", "--calibration-text", "text.txt", "--blocks", "20", "--length", "32"]
    code, _, err = apply(*OPTIONS, *options, "--out", "out")
    assert (code, err) == (0, "")
    pretrained = open_pretrained(str(dense))
    make = make_factors("whitened", pretrained, token_blocks(pretrained.tokenizer, text, 32, 20))
    tokens = random_tokens()
    expected = in_memory(pretrained, of(dense, SPECS), make, lambda tree: logits(tree, tokens))
    assert torch.equal(logits(load_factored(tmp_path / "out"), tokens), expected)
    factors = json.loads(Path("out/factored.json").read_text())["factors"]
    assert factors["kind"] == "whitened"
    assert factors["calibration"]["name"] == "text.txt"
    assert (factors["blocks"], factors["length"]) == (20, 32)
    apply(*OPTIONS, "--out", "plain")
    plain, whitened = load_file("plain/factored.safetensors"), load_file("out/factored.safetensors")
    assert plain.keys() == whitened.keys()
    assert any(not torch.equal(plain[name], whitened[name]) for name in plain)


def test_where_layers_are_dropped_alone_there_is_no_table_of_factors(apply: Any) -> None:
    code, out, _ = apply("--decompose", "layers=1 form=drop", "--out", "shorter")
    assert code == 0
    assert out.startswith("shorter: ")
    assert "1 layer dropped" in out.splitlines()[0]
    assert "relative error" not in out


def test_notes_on_what_a_user_may_not_expect(apply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code, _, err = apply("--decompose", "layers=0 tensors=q_proj rank=60", "--out", "wide")
    assert code == 0
    assert err == "note: sites with more parameters than the dense weight that they replace: 1\n"
    monkeypatch.setattr("validate.checkpoint.plan.PROCESS_BYTES", 10**15)
    code, _, err = apply("--decompose", "rank=2", "--out", "big")
    assert code == 0
    assert err.startswith("note: may take up to 1e+03 TB of memory") or err.startswith("note: may take up to 1 PB")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "nothing to factor or drop; give --decompose SPEC, --recipe, --config or --choice"),
        (["--decompose", "rank=99"], "q_proj: rank out of range: got 99"),
        (["--decompose", "layers=9 rank=1"], "layer out of range"),
        (["--config", "nowhere.json"], "cannot read configuration file: got 'nowhere.json'"),
        (["--decompose", "rank=2", "--max-shard-size", "5XB"], "--max-shard-size: not a unit of it: got '5XB'"),
        (["--decompose", "rank=2", "--factors", "whitened"], "--factors are fitted to a text, and there is none"),
        (["--decompose", "rank=2", "--calibration-text", "x"], "--calibration-text is of no use to plain factors"),
        (["--decompose", "rank=2", "--factors", "whitened", "--calibration-text", "x"], "cannot read text: got 'x'"),
        (["--decompose", "rank=2", "--factors", "whitened", "--calibration-text", "short.txt"], "text too short"),
        (
            ["--decompose", "rank=2", "--factors", "whitened", "--calibration-text", "short.txt", "--length", "129"],
            "--length is beyond the model: got 129; allowed: up to 128",
        ),
        (["--decompose", "rank=2", "--dtype", "int8"], "Invalid value for '--dtype'"),
        (["--decompose", "rank=2", "--blocks", "0"], "Invalid value for '--blocks'"),
        (["--decompose", "rank=2", "--out", "short.txt"], "--out exists: got 'short.txt'"),
        (["--decompose", "rank=2", "--out", "."], "--out exists: got '.'"),
        (["--decompose", "rank=2", "--out", "dangling"], "--out exists: got 'dangling'"),
        (["--decompose", "rank=2", "--out", "short.txt/out"], "cannot write to folder"),
        (["--decompose", "rank=2", "--model", "nowhere/at/all"], "no such folder: got 'nowhere/at/all'"),
        (["--decompose", "rank=2", "--model", "empty"], "folder without config.json"),
    ],
)
def test_bad_input_is_one_line(arguments: list[str], expected: str, apply: Any, tmp_path: Path) -> None:
    Path("short.txt").write_text("short")
    Path("empty").mkdir()
    Path("dangling").symlink_to("nothing")
    before = sorted(path.name for path in tmp_path.iterdir())
    code, out, err = apply("--out", "out", *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("error: ")
    assert expected in err
    assert err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_cuda_where_there_is_none(apply: Any) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is one")
    code, _, err = apply("--decompose", "rank=2", "--device", "cuda", "--out", "out")
    assert code == 2
    assert err.startswith("error: no CUDA device")


def test_a_factored_checkpoint_cannot_be_factored_again(apply: Any) -> None:
    apply(*OPTIONS, "--out", "out")
    code, _, err = apply(*OPTIONS, "--out", "again", model=Path("out"))
    assert code == 2
    assert err.startswith("error: a factored checkpoint cannot be factored again: got 'out'")


def test_a_full_disk_is_said_before_the_work(apply: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    code, _, err = apply(*OPTIONS, "--out", "out")
    assert code == 1
    assert "not enough room on the disk" in err
    assert "got '1 kB free'; allowed: at least" in err
    assert not Path("out").exists()


def test_the_lines_in_the_docs_load_and_generate(apply: Any, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "quality.md").read_text(encoding="utf-8")
    code = page.split("## Writing a factored checkpoint")[1].split("```python\n")[1].split("```")[0]
    assert len([line for line in code.splitlines() if line]) <= 10
    apply(*OPTIONS, "--out", "llama-factored")
    exec(compile(code, "quality.md", "exec"), {})
    assert capsys.readouterr().out.startswith("d e f")  # this tokenizer puts spaces between its bytes


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_folder_and_the_command_continues(kind: signal.Signals, tmp_path: Path) -> None:
    config = {**LLAMA, "hidden_size": 1024, "intermediate_size": 1024, "num_hidden_layers": 4, "vocab_size": 64}
    dense_folder(tmp_path / "dense", config)
    command = [sys.executable, "-m", "validate", "apply", "--model", "dense", "--decompose", "rank=2", "--out", "out"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while len(list(tmp_path.glob(".out.partial/finished/*.safetensors"))) < 2:
        assert process.poll() is None, process.stderr
        time.sleep(0.05)
    process.send_signal(kind)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "factored weights are kept in .out.partial; the same command continues\n" in err
    assert err.endswith("\nerror: interrupted\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".out.partial", "dense"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "factored weights were taken from an interrupted run" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dense", "out"]


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5GB", 5 * 10**9),
        ("500MB", 5 * 10**8),
        ("2GiB", 2 * 2**30),
        ("1.5 kb", 1500),
        ("1e9", 10**9),
        ("7B", 7),
        ("7000000", 7000000),
        ("3M", 3 * 10**6),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "0", "5", "0.1", "5XB", "5 GB B", "٣GB"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(InputError, match="--max-shard-size"):
        parse_size(text)


def test_help_has_an_example_and_a_text_for_every_option() -> None:
    import click

    from validate.cli.apply import command

    assert "Example:" in str(command.help)
    for parameter in command.params:
        assert isinstance(parameter, click.Option)
        assert parameter.help
        assert parameter.help.endswith((".", "]"))
