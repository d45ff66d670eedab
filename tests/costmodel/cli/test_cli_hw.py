"""`costmodel hw` as a user meets it: output formats, exit codes, one-line errors."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from costmodel.cli import cli, run
from costmodel.hardware.file import parse_profile
from costmodel.hardware.profile import builtin_hardware, profile_folder

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("fmt", ["table", "json", "csv"])
def test_list_names_every_profile(fmt: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["hw", "list", "--format", fmt]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in builtin_hardware())


def test_list_json_and_csv_are_in_si_units(capsys: pytest.CaptureFixture[str]) -> None:
    run(cli, ["hw", "list", "--format", "json"])
    a100 = next(p for p in json.loads(capsys.readouterr().out)["profiles"] if p["name"] == "a100-sxm-80gb")
    assert a100["matrix_flops_per_s"]["bf16"] == 312e12
    assert a100["matrix_flops_per_s"]["fp8"] is None
    assert (a100["memory_bytes"], a100["memory_bytes_per_s"], a100["verified"]) == (80_000_000_000, 2.039e12, True)
    run(cli, ["hw", "list", "--format", "csv"])
    row = next(r for r in csv.DictReader(io.StringIO(capsys.readouterr().out)) if r["name"] == "a100-sxm-80gb")
    assert float(row["matrix_flops_per_s.bf16"]) == 312e12
    assert row["matrix_flops_per_s.fp8"] == ""


def test_show_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["hw", "show", "a100-sxm-80gb"]) == 0
    out = capsys.readouterr().out
    for text in (
        "312 TFLOP/s",
        "2.039 TB/s",
        "80 GB",
        "40 MiB",
        "10 us",
        "2.4 us",
        "400 W",
        "153.0 FLOP/B",
        "datasheet",
    ):
        assert text in out


@pytest.mark.parametrize("name", builtin_hardware())
def test_show_json_gives_each_figure_its_unit_and_source(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["hw", "show", name, "--format", "json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    for figure in shown["figures"]:
        assert list(figure) == ["figure", "value", "unit", "verified", "source", "key"]
        assert isinstance(figure["value"], int | float)
        assert isinstance(figure["verified"], bool)
        assert figure["source"]
        assert figure["unit"] or figure["figure"] == "cores"
    bandwidth = shown["memory_bytes_per_s"]
    rates = {dtype: rate for dtype, rate in shown["matrix_flops_per_s"].items() if rate}
    assert shown["ridge_flops_per_byte"] == {dtype: rate / bandwidth for dtype, rate in rates.items()}


def test_show_names_figures_as_the_file_does(capsys: pytest.CaptureFixture[str]) -> None:
    """What is read in the table can be looked up, and changed, in a copy of the profile."""
    assert run(cli, ["hw", "show", "l4"]) == 0
    shown = {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith(" ") and line.split()}
    figures = parse_profile((profile_folder() / "l4.toml").read_text(), "l4.toml").figures
    assert {key for key, _ in figures.items()} <= shown


def test_show_csv_has_the_ridge_points_as_rows(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["hw", "show", "epyc-9654", "--format", "csv"]) == 0
    rows = {row["figure"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert rows["memory_bytes"]["verified"] == "False"
    assert rows["host_launch_s"]["unit"] == "s"
    assert float(rows["ridge_flops_per_byte.fp32"]["value"]) == pytest.approx(16.0)


def test_check_of_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["hw", "check"]) == 0
    out, err = capsys.readouterr()
    assert [line.split(":")[0] for line in out.splitlines()] == [f"ok {name}" for name in builtin_hardware()]
    assert err == ""


def test_check_reports_every_bad_file_in_one_line_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = (ROOT / "hw_profiles" / "l4.toml").read_text()
    paths = {"good": good, "string": good.replace("value = 300,", 'value = "300",'), "empty": ""}
    for stem, text in paths.items():
        (tmp_path / f"{stem}.toml").write_text(text)
    names = [str(tmp_path / f"{stem}.toml") for stem in paths]
    assert run(cli, ["hw", "check", *names, "l4", "h1000"]) == 2
    out, err = capsys.readouterr()
    assert [line[:3] for line in out.splitlines()] == ["ok "] * 2
    lines = err.splitlines()
    assert [line[:7] for line in lines] == ["error: "] * 3
    for line, expected in zip(lines, ["figures.memory_gb_per_s.value: got '300'", "schema", "h1000"], strict=True):
        assert expected in line


def test_check_as_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["hw", "check", "t4", str(tmp_path), "--format", "json"]) == 2
    out, err = capsys.readouterr()
    good, bad = json.loads(out)["profiles"]
    assert good == {"profile": "t4", "ok": True, "figures": 12, "unverified": 3, "error": None}
    assert not bad["ok"]
    assert bad["error"].startswith(f"a device is a name or a file, and this is a folder: got '{tmp_path}'; ")
    assert err == f"error: {bad['error']}\n"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["hw", "show", "a100-sxm-80"], "did you mean"),
        (["hw", "show", "none.toml"], "cannot read hardware profile: got 'none.toml'; No such file"),
        (["hw", "show"], "Missing argument"),
        (["hw", "show", "t4", "l4"], "unexpected extra argument"),
        (["hw", "show", "t4", "--format", "xml"], "'xml' is not one of"),
        (["hw", "draw"], "unknown command"),
    ],
)
def test_bad_input_is_one_line_on_stderr(arguments: list[str], expected: str) -> None:
    code = "from costmodel.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert expected in done.stderr


@pytest.mark.parametrize("arguments", [["hw"], ["hw", "list"], ["hw", "show"], ["hw", "check"]])
def test_help_has_an_example(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, [*arguments, "--help"]) == 0
    assert "Example: costmodel hw" in capsys.readouterr().out
