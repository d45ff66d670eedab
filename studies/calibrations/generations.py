"""How far off devices are that nobody measured: each measured device is held out and priced by what is known of others.

Run: python -m studies.calibrations.generations FOLDER
The folder is that of `fit_shipped`. Writes generations.json beside this file, which `fit_shipped` puts into ERRORS.md.
Three protocols: numbers fitted to the other devices' tables; a sibling's shipped calibration carried over; the shipped
numbers of `hw_profiles/calibrations/generations.toml`, some of which were fitted to these very tables.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.files.table import read_table
from costmodel.files.write import write_file
from costmodel.forward.workload import Runtime
from costmodel.hardware.profile import HardwareProfile, load_hardware
from costmodel.timing.calibration.base import Base
from costmodel.timing.calibration.load import find_calibration, time_model
from costmodel.timing.columns import OpColumns, TimeModel
from costmodel.timing.generation import GenerationRoofline
from costmodel.units import DType
from validate.calibration.base import fit_base
from validate.calibration.errors import error_row
from validate.calibration.tables import OpTable, read_tables
from validate.errors import RecordError

OUT = Path(__file__).with_suffix(".json")
DEVICES = ("a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm", "l40s", "b200-sxm")
START = (0.75, 0.8, 3e-6, 2.0)
MOST_ROWS = 6000
"""Rows of a table that a fit of four numbers looks at."""
BYTES = 2


def gemm_table(folder: Path, name: str) -> OpTable:
    """The bf16 GEMMs of a device; of the L40S those whose six weight copies leave its cache, the others are warm."""
    table = read_tables([folder / f"{name}_gemm_bf16.parquet"])["gemm"]
    if name != "l40s":
        return table
    cache = load_hardware(name).caches[-1].bytes
    return table.take(6 * BYTES * table.shape[1] * table.shape[2] > cache)


def a40_table(folder: Path) -> OpTable:
    """The linears of four models on an A40 (Vidur, fp16), split over 1 to 8 tensor-parallel workers."""
    raw = read_table(folder / "a40_model_ops_fp16.parquet", RecordError).columns
    tokens, hidden, inner, heads, kv_heads, workers = (
        np.asarray(raw[key], dtype=np.float64)
        for key in (
            "num_tokens",
            "n_embd",
            "n_expanded_embd",
            "n_head",
            "n_kv_head",
            "num_tensor_parallel_workers",
        )
    )
    up = inner * (1 + np.asarray(raw["use_gated_mlp"], dtype=np.float64)) / workers
    linears = {
        "attn_pre_proj_us": ((heads + 2 * kv_heads) * hidden / heads / workers, hidden),
        "attn_post_proj_us": (hidden, hidden / workers),
        "mlp_up_proj_us": (up, hidden),
        "mlp_down_proj_us": (hidden, inner / workers),
    }
    shapes = [np.stack([tokens, n, k]) for n, k in linears.values()]
    seconds = [np.asarray(raw[key], dtype=np.float64) * 1e-6 for key in linears]
    return OpTable(kind="gemm", shape=np.concatenate(shapes, axis=1), seconds=np.concatenate(seconds))


def shares(table: OpTable, hardware: HardwareProfile) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What a device reaches: of peak rate, of bandwidth, seconds per kernel, overlap."""
    rate, bandwidth = hardware.matrix_rate(DType.BF16), hardware.memory_bytes_per_s
    if len(table) > MOST_ROWS:
        table = table.take(np.random.default_rng(0).choice(len(table), MOST_ROWS, replace=False))
    start = Base(flops_per_s=START[0] * rate, bytes_per_s=START[1] * bandwidth, fixed_s=START[2], overlap=START[3])
    base = fit_base(*table.work(BYTES), table.seconds, start)
    return np.array([base.flops_per_s / rate, base.bytes_per_s / bandwidth, base.fixed_s, base.overlap])


def pooled_row(table: OpTable, hardware: HardwareProfile, others: Iterable[Any], subset: str) -> dict[str, Any]:
    """The error of the mean of what other devices reach (in ln; of the seconds per kernel as they are)."""
    known = np.array(list(others))
    compute, memory, _, overlap = np.exp(np.log(np.maximum(known, 1e-9)).mean(axis=0))
    rate, bandwidth = hardware.matrix_rate(DType.BF16), hardware.memory_bytes_per_s
    flops, moved = table.work(BYTES)
    base = Base(flops_per_s=1.0, bytes_per_s=1.0, fixed_s=0.0, overlap=float(overlap))
    busy = base.busy(flops / (rate * compute), moved / (bandwidth * memory))
    return error_row("gemm", subset, "what the other devices reach", busy + known[:, 2].mean(), table)


def model_row(table: OpTable, model: TimeModel, subset: str, protocol: str) -> dict[str, Any]:
    """The error of a time model, and the share of rows inside its 90 % interval."""
    m, n, k = table.shape.astype(np.int64)
    zero = np.zeros_like(m)
    ops = OpColumns(
        kind="gemm",
        m=m,
        n=n,
        k=k,
        executed_flops=2 * m * n * k,
        vector_flops=zero,
        hbm_bytes=BYTES * (n * k + m * (n + k)),
        kernels=zero + 1,
    )
    times = model.times(ops)
    row = error_row("gemm", subset, protocol, times.latency_s, table)
    inside = (times.p05_s <= table.seconds) & (table.seconds <= times.p95_s)
    return {**row, "coverage_pct": round(100 * float(inside.mean()), 1)}


def rows(folder: Path) -> list[dict[str, Any]]:
    """The error rows of every protocol."""
    tables = {name: gemm_table(folder, name) for name in DEVICES}
    reached = {name: shares(table, load_hardware(name)) for name, table in tables.items()}
    tables["a40"] = a40_table(folder)
    found = []
    for name, table in tables.items():
        hardware = load_hardware(name)
        others = [value for other, value in reached.items() if other != name]
        found.append(pooled_row(table, hardware, others, name))
        found.append(
            model_row(table, GenerationRoofline.of(hardware, DType.BF16, 0.0), name, "generations.toml as shipped")
        )
    for name, sibling in (("h200-sxm", "h100-sxm-80gb"),):
        unmeasured = without_its_own(load_hardware(name))
        calibration = find_calibration("auto", unmeasured, DType.BF16, Runtime.GRAPH)
        model = time_model(unmeasured, DType.BF16, Runtime.GRAPH, calibration)
        found.append(model_row(tables[name], model, name, f"the calibration of {sibling}, carried over"))
    return found


def without_its_own(hardware: HardwareProfile) -> HardwareProfile:
    """The same device under a name that no calibration has."""
    return replace(hardware, name=f"unmeasured-{hardware.name}")


def main() -> int:
    """Price, and write the rows."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    found = rows(arguments.folder)
    write_file(OUT, (json.dumps({"errors": found}, indent=1) + "\n").encode())
    for row in found:
        print(json.dumps(row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
