"""Refits the calibrations that ship, from a folder of measured tables, and writes their error tables.

Run: python -m studies.calibrations.fit_shipped [FOLDER] [--out hw_profiles/calibrations] [--only a100-sxm-80gb]
Without FOLDER nothing is fitted and the table is written from the files that are there.
The folder holds DEVICE_gemm_bf16.parquet, DEVICE_attention_prefill_bf16.parquet, DEVICE_attention_decode_bf16.parquet
and a100-sxm-80gb_llama2-7b_ops_fp16.csv. Takes a few minutes; the same tables give the same files.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.files.write import write_file
from costmodel.hardware.profile import load_hardware
from costmodel.timing.calibration.load import load_calibration
from costmodel.units import DType
from studies.calibrations.few_points import few_points_row
from studies.calibrations.llama import read_llama
from studies.calibrations.transfer import llama_rows
from validate.calibration.fit import Fit, fit_calibration
from validate.calibration.streams import related, stream_to_json
from validate.calibration.tables import read_tables

DEVICES = ("a100-sxm-80gb", "h100-sxm-80gb")
LLAMA = "a100-sxm-80gb_llama2-7b_ops_fp16.csv"
TABLES = ("gemm", "attention_prefill", "attention_decode")
DATABASE = {
    "source": "NVIDIA aiconfigurator measurement database, three quarters of its (n, k) pairs",
    "licence": "Apache-2.0",
    "dtype": "bf16",
    "software": "SGLang 0.5.10 / vLLM 0.24",
    "method": "CUDA graph replay, 3 warm-ups, 6 runs, six weight copies per graph, clocks not locked",
}
VIDUR = {
    "source": "Vidur profiling data, Llama 2 7B on A100",
    "licence": "MIT",
    "dtype": "fp16",
    "method": "medians per operation and token count, fused kernels, resolution 0.5 to 1 us",
}
WIDEN = 2.0
"""Factor on the intervals of classes that were measured on another device."""


def fit_device(folder: Path, name: str, reference: Path) -> Fit:
    """The calibration of one device; classes measured on the A100 alone are taken from its file on the others."""
    hardware = load_hardware(name)
    tables = read_tables([folder / f"{name}_{each}_bf16.parquet" for each in TABLES])
    provenance: list[dict[str, Any]] = [{"classes": [kind], "points": len(t), **DATABASE} for kind, t in tables.items()]
    more: dict[str, Any] = {}
    if name == DEVICES[0]:
        gemms, streams = read_llama(folder / LLAMA)
        more = {"streams": streams}
        provenance += [{"classes": [t.kind], "points": len(t.seconds), **VIDUR} for t in streams]
    else:
        ratio = hardware.memory_bytes_per_s / load_hardware(DEVICES[0]).memory_bytes_per_s
        source = f"related: measured on {DEVICES[0]}, scaled by datasheet bandwidth; interval widened {WIDEN:g} times"
        borrowed = {
            kind: stream_to_json(related(form, ratio, WIDEN), source)
            for kind, form in load_calibration(reference).streams.items()
        }
        more = {"borrowed": borrowed}
        provenance += [{"classes": sorted(borrowed), "points": 0, **VIDUR, "note": source}]
    fit = fit_calibration(tables, hardware, DType.BF16, served=[DType.FP16], provenance=provenance, **more)
    errors = fit.content["errors"]
    errors.append(few_points_row(tables["gemm"], hardware, DType.BF16, points=300))
    if name == DEVICES[0]:
        errors += llama_rows(gemms, tables["gemm"], hardware, DType.BF16)
    return fit


def error_table(folder: Path) -> str:
    """Markdown of every calibration's error rows."""
    lines = [
        "# Errors of the shipped calibrations",
        "",
        "Written by `studies/calibrations/fit_shipped.py`; a change of the model's form changes it."
        " Error: predicted / measured - 1"
        " in percent, on shapes that the fit had not seen unless the protocol says otherwise. Coverage: share of points"
        " within the 90 % interval.",
        "",
    ]
    columns = ["class", "subset", "protocol", "points", "mean", "median", "p95", "bias", "more"]
    known = ("kind", "subset", "protocol", "points", "mean_pct", "median_pct", "p95_pct", "bias_pct")
    for path in sorted(folder.glob("*.json")):
        rows = json.loads(path.read_text())["errors"]
        lines += [f"## {path.stem}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        for row in rows:
            more = ", ".join(_figure(key, row[key]) for key in row if key not in known)
            cells = [row["kind"], row["subset"], row["protocol"], f"{row['points']:,}"]
            cells += [f"{row[name]:.2f}" for name in known[4:]] + [more]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _figure(key: str, value: float) -> str:
    name = key.removesuffix("_pct")
    return f"{name} {value:g} %" if name != key else f"{key} {value:g}"


def main() -> int:
    """Fit, write, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[2] / "hw_profiles" / "calibrations")
    parser.add_argument("--only", choices=DEVICES)
    arguments = parser.parse_args()
    np.seterr(all="raise", under="ignore")
    wanted = [arguments.only] if arguments.only else DEVICES
    for name in wanted if arguments.folder else []:
        fit = fit_device(arguments.folder, name, arguments.out / f"{DEVICES[0]}.json")
        write_file(arguments.out / f"{name}.json", fit.to_bytes())
        load_calibration(arguments.out / f"{name}.json")
    text = error_table(arguments.out)
    write_file(arguments.out / "ERRORS.md", text.encode())
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
