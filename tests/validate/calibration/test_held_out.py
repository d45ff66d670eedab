"""Every error and interval of a calibration from probes is of times that its fit had not seen.

Each test changes times strongly and asks what moves: nothing that was predicted of the changed points, a good deal of
what was predicted of others.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from measured_ops import measured

from costmodel.hardware.profile import load_hardware
from costmodel.timing.calibration.shaped import FormKind, nominal_work
from costmodel.units import DType
from studies.calibrations import few_points
from studies.calibrations.few_points import few_points_row
from studies.calibrations.transfer import llama_rows
from validate.calibration import few, many, process, shaped, tiles
from validate.calibration import fit as fit_module
from validate.calibration.errors import coverage_pct, speedups
from validate.calibration.fit import device_of, fit_calibration
from validate.calibration.net import Training
from validate.calibration.shaped import FOLDS, cross_predict, folds_of, summary
from validate.calibration.spread import ends, fit_spread
from validate.calibration.streams import StreamTable, held_out_halves
from validate.calibration.tables import Floats, OpTable

A100 = load_hardware("a100-sxm-80gb")
TINY = Training(hidden=(8,), epochs=4, batch=32, rate=1e-2, pairs=16)
RATES = {"flops_per_s": 1e14, "bytes_per_s": 2e12}
WILD = 5.0


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fits of a tenth of a second: what is seen, not how well it is learned."""
    for module, name, value in (
        (few, "TAUGHT", 60),
        (few, "TEACHERS", 1),
        (few, "_TEACHER", TINY),
        (few, "_STUDENT", TINY),
        (many, "TAUGHT", 60),
        (many, "TEACHERS", 2),
        (shaped, "PAIRS", 200),
        (tiles, "STEPS", 2),
        (process, "STEPS", 2),
        (fit_module, "TRAINING", dict.fromkeys(("gemm", "prefill", "decode"), TINY)),
    ):
        monkeypatch.setattr(module, name, value)


def table_of(kind: FormKind, rows: int = 5, groups: int = 20) -> OpTable:
    """Groups of shapes that are each off by a factor of their own, which only those who have seen a group can know."""
    rng = np.random.default_rng(0)
    if kind == "gemm":
        size = 2.0 ** np.arange(2, 2 + rows)
        widths = 32.0 * np.unique(rng.integers(1, 200, (2 * groups, 2)), axis=0)[:groups]
        shape = np.concatenate([np.tile(size, len(widths))[None], np.repeat(widths, rows, axis=0).T])
    else:
        heads = np.array([[2**h, 2**k, d] for h in range(2, 6) for k in (h, h - 1) for d in (64, 128)], dtype=float)
        length = np.tile(np.round(2 ** np.linspace(5, 12, rows)), len(heads))
        query = np.ones_like(length) if kind == "decode" else length
        shape = np.stack([np.full_like(length, 2), query, length, *np.repeat(heads, rows, axis=0).T])
    work, moved = nominal_work(kind, shape, 2)
    own = np.repeat(np.exp(0.3 * rng.standard_normal(shape.shape[1] // rows)), rows)
    return OpTable(kind=kind, shape=shape, seconds=(work / 5e13 + moved / 1.2e12 + 1e-5) * own)


def slower(table: OpTable, rows: Any) -> OpTable:
    """The table with some of its times five times as long."""
    seconds = table.seconds.copy()
    seconds[rows] *= WILD
    return dataclasses.replace(table, seconds=seconds)


def moves(before: Floats, after: Floats) -> float:
    """The largest change, as |ln|."""
    return float(np.abs(np.log(after / before)).max())


@pytest.mark.parametrize(
    ("kind", "points"), [("gemm", "few"), ("gemm", "many"), ("decode", "few"), ("prefill", "many")]
)
def test_a_fold_is_predicted_by_those_who_have_not_seen_it(
    kind: FormKind, points: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through base, processes, tiles, teachers and network alike."""
    monkeypatch.setattr(shaped, "FEW", 10_000 if points == "few" else 0)
    table, device = table_of(kind), device_of(A100, DType.BF16, kind)
    fold = folds_of(table.groups(), FOLDS, seed=0)
    before = cross_predict(table, device, TINY)
    for changed in range(FOLDS) if kind == "decode" else (0, FOLDS - 1):
        after = cross_predict(slower(table, fold == changed), device, TINY)
        assert after[fold == changed] == pytest.approx(before[fold == changed], rel=1e-6)
        assert all(moves(before[fold == each], after[fold == each]) > 0.05 for each in range(FOLDS) if each != changed)


@pytest.mark.parametrize("kind", ["gemm", "decode"])
def test_shapes_of_a_group_are_held_out_together(kind: FormKind) -> None:
    """A group's times are its own: one of them says what the others are, so none may be fitted to."""
    table, device = table_of(kind), device_of(A100, DType.BF16, kind)
    before = cross_predict(table, device, TINY)
    group = table.groups() == 3
    after = cross_predict(slower(table, np.flatnonzero(group)[0]), device, TINY)
    assert after[group] == pytest.approx(before[group], rel=1e-6)
    assert moves(before, after) > 0.01


@pytest.fixture(scope="module")
def decode() -> OpTable:
    return table_of("decode")


def test_intervals_are_as_wide_as_held_out_errors(decode: OpTable) -> None:
    """Not as the errors of the fit to the whole on its own points: those intervals would cover four in five."""
    fit = shaped.fit_shaped(decode, device_of(A100, DType.BF16, "decode"), TINY, alignment=None, multiple=1)
    base_s, residual = fit.form.base_seconds(decode.shape), np.log(decode.seconds / fit.held_out_s)
    low, high = fit.form.spread.quantiles(base_s, decode.rows(), np.zeros(len(decode), dtype=np.bool_))
    assert 0.85 <= ((low <= residual) & (residual <= high)).mean() <= 0.97
    expected = fit_spread(base_s, decode.rows(), residual)
    assert (fit.form.spread.low.tolist(), fit.form.spread.high.tolist()) == (
        expected.low.tolist(),
        expected.high.tolist(),
    )


def test_a_fold_that_is_off_is_not_covered_by_intervals_of_the_others() -> None:
    """In sample its own residuals would make room for it."""
    table = table_of("gemm", rows=10, groups=40)
    fold = folds_of(table.groups(), FOLDS, seed=0 + 1)
    noise = 0.02 * np.random.default_rng(0).standard_normal(len(table))
    for wild in range(FOLDS):
        residual = noise + np.where(fold == wild, 1.0, 0.0)
        measured = dataclasses.replace(table, seconds=table.seconds * np.exp(residual))
        covered = coverage_pct(table.seconds, table.seconds, measured, seed=0)
        others = 100 * (fold != wild).mean()
        assert others - 8 < covered <= others


def repeated(copies: int = 2) -> StreamTable:
    """Sizes that were measured several times each, such as the two norms of a layer."""
    rng = np.random.default_rng(1)
    moved = np.tile(2 ** np.linspace(12, 26, 41), copies)
    return StreamTable(
        kind="norm", moved=moved, seconds=(3e-6 + moved / 1.4e12) * np.exp(rng.normal(0, 0.2, len(moved)))
    )


@pytest.mark.parametrize("copies", [1, 2, 3])
def test_every_other_size_is_predicted_by_those_between(copies: int) -> None:
    """Also where a size was measured more than once: no row of it may be fitted to when another is predicted."""
    table = repeated(copies)
    held_out = np.isin(table.moved, np.unique(table.moved)[1::2])
    unseen, before = held_out_halves(table, **RATES)
    assert len(before) == 20 * copies
    assert (unseen.moved.tolist(), unseen.seconds.tolist()) == (
        table.moved[held_out].tolist(),
        table.seconds[held_out].tolist(),
    )

    def change(rows: Any) -> Floats:
        seconds = np.where(rows, WILD * table.seconds, table.seconds)
        return held_out_halves(dataclasses.replace(table, seconds=seconds), **RATES)[1]

    assert change(held_out) == pytest.approx(before, rel=1e-9)
    assert moves(before, change(~held_out)) > 1


@pytest.fixture(scope="module")
def streams() -> list[StreamTable]:
    return [repeated(1), dataclasses.replace(repeated(2), kind="rope")]


def test_the_error_table_is_of_what_was_held_out(decode: OpTable, streams: list[StreamTable]) -> None:
    """Each row beside its own computation from the predictions and the measurements."""
    tables: dict[FormKind, OpTable] = {"gemm": table_of("gemm"), "decode": decode}
    fit = fit_calibration(measured(tables, streams), A100)
    rows = {(row["kind"], row["subset"], row["protocol"]): row for row in fit.content["errors"]}
    for kind, table in tables.items():
        predicted = fit.forms[kind].held_out_s
        row = rows[kind, "all", fit_module.PROTOCOL[kind]]
        assert {name: row[name] for name in summary(predicted, table)} == pytest.approx(
            summary(predicted, table), rel=0.01
        )
        covered = coverage_pct(fit.forms[kind].form.base_seconds(table.shape), predicted, table, fit_module.SEED)
        assert row["coverage_pct"] == pytest.approx(covered, rel=0.01)
    low_rank = tables["gemm"].low_rank()
    row = rows["gemm", "low-rank: min(n, k) <= 512, max >= 2048", fit_module.PROTOCOL["gemm"]]
    found = summary(fit.forms["gemm"].held_out_s[low_rank], tables["gemm"].take(low_rank))
    assert (row["points"], row["mean_pct"]) == (low_rank.sum(), pytest.approx(found["mean_pct"], rel=0.01))
    rates = {"flops_per_s": fit.forms["gemm"].form.base.flops_per_s, "bytes_per_s": A100.memory_bytes_per_s}
    for table in streams:
        unseen, predicted = held_out_halves(table, **rates)
        row = rows[table.kind, "all", "fitted on every other size"]
        assert row["points"] == len(unseen.seconds)
        assert row["mean_pct"] == pytest.approx(100 * np.abs(predicted / unseen.seconds - 1).mean(), rel=0.01)
        assert row["bias_pct"] == pytest.approx(100 * (predicted / unseen.seconds - 1).mean(), rel=0.01)
        entry = fit.content["streams"][table.kind]
        low, high = ends(np.log(unseen.seconds / predicted))
        assert (entry["low"], entry["high"]) == (pytest.approx(low, rel=0.01), pytest.approx(high, rel=0.01))


def test_errors_of_a_few_points_are_of_groups_that_none_was_drawn_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice the time of what is held out halves every ratio, and does nothing to what is predicted."""
    monkeypatch.setattr(few_points, "TRIALS", 1)
    table = table_of("gemm")
    fold = folds_of(table.groups(), few_points.HELD_OUT, 0)
    before = few_points_row(table, A100, DType.BF16, points=40)
    held_out = dataclasses.replace(table, seconds=np.where(fold == 0, 2.0, 1.0) * table.seconds)
    after = few_points_row(held_out, A100, DType.BF16, points=40)
    fitted = dataclasses.replace(table, seconds=np.where(fold != 0, 2.0, 1.0) * table.seconds)
    assert before["points"] == after["points"] == (fold == 0).sum()
    assert after["bias_pct"] / 100 + 1 == pytest.approx((before["bias_pct"] / 100 + 1) / 2, rel=0.01)
    assert few_points_row(fitted, A100, DType.BF16, points=40)["bias_pct"] > before["bias_pct"] + 30


def test_another_tables_linears_are_predicted_without_their_shapes() -> None:
    table = table_of("gemm")
    group = table.groups() == 4
    linear = dataclasses.replace(table.take(group), seconds=1.1 * table.seconds[group])

    def rows(changed: OpTable) -> dict[str, Any]:
        return {row["subset"]: row for row in llama_rows({"up": linear}, changed, A100, DType.BF16)}

    before, own, others = rows(table), rows(slower(table, group)), rows(slower(table, ~group))
    predicted = {"Llama 2 7B up", "Llama 2 7B, all linears"}
    assert predicted < set(before)
    for name in predicted:
        assert own[name] == before[name]
        assert others[name] != before[name]


def test_speed_ups_are_of_the_predictions_that_are_given() -> None:
    """By hand: dense 10, its pair 2 + 3; predicted 12 against 1 + 3."""
    shape = np.array([[4, 64, 64], [4, 32, 64], [4, 64, 32]], dtype=np.float64).T
    table = OpTable(kind="gemm", shape=shape, seconds=np.array([10.0, 2.0, 3.0]))
    ours, true = speedups(np.array([12.0, 1.0, 3.0]), table)
    assert (ours.tolist(), true.tolist()) == ([3.0], [2.0])
