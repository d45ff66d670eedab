"""`costmodel space` and `costmodel explore` from the command line: the contract's keys, formats, files, errors."""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exploring import quality_data

from costmodel.cli import cli, run
from costmodel.decomposition.factors import load_decomposition
from costmodel.families.load import load_model
from costmodel.space.make import design_space

BASE = ["explore", "--model", "llama2-7b", "--hw", "a100-sxm-80gb"]
SMALL = ["explore", "--model", "bert-base", "--hw", "l4"]


def json_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(cli, [*arguments, "--format", "json"]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(0)  # a count may have more digits than Python reads by default
    try:
        return json.loads(captured.out)
    finally:
        sys.set_int_max_str_digits(before)


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(cli, list(arguments)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_space(capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(capsys, "space", "--model", "llama2-7b", "--ranks", "1,64")
    assert {
        "model",
        "num_layers",
        "tensors",
        "paper_count",
        "homogeneous_log2",
        "homogeneous_distinct",
        "per_layer_log2",
        "per_site_log10",
    } <= set(found)
    assert found["paper_count"] == 2**39
    assert found["homogeneous_distinct"] == (2**32 - 1) * 127 * 2 + 1
    assert found["per_site_log10"] == pytest.approx(224 * math.log10(3))
    rows = json_of(capsys, "space")["models"]
    assert [row["homogeneous_log2"] for row in rows] == [18, 30, 39, 87]
    assert run(cli, ["space"]) == 0
    text = capsys.readouterr().out
    for words in ("257,986", "1,056,964,546", "545,460,846,466", "1.535e26", "2^87"):
        assert words in text
    assert run(cli, ["space", "--model", "gpt2", "--format", "csv"]) == 0
    assert next(csv.DictReader(io.StringIO(capsys.readouterr().out)))["homogeneous_log2"] == "16"


def test_the_contracts_keys(capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(
        capsys, *BASE, "--ranks", "64,256", "--limit", "saved.params_pct>=9", "--top", "3", "--runtime", "graph"
    )
    assert {
        "configurations",
        "paper_count",
        "excluded",
        "matching",
        "distinct_costs",
        "elapsed_s",
        "guarantee",
        "distribution",
        "top",
        "frontier",
    } <= set(found)
    assert found["configurations"] == (2**32 - 1) * 127 * 2 + 1
    assert found["paper_count"] == 2**39
    assert found["guarantee"] == "exact"
    assert 0 < found["matching"] < found["configurations"]
    for each in found["distribution"].values():
        assert {"min", "max", "mean", "quantiles", "histogram"} <= set(each)
        assert sum(each["histogram"]["counts"]) == found["configurations"]
        assert len(each["histogram"]["edges"]) == len(each["histogram"]["counts"]) + 1
    assert len(found["top"]) == 3
    assert set(found["top"][0]) >= {"objectives", "config"}
    names = [objective["name"] for objective in found["objectives"]]
    assert list(found["frontier"][0]["objectives"]) == names


def test_which_ranks_do_i_need(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The one-line question; the answer's configuration goes into a file that `estimate` reads."""
    found = json_of(
        capsys,
        *BASE,
        "--ranks",
        "64-1024:64",
        "--limit",
        "saved.peak_memory_pct>=20",
        "--top",
        "1",
        "--objectives",
        "quality,decode.latency_s,decode.saved.peak_memory_pct,request.latency_s",
        "--quality",
        "standin:params",
        "--new-tokens",
        "20",
    )
    best = found["top"][0]
    assert found["quality"]["stand_in"]
    assert best["objectives"]["decode.saved.peak_memory_pct"] >= 20
    path = tmp_path / "best.json"
    path.write_text(json.dumps(best["config"]))
    load_decomposition(path, load_model("llama2-7b"))
    priced = json_of(capsys, "estimate", *BASE[1:], "--config", str(path), "--new-tokens", "20")
    decode = priced["phases"][1]
    assert best["objectives"]["decode.latency_s"] == pytest.approx(decode["decomposed"]["latency_s"], rel=1e-9)
    assert best["objectives"]["decode.saved.peak_memory_pct"] == pytest.approx(
        decode["saved"]["peak_memory_pct"], rel=1e-9
    )
    expected = priced["request"]["decomposed"]["latency_s"]
    assert best["objectives"]["request.latency_s"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["per-layer", "per-site"])
def test_other_spaces(kind: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    model = load_model("bert-base")
    space = design_space(model, kind, ranks=[8, 64, 256])  # type: ignore[arg-type]
    path = tmp_path / "quality.json"
    path.write_text(json.dumps(quality_data(space, 1, states=2)))
    found = json_of(
        capsys,
        *SMALL,
        "--space",
        kind,
        "--ranks",
        "8,64,256",
        "--quality",
        str(path),
        "--batch",
        "32",
        "--limit",
        "saved.params_pct>=10",
        "--top",
        "1",
    )
    assert found["configurations"] == space.size
    assert found["matching"] is None
    share = found["matching_share"]
    assert 0 <= share["low"] <= share["share"] <= share["high"] <= 1
    assert found["frontier"]
    assert "frontier" in found["guarantee"] or "exact" in found["guarantee"]
    assert found["top"][0]["objectives"] == found["frontier"][0]["objectives"]
    points = [tuple(each["objectives"].values()) for each in found["frontier"]]
    assert points == sorted(points)
    assert all(a[1] > b[1] for a, b in itertools.pairwise(points))


def test_table_and_csv(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, [*SMALL, "--ranks", "8,900", "--limit", "saved.params_pct>=5", "--quality", "standin:params"]) == 0
    text = capsys.readouterr().out
    for words in (
        "configurations: 515,971",
        "excluded:",
        "NOT MEASURED",
        "Distribution",
        "Least prefill.latency_s (saved), whatever it does to the answers",
        "Frontier",
        "guarantee: exact",
        "within saved.params_pct>=5",
    ):
        assert words in text
    assert max(len(line) for line in text.splitlines()) <= 120
    assert run(cli, [*SMALL, "--ranks", "8", "--limit", "saved.params_pct>=99"]) == 0
    assert "no configuration found within the limits" in capsys.readouterr().out
    assert run(cli, [*SMALL, "--ranks", "8", "--format", "csv", "--top", "2"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [row["list"] for row in rows[:3]] == ["top", "top", "frontier"]
    assert json.loads(rows[0]["config"])["form"] == "svd"


def test_limits_are_repeated_in_full(capsys: pytest.CaptureFixture[str]) -> None:
    found = json_of(capsys, *SMALL, "--limit", "params<=98765432.0", "--limit", "saved.latency_pct>=-0.125")
    assert found["limits"] == ["params<=98765432", "saved.latency_pct>=-0.125"]


def test_counts_of_more_digits_than_python_prints_by_default(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """1001^2100 has 6,301 digits; Python refuses to print integers beyond 4,300 unless told otherwise."""
    config = {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 1024,
        "intermediate_size": 2816,
        "num_hidden_layers": 300,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "vocab_size": 320,
    }
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    limit = sys.get_int_max_str_digits()
    assert run(cli, ["space", "--model", str(path), "--ranks", "1-1000", "--format", "json"]) == 0
    assert sys.get_int_max_str_digits() == limit
    printed = re.search(r'"per_site_distinct": (\d+)', capsys.readouterr().out)
    assert printed
    assert len(printed[1]) == 6301
    assert int(printed[1][-9:]) == 1001**2100 % 10**9
    assert run(cli, ["space", "--model", str(path), "--ranks", "1-1000"]) == 0
    assert "e6300" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_plot(kind: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / f"frontier.{kind}"
    assert (
        run(
            cli,
            [
                *BASE,
                "--ranks",
                "64,512",
                "--objectives",
                "decode.latency_s,quality",
                "--quality",
                "standin:params",
                "--plot",
                str(path),
            ],
        )
        == 0
    )
    content = path.read_bytes()
    if kind == "svg":
        text = content.decode()
        for words in ("ten points", "dense model", "drawn uniformly", "parameters removed"):
            assert words in text
        return
    from matplotlib.image import imread

    picture = imread(path)
    assert picture.shape[0] > 600
    colours = np.unique(picture[..., :3].reshape(-1, 3), axis=0)
    assert len(colours) > 50


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--ranks", "0"], "rank"),
        (["--ranks", "-4"], "rank"),
        (["--ranks", ""], "rank"),
        (["--ranks", "8,x"], "rank"),
        (["--ranks", "64:512"], "64-512:64"),
        (["--ranks", "9-3"], "range of ranks"),
        (["--ranks", "1-99999999"], "range of ranks"),
        (["--ranks", "5000"], "above min"),
        (["--ranks", "12", "--rank-multiple", "8"], "no multiple"),
        (["--rank-multiple", "0"], "rank multiple"),
        (["--keep", "layers=all"], "nothing is left"),
        (["--keep", "tensors=all"], "nothing is left"),
        (["--keep", "layers=99"], "layer"),
        (["--keep", "tensors=nonsense"], "tensor"),
        (["--keep", "rank=8"], "layers= and tensors= alone"),
        (["--keep", ""], "layers= and tensors= alone"),
        (["--keep", "layers=3 tensors=key"], "whole layers"),
        (["--limit", "latency_s<=-1"], "negative"),
        (["--limit", "latency_s<=nan"], "finite"),
        (["--limit", "saved.params_pct>30GB"], "not a unit"),
        (["--limit", "latency_s<=x"], "not a number"),
        (["--limit", "speed>3"], "unknown objective"),
        (["--limit", "decode.latency_s<=1"], "not priced"),
        (["--objectives", ""], "no objective"),
        (["--objectives", "request.latency_s"], "--new-tokens"),
        (["--top", "-1"], "--top"),
        (["--quality", "missing.json"], "cannot read"),
        (["--quality", "standin:luck"], "stand-in"),
        (["--plot", "frontier.jpeg"], "unknown kind of file"),
        (["--plot", "nowhere/frontier.png"], "cannot write"),
        (["--space", "everything"], "--space"),
        (["--form", "cp"], "--form"),
        (["--batch", "0"], "--batch"),
    ],
)
def test_bad_input(
    arguments: list[str],
    match: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert match in error_of(capsys, *SMALL, *arguments)


def test_what_the_prices_rest_on(capsys: pytest.CaptureFixture[str]) -> None:
    """The same assumptions as `estimate` states, and its warnings about the first configuration."""
    arguments = ["--seq-len", "2000", "--ranks", "700", "--top", "1"]
    found = json_of(capsys, *SMALL, *arguments, "--limit", "saved.params_pct<=-1")
    priced = json_of(capsys, "estimate", *SMALL[1:], "--seq-len", "2000", "--decompose", "rank=700")
    assert found["level"] == priced["phases"][0]["decomposed"]["level"]
    assert found["assumptions"] == priced["assumptions"]
    assert any("2000 tokens are beyond the 512 positions" in text for text in found["warnings"])
    assert any("above break-even" in text for text in found["warnings"])
    assert run(cli, [*SMALL, *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    title = next(line for line in lines[:5] if line.startswith("prefill: batch 1, 2000 tokens, bf16, eager, fused"))
    assert title.endswith(f"{found['level']} level")
    assert sum(line.startswith("assumption: ") for line in lines) == len(found["assumptions"])
    assert any(line.startswith("warning: the first configuration: ") for line in lines)
    assert any("within the model" in line for line in lines)
    unfit = json_of(capsys, "explore", "--model", "llama2-70b", "--hw", "l4", "--ranks", "4096", "--top", "1")
    assert any(text.startswith("decode: ") and "does not fit" in text for text in unfit["warnings"])
