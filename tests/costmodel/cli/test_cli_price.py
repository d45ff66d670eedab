"""`costmodel price`: rows in, the same rows with times out."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from costmodel.cli import cli, run
from costmodel.decomposition.factors import Decomposition
from costmodel.families.load import load_model
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import load_hardware, profile_folder
from costmodel.pricing import shapes as bare_ops
from costmodel.pricing.estimate import estimate
from costmodel.timing.calibration.load import load_calibration, time_model
from costmodel.timing.datasheet import DatasheetRoofline
from costmodel.units import DType

GEMMS = "m,n,k\n1,4096,4096\n512,32,4096\n8192,4096,4096\n"
HEADS = "batch_size,q_len,past_len,num_heads,num_key_value_heads,head_dim\n"
ATTENTION = (
    "batch_size,q_len,past_len,num_heads,num_key_value_heads,head_dim,note\n"
    '1,512,0,32,32,128,first\n8,1,2047,32,8,128,"a, b"\n'
)


def price(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = run(cli, ["price", *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture
def gemms(tmp_path: Path) -> Path:
    path = tmp_path / "gemms.csv"
    path.write_text(GEMMS)
    return path


def test_gemms_on_the_datasheet(gemms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = price(capsys, gemms, "--hw", "t4", "--dtype", "fp16", "--calibration", "none")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == ("m,n,k,latency_s,latency_lower_s,latency_upper_s,latency_p05_s,latency_p95_s,bound")
    rows = rows_of(out)
    assert [(row["m"], row["n"], row["k"]) for row in rows] == [
        ("1", "4096", "4096"),
        ("512", "32", "4096"),
        ("8192", "4096", "4096"),
    ]
    assert {row["latency_p05_s"] for row in rows} == {""}
    assert [row["bound"] for row in rows] == ["memory", "memory", "compute"]
    # 2 x 8192 x 4096 x 4096 FLOPs at 65 TFLOP/s, plus the kernel's fixed time
    expected = 2 * 8192 * 4096**2 / 65e12 + load_hardware("t4").kernel_floor_s
    assert float(rows[2]["latency_s"]) == pytest.approx(expected, rel=1e-8)


def test_calibrated_rows_have_an_interval(gemms: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = price(capsys, gemms, "--hw", "h100-sxm-80gb", "--runtime", "graph")
    assert code == 0
    for row in rows_of(out):
        low, mid, high = (float(row[f"latency_{name}s"]) for name in ("p05_", "", "p95_"))
        assert low < mid < high
        assert float(row["latency_lower_s"]) <= mid <= float(row["latency_upper_s"])
    path = profile_folder() / "calibrations" / "h100-sxm-80gb.json"
    assert price(capsys, gemms, "--hw", "h100-sxm-80gb", "--runtime", "graph", "--calibration", path)[1] == out
    uncalibrated = price(capsys, gemms, "--hw", "h100-sxm-80gb", "--calibration", "none")[1]
    assert {row["latency_p95_s"] for row in rows_of(uncalibrated)} == {""}


def test_attention_passes_other_columns_through(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "attention.csv"
    path.write_text(ATTENTION)
    code, out, _ = price(capsys, path, "--hw", "a100-sxm-80gb", "--format", "json")
    found = json.loads(out)
    assert code == 0
    assert (found["schema"], found["hardware"], found["level"]) == (1, "a100-sxm-80gb", "probes")
    assert [row["note"] for row in found["rows"]] == ["first", "a, b"]
    assert all(row["latency_p05_s"] < row["latency_s"] < row["latency_p95_s"] for row in found["rows"])
    code, out, _ = price(capsys, path, "--hw", "a100-sxm-80gb")
    assert rows_of(out)[1]["note"] == "a, b"


@pytest.mark.parametrize("quote", ["", '"'])
def test_any_text_of_one_line_passes_through(tmp_path: Path, capsys: pytest.CaptureFixture[str], quote: str) -> None:
    """Line separators of Unicode, next line, form feed and the like part no rows of a CSV file, quoted or not; what a
    terminal obeys is written out."""
    texts = {
        "a\u2028b": "a\u2028b",
        "a\u2029b": "a\u2029b",
        "a\x85b": r"a\x85b",
        "a\fb": r"a\x0cb",
        "a\x1cb": r"a\x1cb",
    }
    path, out = tmp_path / "shapes.csv", tmp_path / "out.csv"
    lines = "".join(f"1,2,3,{quote}{text}{quote}\n" for text in texts)
    path.write_text(f"m,n,k,note\n{lines}", encoding="utf-8")
    assert price(capsys, path, "--hw", "l4", "--calibration", "none", "-o", out)[:2] == (0, "")
    with out.open(encoding="utf-8", newline="") as stream:
        assert [row["note"] for row in csv.DictReader(stream)] == list(texts.values())


def test_no_passed_column_reaches_a_terminal_or_a_spreadsheet_as_such(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = {
        "\x1b[31mred\x1b[0m": r"\x1b[31mred\x1b[0m",
        "\x07": r"\x07",
        "\u202eabc": r"\u202eabc",
        "=1+1": "'=1+1",
        "+cmd|' /C calc'!A0": "'+cmd|' /C calc'!A0",
        " @SUM(A1)": "' @SUM(A1)",
        "-2+3": "'-2+3",
        "\uff1d1": "'\uff1d1",
        "-1.5e-3": "-1.5e-3",
        "+3 %": "+3 %",
        "plain": "plain",
    }
    path = tmp_path / "shapes.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([["m", "n", "k", "=note"], *([1, 2, 3, note] for note in notes)])
    code, out, err = price(capsys, path, "--hw", "l4", "--calibration", "none")
    assert (code, err) == (0, "")
    assert [row["'=note"] for row in rows_of(out)] == list(notes.values())
    found = json.loads(price(capsys, path, "--hw", "l4", "--calibration", "none", "--format", "json")[1])
    assert [row["=note"] for row in found["rows"]] == list(notes)


def test_passed_values_that_are_no_numbers_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    path = tmp_path / "shapes.csv"
    path.write_text("m,n,k,us,note\n1,2,3,nan,a\n1,2,3,-Infinity,b\n1,2,3,4,nan of it\n")
    code, out, err = price(capsys, path, "--hw", "l4", "--calibration", "none")
    assert (code, err) == (0, "note: column us has 2 values that are infinite or no number; they pass through\n")
    assert [row["us"] for row in rows_of(out)] == ["nan", "-Infinity", "4"]
    columns = {"m": [1, 1], "n": [2, 2], "k": [3, 3], "us": [float("nan"), 1.0], "parts": [[float("inf")], None]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "shapes.parquet")
    arguments = (tmp_path / "shapes.parquet", "--hw", "l4", "--calibration", "none", "--format", "json")
    code, out, err = price(capsys, *arguments)
    assert (code, err.count("\n")) == (0, 1)
    assert [row["us"] for row in json.loads(out)["rows"]] == [None, 1.0]
    assert [row["parts"] for row in json.loads(out)["rows"]] == [[None], None]


def test_parquet_and_csv_agree(gemms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    columns: dict[str, Any] = {"m": [1, 512, 8192], "n": [4096, 32, 4096], "k": [4096, 4096, 4096]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "gemms.parquet")
    assert price(capsys, tmp_path / "gemms.parquet", "--hw", "l4") == price(capsys, gemms, "--hw", "l4")


def test_output_file_and_order_over_chunks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bare_ops, "_CHUNK", 7)
    path, out = tmp_path / "many.csv", tmp_path / "out.csv"
    path.write_text("k,note,m,n\n" + "".join(f"{64 + i},x{i},{i + 1},128\n" for i in range(40)))
    assert price(capsys, path, "--hw", "l4", "--calibration", "none", "-o", out)[:2] == (0, "")
    rows = rows_of(out.read_text())
    assert [row["note"] for row in rows] == [f"x{i}" for i in range(40)]
    times = [float(row["latency_s"]) for row in rows]
    assert times == sorted(times)
    assert price(capsys, path, "--hw", "l4", "-o", tmp_path / "none" / "out.csv")[2].startswith("error: cannot write")


def test_a_row_is_priced_as_the_estimate_prices_it() -> None:
    hardware = load_hardware("a100-sxm-80gb")
    calibration = load_calibration(profile_folder() / "calibrations" / "a100-sxm-80gb.json")
    for model in (
        time_model(hardware, DType.BF16, Runtime.GRAPH, calibration),
        DatasheetRoofline.of(hardware, DType.BF16, Runtime.GRAPH),
    ):
        found = calibration if model.has_interval else None
        work = Workload.decode(2048, batch=8, runtime=Runtime.GRAPH)
        rows = (
            estimate(load_model("mistral-7b"), hardware, Decomposition(), [work], calibration=found).phases[0].op_rows()
        )
        attention = next(row["latency_s"] for row in rows if row["kind"] == "attention")
        linear = next(row["latency_s"] for row in rows if row["name"].endswith("0.mlp.down_proj"))
        table = bare_ops.ShapeTable(
            columns={}, names=bare_ops.ATTENTION_COLUMNS, shape=_shape([8, 1, 2047, 32, 8, 128])
        )
        assert bare_ops.price_shapes(table, model, DType.BF16)["latency_s"] == pytest.approx([attention], rel=1e-9)
        table = bare_ops.ShapeTable(columns={}, names=bare_ops.GEMM_COLUMNS, shape=_shape([8, 4096, 14336]))
        assert bare_ops.price_shapes(table, model, DType.BF16)["latency_s"] == pytest.approx([linear], rel=1e-9)


def test_fp8_gemms_take_half_the_bytes_in_and_the_fp8_rate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gemms.csv"
    path.write_text("m,n,k\n8192,8192,8192\n1,4096,4096\n")
    rows = rows_of(price(capsys, path, "--hw", "l4", "--dtype", "fp8", "--calibration", "none")[1])
    floor = load_hardware("l4").kernel_floor_s
    assert float(rows[0]["latency_s"]) - floor == pytest.approx(2 * 8192**3 / 242e12)
    assert float(rows[1]["latency_s"]) - floor == pytest.approx((4096 * 4097 + 2 * 4096) / 300e9)


def test_attention_of_an_fp8_workload_is_that_in_16_bits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "attention.csv"
    path.write_text("batch_size,q_len,past_len,num_heads,num_key_value_heads,head_dim\n4,512,0,32,8,128\n")
    times = [rows_of(price(capsys, path, "--hw", "h100-sxm-80gb", "--dtype", t)[1])[0] for t in ("fp8", "bf16")]
    assert times[0] == times[1]


def test_fp8_is_refused_on_a_device_without_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gemms.csv"
    path.write_text("m,n,k\n1,32,32\n")
    code, _, error = price(capsys, path, "--hw", "a100-sxm-80gb", "--dtype", "fp8")
    assert (code, error.startswith("error: a100-sxm-80gb has no fp8 rate")) == (2, True)


def _shape(values: list[int]) -> Any:
    return np.array(values, dtype=np.int64)[:, None]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "columns: got 'none'; allowed: one of: m, n, k; batch_size"),
        ("m,n\n1,2\n", "columns: got 'm, n'; allowed"),
        ("m,n,k\n1,2,x\n", "k in row 1: got 'x'; allowed: a whole number from 1"),
        ("m,n,k\n1,2,3\n1,0,3\n", "n in row 2: got '0'"),
        ("m,n,k\n1,2,1.5\n", "k in row 1: got '1.5'"),
        ("m,n,k\n1,2,nan\n", "k in row 1: got 'nan'"),
        ("m,n,k\n1,2,-3\n", "k in row 1: got '-3'"),
        ("m,n,k\n1,2\n", "values in row 1: got 2; allowed: 3"),
        ("m,n,k,m\n1,2,3,4\n", "a column's name comes twice"),
        ('m,n,k\n1,"2"\n', "values in row 1: got 2; allowed: 3"),
        ("m,n,k\n16777216,16777216,16777216\n", "row 1 is too large to count"),
        (HEADS + "1,1,-1,8,8,64\n", "past_len in row 1"),
        (HEADS + "1,1,0,8,3,64\n", "a divisor of num_heads, 8"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str) -> None:
    path = tmp_path / "shapes.csv"
    path.write_text(content)
    code, out, err = price(capsys, path, "--hw", "l4")
    assert (code, out) == (2, "")
    assert message in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1


def test_other_bad_input(gemms: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, message in (
        ((tmp_path / "none.csv", "--hw", "l4"), "cannot read as CSV"),
        ((tmp_path, "--hw", "l4"), "cannot read as CSV"),
        ((gemms, "--hw", "nonesuch"), "unknown hardware"),
        ((gemms,), "Missing option '--hw'"),
        ((gemms, "--hw", "t4"), "t4 has no bf16 rate"),
        ((gemms, "--hw", "l4", "--dtype", "int4"), "unknown dtype"),
        ((gemms, "--hw", "l4", "--calibration", tmp_path / "none.json"), "cannot read"),
    ):
        code, out, err = price(capsys, *arguments)
        assert (code, out) == (2, "")
        assert message in err
        assert err.count("\n") == 1
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    assert "cannot read as CSV" in price(capsys, tmp_path / "binary.csv", "--hw", "l4")[2]
    (tmp_path / "bad.parquet").write_bytes(b"nothing")
    assert "arquet" in price(capsys, tmp_path / "bad.parquet", "--hw", "l4")[2]


def test_a_header_alone_gives_a_header(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "empty.csv"
    path.write_text("m,n,k\n")
    assert price(capsys, path, "--hw", "l4") == (
        0,
        "m,n,k,latency_s,latency_lower_s,latency_upper_s,latency_p05_s,latency_p95_s,bound\n",
        "",
    )
    assert json.loads(price(capsys, path, "--hw", "l4", "--format", "json")[1])["rows"] == []


EXPERTS = (
    "num_tokens,hidden_size,moe_intermediate_size,num_experts_per_tok,num_experts,moe_tp_size,moe_ep_size,distribution\n"
    "1,4096,1536,8,128,1,1,balanced\n512,4096,1536,8,128,1,8,power_law_1.2\n"
)
COLLECTIVES = "collective,num_gpus,message_elements\nall_reduce,8,1048576\nalltoall,2,1024\nall_reduce,1,1024\n"


@pytest.mark.parametrize(("text", "name"), [(EXPERTS, "moe"), (COLLECTIVES, "collectives")])
def test_expert_layers_and_collectives_are_priced_in_the_order_of_their_rows(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, name: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    code, out, err = price(capsys, path, "--hw", "h100-sxm-80gb", "--format", "json")
    assert code == 0, err
    answer = json.loads(out)
    assert (answer["level"], answer["calibration"]) == ("probes", name)
    assert [str(row[text.split(",")[0]]) for row in answer["rows"]] == [line.split(",")[0] for line in text.split()[1:]]
    for row in answer["rows"]:
        assert row["latency_p05_s"] <= row["latency_s"] <= row["latency_p95_s"]
        assert row["latency_lower_s"] <= row["latency_s"] <= row["latency_upper_s"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        (EXPERTS.replace("balanced", "even"), "distribution"),
        (EXPERTS.replace("1,1,balanced", "1,7,balanced"), "expert parallel"),
        (COLLECTIVES.replace("alltoall", "gossip"), "collective"),
        (COLLECTIVES.replace("all_reduce,8", "all_reduce,16"), "devices"),
    ],
)
def test_rows_of_layers_that_make_no_sense_are_errors_of_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, word: str
) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(text)
    code, _, err = price(capsys, path, "--hw", "h100-sxm-80gb")
    assert code == 2
    assert word in err
    assert err.count("\n") == 1
