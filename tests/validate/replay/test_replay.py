"""`validate replay`: constants that made a table are found again, and somebody else's table is predicted from them."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from costmodel import load_hardware, load_model
from costmodel.cli import run as run_command
from costmodel.errors import InputError
from validate.cli import cli
from validate.replay import fit as replay_fit
from validate.replay.fit import fit_constants
from validate.replay.model import ReplayConstants, ScoringRun, load_constants
from validate.replay.replay import mean_errors, replay
from validate.replay.table import COLUMNS, METRICS, MIB, Benchmark, TableRow, chosen, read_benchmarks

ROOT = Path(__file__).resolve().parents[3]
PAPER = ROOT.parent / "shared" / "paper" / "cost_rank1_all_tensors.csv"
LAYERS = [(), (2, 29), (2, 17, 31), (2, 8, 14, 20, 26), tuple(range(0, 32, 2)), tuple(range(32))]
TRUTH = ReplayConstants(
    matrix_efficiency=1.0, memory_efficiency=0.7, harness_s_per_request=5e-4, compute_w=1300, memory_w=900, idle_w=570
)
"""One efficiency is 1, as the fit has it. idle_w: halfway between 4 x 60 W, the profile's idle power, and memory_w."""
LENGTHS = {"short": 40.5, "middle": 90.0, "long": 250.25}
SETUP = ["--model", "llama2-7b", "--hw", "a100-sxm-80gb"]


@pytest.fixture(scope="module")
def run() -> ScoringRun:
    return ScoringRun(model=load_model("llama2-7b"), hardware=load_hardware("a100-sxm-80gb"))


def synthetic(
    run: ScoringRun, *, noise: float = 0.0, seed: int = 7, truth: ReplayConstants = TRUTH
) -> tuple[Benchmark, ...]:
    """The table that `truth` makes, each latency and energy off by a normal relative error of `noise`."""
    dice = random.Random(seed)
    made = []
    for name, length in LENGTHS.items():
        blank = TableRow(
            layers=(), rank=0, param_reduction_pct=0, latency_s=1, energy_j=1, memory_bytes=1, power_w=1, utilisation=1
        )
        empty = [replace(blank, layers=layers, rank=1 if layers else 0) for layers in LAYERS]
        shape = Benchmark(name=name, batch=64, dense=empty[0], rows=tuple(empty[1:]))
        device, busy = run.device_times(shape, length, truth)
        rows = []
        for row, seconds, part in zip(empty, device.tolist(), busy.tolist(), strict=True):
            harness = 64 * truth.harness_s_per_request
            factor = 1 + noise * dice.gauss(0, 1)
            energy = truth.compute_w * part + truth.memory_w * (seconds - part) + truth.idle_w * harness
            latency = (seconds + harness) * factor
            removed = run.removed_bytes(row)
            rows.append(
                replace(
                    row,
                    latency_s=latency,
                    energy_j=energy * factor,
                    utilisation=1 - harness / latency,
                    power_w=energy * factor / latency,
                    memory_bytes=13_476_831_232 - removed + 13_000 * MIB,
                    param_reduction_pct=100 * removed / 2 / run.model.num_params,
                )
            )
        made.append(Benchmark(name=name, batch=64, dense=rows[0], rows=tuple(rows[1:])))
    return tuple(made)


def as_csv(benchmarks: tuple[Benchmark, ...]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream)
    writer.writerow(COLUMNS)
    for each in benchmarks:
        for row in (each.dense, *each.rows):
            writer.writerow(
                [
                    " ".join(map(str, row.layers)),
                    row.rank or "",
                    each.name,
                    each.batch,
                    row.param_reduction_pct,
                    row.latency_s,
                    row.energy_j,
                    row.memory_bytes / MIB,
                    row.power_w,
                    100 * row.utilisation,
                ]
            )
    return stream.getvalue()


@pytest.fixture
def table(run: ScoringRun, tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(as_csv(synthetic(run)))
    return path


def validate(arguments: list[str]) -> int:
    return run_command(cli, ["replay", *arguments])


@pytest.mark.parametrize("name", LENGTHS)
def test_the_constants_that_made_a_table_are_found_again(run: ScoringRun, name: str) -> None:
    table = synthetic(run)
    found = fit_constants(run, chosen(table, name))
    assert found.harness_s_per_request == pytest.approx(TRUTH.harness_s_per_request, rel=1e-9)
    assert found.matrix_efficiency == 1
    assert found.memory_efficiency == pytest.approx(TRUTH.memory_efficiency, rel=0.01)
    assert found.memory_w / found.compute_w == pytest.approx(TRUTH.memory_w / TRUTH.compute_w, rel=0.05)
    assert found.idle_w == pytest.approx((4 * 60 + found.memory_w) / 2)


@pytest.mark.parametrize("ratio", [0.3, 4.0])
def test_predictions_do_not_depend_on_where_the_fit_starts(
    run: ScoringRun, ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = synthetic(run, noise=0.01)
    usual = replay(run, table, fit_on=table[:1])
    monkeypatch.setattr(replay_fit, "_START_RATIO", ratio)
    other = replay(run, table, fit_on=table[:1])
    for before, after in zip(usual.rows, other.rows, strict=True):
        assert after.predicted == pytest.approx(before.predicted, abs=1e-3)


def test_a_set_up_below_its_peaks_is_predicted_as_well(run: ScoringRun) -> None:
    """Only the ratio of the efficiencies is found; what the kernels' fixed time makes of that is below a point."""
    slow = replace(TRUTH, matrix_efficiency=0.5, memory_efficiency=0.35)
    for split in replay(run, synthetic(run, truth=slow)).splits:
        assert split.constants.memory_efficiency == pytest.approx(0.7, rel=0.2)
        errors = mean_errors(split.rows)["predicted"]
        assert errors is not None
        assert all(errors[metric] < 1 for metric in METRICS), (split.fit_on, errors)


def test_other_benchmarks_of_a_made_table_are_predicted(run: ScoringRun) -> None:
    result = replay(run, synthetic(run))
    assert [split.fit_on for split in result.splits] == [("short",), ("middle",), ("long",)]
    for split in result.splits:
        errors = mean_errors(split.rows)["predicted"]
        assert errors is not None
        assert all(errors[metric] < 0.1 for metric in METRICS), (split.fit_on, errors)
        for setup in split.setups:
            assert setup.harness_s_per_batch == pytest.approx(64 * TRUTH.harness_s_per_request)


def test_true_constants_predict_exactly_and_give_the_lengths(run: ScoringRun) -> None:
    result = replay(run, synthetic(run), constants=TRUTH)
    for row in result.rows:
        assert row.predicted == pytest.approx(row.measured, abs=1e-6)
        assert row.fitted_line is None
    lengths = {setup.benchmark: setup.tokens_per_sequence for setup in result.splits[0].setups}
    assert lengths == pytest.approx(LENGTHS, rel=1e-6)


def test_noise_of_a_percent_costs_about_a_point(run: ScoringRun) -> None:
    result = replay(run, synthetic(run, noise=0.01))
    for split in result.splits:
        errors = mean_errors(split.rows)["predicted"]
        assert errors is not None
        assert errors["latency_pct"] < 1.5


def test_a_predicted_benchmark_gives_its_dense_row_only(run: ScoringRun) -> None:
    table = synthetic(run)
    changed = tuple(
        each
        if each.name == "short"
        else replace(
            each,
            rows=tuple(
                replace(row, latency_s=row.latency_s * 3, energy_j=row.energy_j / 2, power_w=1.0) for row in each.rows
            ),
        )
        for each in table
    )
    before, after = (replay(run, each, fit_on=chosen(each, "short")) for each in (table, changed))
    assert [row.predicted for row in before.rows] == [row.predicted for row in after.rows]
    assert [row.fitted_line for row in before.rows] == [row.fitted_line for row in after.rows]


def test_a_latency_that_no_length_explains_is_refused(run: ScoringRun) -> None:
    with pytest.raises(InputError, match="short: no length explains the dense row's device time"):
        run.length_for(synthetic(run)[0], 1e-6, TRUTH)


def test_parts_of_a_batch_add_up(run: ScoringRun) -> None:
    table = synthetic(run)
    middle = chosen(table, "middle")[0]
    device, _ = run.device_times(middle, LENGTHS["middle"], TRUTH)
    for index, row in ((0, middle.dense), (5, middle.rows[-1])):
        parts = run.by_role(row, 64, 90, TRUTH)
        assert sum(parts.values()) == pytest.approx(device[index])
    assert "q_proj" not in parts
    assert parts["factors"] > 0


def test_table_json_and_csv_output(table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert validate([str(table), *SETUP, "--format", "json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert len(result["rows"]) == 3 * 2 * 5
    assert set(result["rows"][0]) >= {"benchmark", "param_reduction_pct", "measured", "predicted", "null_line"}
    assert result["rows"][0]["null_line"]["latency_pct"] == 0.6 * result["rows"][0]["param_reduction_pct"]
    assert set(result["mean_abs_error_points"]["predicted"]) == set(METRICS)
    assert validate([str(table), *SETUP, "--format", "csv", "--fit-on", "short,long"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {row["benchmark"] for row in rows} == {"middle"}
    assert validate([str(table), *SETUP]) == 0
    out = capsys.readouterr().out
    assert "mean absolute error in percentage points" in out
    assert out.count("tokens a sequence") == 6


def test_constants_are_saved_and_read(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = tmp_path / "constants.json"
    fitted = [str(table), *SETUP, "--fit-on", "short", "--save-constants", str(saved), "--format", "json"]
    assert validate(fitted) == 0
    first = json.loads(capsys.readouterr().out)
    assert load_constants(saved).to_json() == first["splits"][0]["constants"]
    assert validate([str(table), *SETUP, "--constants", str(saved), "--format", "json"]) == 0
    second = json.loads(capsys.readouterr().out)
    assert json.loads(saved.read_text())["set_ups"] == first["splits"][0]["set_ups"]
    known = {(row["benchmark"], row["param_reduction_pct"]): row["predicted"] for row in second["rows"]}
    assert len(known) == 3 * 5
    assert all(known[row["benchmark"], row["param_reduction_pct"]] == row["predicted"] for row in first["rows"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("gpu_utilisation_pct", "busy"), "no column gpu_utilisation_pct"),
        (lambda text: text.splitlines()[0], "no rows"),
        (lambda text: re.sub(r"\n,,short.*", "", text), "needs one dense row"),
        (lambda text: text.replace("2 29,1,short,64", "2 29,1,short,32"), "several batch sizes"),
        (lambda text: text.replace("2 29,1,short", "2 x,1,short"), "layers in row 2: got '2 x"),
        (lambda text: text.replace("2 29,1,short", "2 99,1,short"), "layer out of range"),
        (lambda text: text.replace("2 29,1,short", "2 28 29,1,short"), "parameter reduction is not that of llama2-7b"),
        (lambda text: text.replace("2 29,1,short", "2 29,0,short"), "rank in row 2: got '0'"),
        (lambda text: text.replace(",short,64,6.", ",short,64,nan6."), "param_reduction_pct"),
    ],
)
def test_a_bad_table_is_one_line(
    change: Callable[[str], str], message: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table.write_text(change(table.read_text()))
    assert validate([str(table), *SETUP]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--fit-on", "nonesuch"], "no such benchmark"),
        (["--fit-on", "short,middle,long"], "no benchmark is left to predict"),
        (["--constants", "nonesuch.json"], "cannot read constants"),
        (["--dtype", "fp8"], "unknown dtype"),
        (["--hw", "epyc-9654"], "has no fp16 rate"),
        (["--model", "llama2-13b"], "parameter reduction is not that of llama2-13b"),
        (["--save-constants", "no/such/folder/x.json"], "cannot write"),
    ],
)
def test_bad_options_are_one_line(
    arguments: list[str], message: str, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validate([str(table), *SETUP, *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("matrix_efficiency", 0),
        ("memory_efficiency", 1.5),
        ("compute_w", 0),
        ("idle_w", -1),
        ("memory_w", "much"),
        ("harness_s_per_request", None),
        ("more", 1),
    ],
)
def test_bad_constants_are_refused(name: str, value: object, tmp_path: Path) -> None:
    path = tmp_path / "constants.json"
    path.write_text(json.dumps({"schema": 1, "constants": {**TRUTH.to_json(), name: value}}))
    with pytest.raises(InputError, match=name):
        load_constants(path)


def test_a_table_with_no_file_and_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read as CSV"):
        read_benchmarks(tmp_path / "none.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="utf-8"):
        read_benchmarks(tmp_path / "bytes.csv")


def test_it_needs_no_torch(table: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None\n"
        f"from validate.cli import main; main(['replay', {str(table)!r}, *{SETUP!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not PAPER.is_file(), reason="the published table is not beside this checkout")
def test_the_published_table_is_predicted_better_than_by_lines(run: ScoringRun) -> None:
    result = replay(run, read_benchmarks(PAPER))
    assert len(result.splits) == 3
    for split in result.splits:
        errors = mean_errors(split.rows)
        model, null, line = (errors[each] for each in ("predicted", "null_line", "fitted_line"))
        assert model is not None
        assert null is not None
        assert line is not None
        for metric, target in (("latency_pct", 0.9), ("energy_pct", 1.1), ("memory_pct", 2.0)):
            assert model[metric] < min(null[metric], line[metric], target), (split.fit_on, metric, model[metric])
