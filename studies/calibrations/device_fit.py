"""One device's calibration from its recipe: forms, kernels that move data, what others measured, rows of errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.errors import CalibrationError
from costmodel.files.node import Node
from costmodel.forward.workload import Runtime
from costmodel.hardware.profile import HardwareProfile, load_hardware
from costmodel.timing.calibration.base import Base
from costmodel.timing.calibration.elsewhere import Differs
from costmodel.timing.calibration.file import SCHEMA, read_elsewhere
from costmodel.timing.calibration.load import load_calibration
from costmodel.timing.calibration.shaped import FORMS, FormName, StreamForm
from costmodel.units import DType
from studies.calibrations.beside import NOT_FITTED, beside_entry, beside_row
from studies.calibrations.few_points import few_points_row
from studies.calibrations.model_ops import read_model_ops
from studies.calibrations.recipes import COPIES, FP8, LLAMA, RECIPES, VIDUR, Recipe
from studies.calibrations.taken_over import attention_form, form_of, judged
from studies.calibrations.transfer import llama_rows
from validate.calibration.fit import ALIGNMENT_SOURCE, fit_form, fit_streams, form_errors
from validate.calibration.shaped import joined
from validate.calibration.streams import WORST, StreamTable, stream_to_json
from validate.calibration.tables import OpTable, read_tables

WIDEN = 2.0
"""Factor on the intervals of kernels that only move data and were measured on another device."""
JUDGE = "l40s"
"""Device on which attention that is taken over is judged."""
FEW = 300
Content = dict[str, Any]


def fit_device(folder: Path, name: str, out: Path, *, keep: bool) -> Content:
    """The content of a device's file.

    Args:
        folder: of the tables.
        name: of the device.
        out: where the files of other devices are, and the device's own.
        keep: whether forms that its file has stay, with their rows of errors.
    """
    recipe, hardware = RECIPES[name], load_hardware(name)
    path = out / f"{name}.json"
    before: Content = json.loads(path.read_text()) if keep and path.is_file() else {"forms": {}, "errors": []}
    linears, moving = read_model_ops(folder / recipe.model_ops[0]) if recipe.model_ops else ({}, [])
    forms: Content = {}
    errors: list[Content] = []
    provenance: list[Content] = []
    for form in recipe.forms or ("gemm",):
        ours = form in recipe.forms
        table = form_table(folder, name, form) if ours else reduce(joined, linears.values())
        if form in before["forms"]:
            forms[form] = before["forms"][form]
            rows = [row for row in before["errors"] if row["kind"] == form and row["protocol"] != NOT_FITTED]
        else:
            forms[form], rows = _fitted(form, table, hardware, recipe, linears)
        errors += rows
        about = recipe.provenance(form, len(table)) if ours else _vidur(recipe) | {"points": len(table)}
        provenance.append({"classes": [form], **about})
    if recipe.attention_of is not None:
        entries, rows, source = _attention_taken_over(folder, out, recipe.attention_of, hardware)
        forms |= entries
        errors += rows
        provenance.append(source)
    streams, rows, sources = _streams(recipe, hardware, moving, out, form_of("gemm", forms["gemm"]).base)
    elsewhere = _elsewhere(folder, name, recipe, forms["gemm"], linears) if recipe.forms else []
    served = ["bf16", "fp16"] if recipe.forms else ["fp16", "bf16"]
    content = {
        "schema": SCHEMA,
        "hardware": name,
        "dtypes": served + (["fp8"] if FP8 in forms else []),
        "runtimes": [each.value for each in Runtime],
        "level": "probes",
        "host_launch_s": None,
        "provenance": provenance + sources,
        "errors": errors + rows,
        "streams": streams,
        "forms": forms,
        **({"elsewhere": [entry for entry, _ in elsewhere]} if elsewhere else {}),
    }
    return _with_beside_rows(content, [table for _, table in elsewhere])


def form_table(folder: Path, name: str, form: FormName) -> OpTable:
    """The measured operations of a device that a form is fitted to."""
    return read_tables([folder / f"{name}_{end}.parquet" for end in RECIPES[name].forms[form]])[FORMS[form]]


def _fitted(
    form: FormName, table: OpTable, hardware: HardwareProfile, recipe: Recipe, linears: Mapping[str, OpTable]
) -> tuple[Content, list[Content]]:
    kind, warm = FORMS[form], None
    if recipe.cold and kind == "gemm":
        table, warm = split_cold(form, table, hardware)
    fitted = fit_form(form, table, hardware, DType.BF16, training=recipe.training(form), warm=warm)
    rows = form_errors(form, fitted, table)
    if warm is not None:
        rows = [{**row, "subset": f"{row['subset']}, weights out of memory"} for row in rows]
    if form == "gemm" and recipe.few_points:
        rows.append(few_points_row(table, hardware, DType.BF16, points=FEW))
        if recipe.model_ops and recipe.model_ops[1] == LLAMA:
            rows += llama_rows(linears, table, hardware, DType.BF16)
    return fitted.to_json(ALIGNMENT_SOURCE), rows


def split_cold(form: FormName, table: OpTable, hardware: HardwareProfile) -> tuple[OpTable, OpTable]:
    """GEMMs whose weights were read out of memory, since not all copies fit the cache, and the others."""
    element_bytes = 1 if form == FP8 else 2
    cold = table.weight_bytes(element_bytes) * COPIES > hardware.caches[-1].bytes
    return table.take(cold), table.take(~cold)


def _streams(
    recipe: Recipe, hardware: HardwareProfile, tables: list[StreamTable], out: Path, gemm: Base
) -> tuple[Content, list[Content], list[Content]]:
    """Entries, rows of errors and provenance of kernels that only move data."""
    if recipe.streams_of is None:
        entries, rows = fit_streams(tables, gemm, hardware)
        sources = [{"classes": [t.kind], "points": len(t.seconds), **_vidur(recipe)} for t in tables]
        return entries, rows, sources
    other = recipe.streams_of
    ratio = hardware.memory_bytes_per_s / load_hardware(other).memory_bytes_per_s
    source = f"related: measured on {other}, scaled by datasheet bandwidth; interval widened {WIDEN:g} times"
    entries = {
        kind: stream_to_json(related(form, ratio, WIDEN), source)
        for kind, form in load_calibration(out / f"{other}.json").streams.items()
    }
    return entries, [], [{"classes": sorted(entries), "points": 0, **_vidur(RECIPES[other]), "note": source}]


def related(form: StreamForm, bandwidth_ratio: float, widen: float) -> StreamForm:
    """The form on another device: the same fixed time and efficiency at another bandwidth, the interval widened, the
    correction dropped."""
    nothing = np.zeros(0)
    return replace(
        form,
        base=replace(form.base, bytes_per_s=form.base.bytes_per_s * bandwidth_ratio),
        log2_bytes=nothing,
        ln_factor=nothing,
        low=max(form.low * widen, -WORST),
        high=min(form.high * widen, WORST),
    )


def _attention_taken_over(
    folder: Path, out: Path, other: str, hardware: HardwareProfile
) -> tuple[Content, list[Content], Content]:
    """Attention measured on another device, its interval from the error that it makes on a third."""
    source, judge = load_hardware(other), load_hardware(JUDGE)
    measured: Content = json.loads((out / f"{other}.json").read_text())["forms"]
    entries, rows = {}, []
    for form in ("prefill", "decode"):
        there = form_table(folder, JUDGE, form)
        spread, row = judged(form, attention_form(measured[form], source, judge), there, JUDGE)
        entries[form] = {**attention_form(measured[form], source, hardware), "spread": spread}
        rows.append(row)
    note = f"related: measured on {other}, scaled by the ratios of the datasheets; interval from its errors on {JUDGE}"
    return entries, rows, {**RECIPES[other].provenance("prefill", 0), "classes": list(entries), "note": note}


def _elsewhere(
    folder: Path, name: str, recipe: Recipe, gemm: Content, linears: Mapping[str, OpTable]
) -> list[tuple[Content, OpTable]]:
    """Entries of what others measured of GEMMs, and their tables."""
    others: list[tuple[OpTable, Differs, str]] = []
    if recipe.model_ops:
        others.append((reduce(joined, linears.values()), "laboratory", f"Vidur profiling data, {recipe.model_ops[1]}"))
    if recipe.stack:
        table = read_tables(folder / f"{name}_{recipe.stack[1]}.parquet")["gemm"]
        others.append((table, "stack", f"the same database, {recipe.stack[0]}"))
    form = form_of("gemm", gemm)
    return [(beside_entry("gemm", form, table, differs, source), table) for table, differs, source in others]


def _with_beside_rows(content: Content, tables: list[OpTable]) -> Content:
    """The content with a row of errors for each other table; the intervals know of all of them."""
    found = read_elsewhere(Node("elsewhere", content.get("elsewhere", []), CalibrationError))
    form = replace(form_of("gemm", content["forms"]["gemm"]), elsewhere=found.get("gemm", ()))
    rows = [beside_row(form, table, entry.source) for entry, table in zip(form.elsewhere, tables, strict=True)]
    return {**content, "errors": content["errors"] + rows}


def _vidur(recipe: Recipe) -> Content:
    assert recipe.model_ops is not None
    return {"source": f"Vidur profiling data, {recipe.model_ops[1]}", **VIDUR}
