"""Mutated tables, CSV and Parquet: of `price`, `replay`, `points`, `fit`, `import`; constants of `replay`."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fuzzing import OBEYED, answer_of, cases, hold, keeps_the_law, mutated, mutated_text, mutated_values
from hypothesis import strategies as st

from costmodel.cli import cli as costmodel
from costmodel.errors import InputError
from costmodel.families.load import load_model
from costmodel.files.table import read_table
from costmodel.hardware.profile import load_hardware

pytest.importorskip("msgspec")
pytest.importorskip("pyarrow")

import pyarrow
from pyarrow import parquet

from validate.calibration.folder import read_ops
from validate.calibration.importers import import_aiconfigurator
from validate.calibration.tables import read_tables
from validate.cli import cli
from validate.replay.model import ReplayConstants, ScoringRun, load_constants
from validate.replay.points import read_points
from validate.replay.table import COLUMNS, MIB, Benchmark, TableRow

GEMMS = "m,n,k,note\n1,4096,4096,first\n512,32,4096,=x\n8192,4096,4096,-1.5\n"
ATTENTION = "batch_size,q_len,past_len,num_heads,num_key_value_heads,head_dim\n1,512,0,32,32,128\n8,1,2047,32,8,128\n"
POINTS = (
    "model_config,dtype,batch,seq,phase,kind,measured,hw,stack,new_tokens,decompose\n"
    "gpt2,fp16,2,100,prefill,time,3.5,a100-sxm-80gb,graph,0,\n"
    "gpt2,fp16,1,20,request,ratio,0.9,l4,graph,3,tensors=mlp rank=64\n"
)
CONSTANTS = {
    "matrix_efficiency": 1.0,
    "memory_efficiency": 0.7,
    "harness_s_per_request": 5e-4,
    "compute_w": 1300.0,
    "memory_w": 900.0,
    "idle_w": 570.0,
}


@cases(120)
def test_price(cases: int, tmp_path: Path) -> None:
    path, out = tmp_path / "shapes.csv", tmp_path / "out.csv"

    def law(content: bytes) -> None:
        path.write_bytes(content)
        more = ["--hw", "l4", "--calibration", "none"]
        keeps_the_law(costmodel, ["price", str(path), *more, "--format", "json"])
        if keeps_the_law(costmodel, ["price", str(path), *more, "-o", str(out)], written=(out,)) == 0:
            assert not OBEYED.search(out.read_bytes().decode())

    tables = [st.one_of(mutated_values(text), mutated_text(text.encode())) for text in (GEMMS, ATTENTION)]
    hold(law, st.one_of(*tables), cases)


@cases(80)
def test_price_of_parquet(cases: int, tmp_path: Path) -> None:
    """Columns of any type, and bytes of the file changed anywhere."""
    path = tmp_path / "shapes.parquet"
    columns = {"m": [1, 2], "n": [32, 64], "k": [64, 32], "note": ["a", "b"], "more": [0.5, None]}

    def law(content: bytes) -> None:
        path.write_bytes(content)
        arguments = ["price", str(path), "--hw", "l4", "--calibration", "none", "--format", "json"]
        keeps_the_law(costmodel, arguments)

    stream = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), stream)
    hold(law, st.one_of(mutated_text(stream.getvalue()), mutated(columns).map(_as_parquet)), cases)


def _as_parquet(content: bytes) -> bytes:
    """What of mutated JSON can be written as columns."""
    stream = io.BytesIO()
    try:
        parquet.write_table(pyarrow.table(json.loads(content)), stream)
    except Exception:  # pyarrow refuses in many ways what no table can hold
        return content
    return stream.getvalue()


@cases(100)
def test_points(cases: int, tmp_path: Path) -> None:
    path = tmp_path / "points.csv"

    def law(content: bytes) -> None:
        path.write_bytes(content)
        keeps_the_law(cli, ["points", str(path), "--format", "json"])

    hold(law, st.one_of(mutated_values(POINTS), mutated_text(POINTS.encode())), cases)
    assert answer_of(lambda: read_points(path)) is None or len(read_points(path)) >= 1


@cases(25)
def test_replay(cases: int, tmp_path: Path) -> None:
    path, good = tmp_path / "table.csv", replayed()
    arguments = ["replay", str(path), "--model", "gpt2", "--hw", "a100-sxm-80gb", "--format", "json"]

    def law(content: bytes) -> None:
        path.write_bytes(content)
        keeps_the_law(cli, arguments)

    path.write_text(good)
    assert keeps_the_law(cli, arguments) == 0
    hold(law, st.one_of(mutated_values(good), mutated_text(good.encode())), cases)


def replayed() -> str:
    """A table that GPT-2 could have made: two benchmarks, dense and with its first layer at rank 1."""
    run = ScoringRun(model=load_model("gpt2"), hardware=load_hardware("a100-sxm-80gb"))
    blank = TableRow(
        layers=(), rank=0, param_reduction_pct=0, latency_s=1, energy_j=1, memory_bytes=1, power_w=1, utilisation=1
    )
    rows = (blank, replace(blank, layers=(0,), rank=1), replace(blank, layers=(0, 3), rank=1))
    lines = [",".join(COLUMNS)]
    for name, length in (("one", 40.5), ("two", 90.0)):
        shape = Benchmark(name=name, batch=64, dense=rows[0], rows=rows[1:])
        times, _ = run.device_times(shape, length, ReplayConstants(**CONSTANTS))
        for row, seconds in zip(rows, times.tolist(), strict=True):
            latency, removed = seconds + 64 * CONSTANTS["harness_s_per_request"], run.removed_bytes(row)
            cells = [" ".join(map(str, row.layers)), row.rank or "", name, 64, 50 * removed / run.model.num_params]
            cells += [latency, 1100 * latency, 13_000 - removed / MIB, 1100, 100 * seconds / latency]
            lines.append(",".join(map(str, cells)))
    return "\n".join(lines) + "\n"


@cases(150)
def test_constants_of_replay(cases: int, tmp_path: Path) -> None:
    path = tmp_path / "constants.json"

    def law(content: bytes) -> None:
        path.write_bytes(content)
        if found := answer_of(lambda: load_constants(path)):
            assert all(0 <= value <= 1e9 for value in found.to_json().values())

    hold(law, mutated({"schema": 1, "constants": CONSTANTS}), cases)


@cases(150)
def test_tables_and_folders_of_a_fit(cases: int, tmp_path: Path) -> None:
    gemm = "m,n,k,latency_us\n1,32,64,3.5\n2,32,64,4\n"
    attention = "batch_size,q_len,past_len,num_heads,num_key_value_heads,head_dim,latency_us\n1,1,15,8,2,64,9\n"
    streams = "kind,bytes,latency_us\nnorm,4096,2\nnorm,8192,3\n"
    manifest = {"schema": 1, "hardware": "l4", "dtype": "bf16", "runtimes": ["graph"], "provenance": [{"source": "x"}]}
    good = {"gemm.csv": gemm, "attention.csv": attention, "streams.csv": streams}
    for name, text in good.items():
        (tmp_path / name).write_text(text)
    path = tmp_path / "tables.json"

    def folder(content: bytes) -> None:
        path.write_bytes(content)
        answer_of(lambda: read_ops(tmp_path))

    hold(folder, mutated({**manifest, "host_launch_s": 5e-6}), cases // 3)
    path.write_text(json.dumps(manifest))
    for name, text in good.items():
        hold(_table_law(tmp_path, name), st.one_of(mutated_values(text), mutated_text(text.encode())), cases // 4)
        (tmp_path / name).write_text(text)


def _table_law(folder: Path, name: str) -> Any:
    def law(content: bytes) -> None:
        (folder / name).write_bytes(content)
        if found := answer_of(lambda: read_ops(folder)):
            for table in found.tables.values():
                assert (table.shape >= 1).all()
                assert ((table.seconds > 0) & (table.seconds < 1e4)).all()

    return law


@cases(60)
def test_import(cases: int, tmp_path: Path) -> None:
    columns = {
        "gemm_dtype": ["bfloat16", "fp8"],
        "m": [1, 2],
        "n": [32, 32],
        "k": [64, 64],
        "latency": [0.05, 0.04],
        "window_size": [0, 0],
    }
    path = tmp_path / "l40s" / "gemm" / "sglang" / "1.0.0" / "gemm_perf.parquet"
    path.parent.mkdir(parents=True)

    def law(content: bytes) -> None:
        path.write_bytes(content)
        answer_of(lambda: import_aiconfigurator("l40s", folder=tmp_path))

    hold(law, mutated(columns).map(_as_parquet), cases)


def test_fields_too_long_for_a_csv_and_numbers_of_thousands_of_digits(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    for header, cell in (("m,n,k", "1,2," + "3" * 140_000), ("m,n,k", "1,2," + "9" * 5000), ("m,n,k", "1,2,1e400")):
        path.write_text(f"{header},latency_us\n{cell},1\n")
        assert answer_of(lambda: read_tables(path)) is None
    good = replayed()
    for odd, refused in (("1e308", True), ("inf", True), ("9" * 140_000, True), ("1e11", False), ("1e-9", False)):
        path.write_text(good.replace("1100,", f"{odd},"))
        code = keeps_the_law(cli, ["replay", str(path), "--model", "gpt2", "--hw", "a100-sxm-80gb"])
        assert code or not refused


def test_a_path_whose_parts_look_like_columns_adds_none(tmp_path: Path) -> None:
    folder = tmp_path / "m=7"
    folder.mkdir()
    parquet.write_table(pyarrow.table({"n": [1]}), folder / "table.parquet")
    assert list(read_table(folder / "table.parquet", InputError).columns) == ["n"]
    assert answer_of(lambda: read_table(folder, InputError)) is None


@pytest.mark.parametrize(
    ("column", "read"),
    [
        (pyarrow.array([{"a": 1.0}]), True),
        (pyarrow.array([[1, 2]]), True),
        (pyarrow.array([b"\xff\x1b"]), True),
        (pyarrow.array(["x"]).dictionary_encode(), True),
        (pyarrow.array([1], pyarrow.timestamp("ns", "Mars/Phobos")), False),
        (pyarrow.array([2**61], pyarrow.timestamp("ms")), False),
        (pyarrow.array([2**31 - 1], pyarrow.date32()), False),
    ],
)
def test_columns_of_other_types_pass_through_or_are_refused(column: Any, read: bool, tmp_path: Path) -> None:
    path = tmp_path / "shapes.parquet"
    parquet.write_table(pyarrow.table({"m": [1], "n": [2], "k": [3], "more": column}), path)
    for kind in ("json", "csv"):
        code = keeps_the_law(costmodel, ["price", str(path), "--hw", "l4", "--format", kind])
        assert code == (0 if read else 2)
