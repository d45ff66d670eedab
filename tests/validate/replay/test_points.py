"""`validate points`: rows of a table become questions, answers keep the file's order, and what is unknown is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from costmodel import Decomposition, Workload, estimate, load_hardware, load_model
from costmodel.api.asking import estimate as ask
from costmodel.cli import run
from costmodel.forward.workload import Runtime
from validate.cli import cli

ROW = {
    "model_config": "gpt2",
    "dtype": "fp16",
    "batch": "2",
    "seq": "100",
    "phase": "prefill",
    "kind": "time",
    "measured": "3.5",
    "hw": "a100-sxm-80gb",
    "stack": "graph",
    "new_tokens": "0",
    "attention": "fused",
    "lm_head": "last",
    "decompose": "",
}


def table(path: Path, *changes: dict[str, str]) -> Path:
    rows = [ROW | change for change in changes]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def answers(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, list[dict[str, object]]]:
    assert run(cli, ["points", str(path), "--format", "json"]) == 0
    result: dict[str, list[dict[str, object]]] = json.loads(capsys.readouterr().out)
    return result


def test_rows_are_answered_in_their_order_and_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = table(
        tmp_path / "points.csv",
        {},
        {"phase": "decode"},
        {"phase": "request", "new_tokens": "9"},
        {"kind": "memory", "measured": "400"},
        {"kind": "ratio", "measured": "0.9", "decompose": "tensors=mlp rank=64"},
    )
    rows = answers(path, capsys)["rows"]
    assert [row["row"] for row in rows] == [1, 2, 3, 4, 5]
    model, device = load_model("gpt2"), load_hardware("a100-sxm-80gb")
    work = Workload.prefill(100, batch=2, runtime=Runtime.GRAPH)
    whole = estimate(model, device, Decomposition(), [work], new_tokens=10)
    assert whole.request is not None
    for row, low, high in ((rows[0], 0.5, 2.0), (rows[2], 0.5, 2.0)):
        assert low < float(str(row["predicted"])) / (1e3 * whole.request.dense.ttft_s) < 40 * high
    assert float(str(rows[2]["predicted"])) > float(str(rows[0]["predicted"]))
    assert 250 < float(str(rows[3]["predicted"])) < 500
    assert 0.3 < float(str(rows[4]["predicted"])) < 1.2
    for row in rows:
        assert float(str(row["p05"])) <= float(str(row["predicted"])) <= float(str(row["p95"]))


def test_the_summary_counts_and_measures_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (first,) = answers(table(tmp_path / "one.csv", {}), capsys)["rows"]
    exact, half = str(first["predicted"]), str(float(str(first["predicted"])) * 2)
    found = answers(table(tmp_path / "two.csv", {"measured": exact}, {"measured": half}), capsys)
    total = next(row for row in found["summary"] if row["device"] == "all" and row["stack"] == "all")
    assert total["points"] == 2
    assert total["worst_pct"] == pytest.approx(-50, abs=0.01)
    assert total["mean_abs_pct"] == pytest.approx(25, abs=0.01)
    assert found["rows"][0]["inside"] is True


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"stack": "vlm"}, "row 2: unknown stack: got 'vlm'"),
        ({"hw": "a1000"}, "row 2:"),
        ({"measured": "fast"}, "row 2: measured: got 'fast'"),
        ({"kind": "speed"}, "row 2: unknown kind"),
        ({"dtype": "fp7"}, "row 2: unknown dtype"),
        ({"decompose": "rank=x"}, "row 2:"),
    ],
)
def test_what_is_unknown_is_named_with_its_row(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, str], told: str
) -> None:
    assert run(cli, ["points", str(table(tmp_path / "bad.csv", {}, change))]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert told in output.err
    assert output.err.count("\n") == 1


def test_a_missing_column_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "short.csv"
    path.write_text("hw,stack\nl4,vllm\n")
    assert run(cli, ["points", str(path)]) == 2
    assert "no column model_config" in capsys.readouterr().err


def test_a_row_may_be_of_several_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = answers(table(tmp_path / "points.csv", {"kind": "memory", "tp": ""}, {"kind": "memory", "tp": "2"}), capsys)[
        "rows"
    ]
    alone, shared = (float(str(row["predicted"])) for row in rows)
    assert 0.4 * alone < shared < 0.9 * alone


def test_a_row_of_a_factored_folder_is_of_what_it_holds(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 128, **sizes}
    modules = {"0.mlp.up_proj": {"form": "svd", "rank": [8, 8]}}
    entry = {"quant_method": "low_rank", "layers": "model.layers", "num_layers": 2, "modules": modules, "drop": []}
    (tmp_path / "dense.json").write_text(json.dumps(config))
    (tmp_path / "factored.json").write_text(json.dumps({**config, "quantization_config": entry}))
    path = table(
        tmp_path / "points.csv",
        {"model_config": "factored.json"},
        {"model_config": "dense.json", "decompose": "layers=0 tensors=up_proj rank=8"},
        {"model_config": "dense.json"},
    )
    held, named, dense = (row["predicted"] for row in answers(path, capsys)["rows"])
    assert held == named != dense


@pytest.mark.parametrize("stack", ["eager", "vllm"])
def test_latent_attention_runs_as_the_stack_of_the_row_runs_it(
    stack: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    change = {"model_config": "deepseek-v3", "phase": "decode", "stack": stack, "hw": "h100-sxm-80gb", "dtype": "bf16"}
    (row,) = answers(table(tmp_path / "points.csv", change), capsys)["rows"]
    told = ask("deepseek-v3", "h100-sxm-80gb", phase="decode", kv_len=100, batch=2, stack=stack)
    assert row["predicted"] == pytest.approx(1e3 * told.phases[0].decomposed.latency_s, rel=1e-12)
