"""Fits the numbers of mixture-of-experts layers to measured ones, and judges them on whole expert shapes held out.

Run: python -m studies.calibrations.moe FOLDER [--out hw_profiles/calibrations]
The folder is that of `fit_shipped`. Writes moe.toml there and the rows of errors to moe.json beside this file, which
`fit_shipped` puts into ERRORS.md.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.optimize import least_squares

from costmodel.arrays import Bools, Floats
from costmodel.files.table import read_table
from costmodel.files.write import write_file
from costmodel.hardware.profile import HardwareProfile, load_hardware
from costmodel.pricing.layers import UNGATED
from costmodel.timing.moe import MoeLayer, layer_columns, times_of
from costmodel.timing.moe_file import MeasuredSizes, MoeNumbers
from costmodel.units import DType
from validate.errors import RecordError

ROWS_OUT = Path(__file__).with_suffix(".json")
DEVICES = ("a100-sxm-80gb", "h100-sxm-80gb", "h200-sxm", "b200-sxm")
ALL_GATED = ("a100-sxm-80gb",)
"""Devices whose table is of an older version of the benchmark, which gave every expert a gate."""
UNKNOWN = MeasuredSizes(*((1, 1),) * len(MeasuredSizes._fields))
FOLDS, ROWS, SEED = 7, 3000, 0
PRIOR = np.array([-0.5, -0.2, 0.0, -0.35, 1.0, -1.0, 0.0, 0.0, -0.35, -0.7, 2.7, -4.3])
WIDTH = np.array([0.5, 0.5, 1.5, 0.7, 0.7, 1.0, 2.0, 2.0, 1.5, 1.5, 1.0, 1.5])
"""Where the numbers start in the order of `numbers_of`, and by how much a small table may move them."""
SHAPED = {
    "a100-sxm-80gb": ((8, 1792), (8, 2048), (8, 3584), (8, 4096), (8, 7168), (16, 1344), (16, 2688), (128, 192)),
}
"""Devices whose rows show what the shape on a device does, with the (experts, width) that vLLM has tuned tiles for: of
those looked for, the ones whose files its folder fused_moe/configs holds (Apache-2.0)."""
SHAPE_PRIOR = np.array([0.3, 0.0, -0.3, -0.3, 0.0])
SHAPE_WIDTH = 0.5
FACTORS = ("tuned_compute", "tuned_memory", "odd_compute", "odd_memory", "few_memory")
HEADER = """# Mixture-of-experts layers: written by studies/calibrations/moe.py; README.md here says what the keys are.
schema = 1
"""
SOURCE = "NVIDIA aiconfigurator measurement database (Apache-2.0), {rows} layers, medians under CUDA-graph replay"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Table:
    """Measured layers of one device, type and kernel."""

    hardware: HardwareProfile
    dtype: DType
    kernel: str
    layers: Sequence[MoeLayer]
    measured_s: Floats

    def groups(self) -> tuple[str, list[tuple[int, ...]]]:
        """What is held out as a whole, and of each row: its expert shape; of a table of one, its parallelism."""
        shapes: list[tuple[int, ...]] = [(x.hidden_size, x.intermediate_size, x.top_k, x.experts) for x in self.layers]
        if len(set(shapes)) > 1:
            return "whole expert shapes held out", shapes
        return "whole tp and ep held out", [(layer.tp, layer.ep) for layer in self.layers]

    def sizes(self) -> MeasuredSizes[tuple[int, int]]:
        """Least and most of each size."""
        rows = [(x.tokens, x.hidden_size, x.intermediate_size // x.tp, x.top_k, x.experts) for x in self.layers]
        return MeasuredSizes(*((min(column), max(column)) for column in zip(*rows, strict=True)))

    def take(self, mask: Bools) -> Table:
        """Some of the rows."""
        return Table(
            hardware=self.hardware,
            dtype=self.dtype,
            kernel=self.kernel,
            layers=[layer for layer, chosen in zip(self.layers, mask, strict=True) if chosen],
            measured_s=self.measured_s[mask],
        )

    def predicted(self, numbers: MoeNumbers) -> Floats:
        """Seconds of every row."""
        return times_of(numbers, layer_columns(self.layers), self.hardware, self.dtype).latency_s


def tables(folder: Path) -> list[Table]:
    """All tables of the folder, the kernel with the most rows first."""
    found = []
    for device in DEVICES:
        raw: Mapping[str, Sequence[Any]] = read_table(folder / f"{device}_moe.parquet", RecordError).columns
        kinds = list(zip(raw["moe_dtype"], raw["kernel_source"], strict=True))
        for kind, kernel in sorted(set(kinds), key=lambda each: (each[0], -kinds.count(each))):
            chosen = [index for index, each in enumerate(kinds) if each == (kind, kernel)]
            layers = [_layer({name: raw[name][index] for name in raw}, device) for index in chosen]
            found.append(
                Table(
                    hardware=load_hardware(device),
                    dtype=DType.FP8 if kind == "fp8" else DType.BF16,
                    kernel=str(kernel),
                    layers=layers,
                    measured_s=np.array([float(raw["latency_us"][index]) * 1e-6 for index in chosen]),
                )
            )
    return found


def _layer(row: Mapping[str, Any], device: str) -> MoeLayer:
    top_k, experts = int(row["num_experts_per_tok"]), int(row["num_experts"])
    return MoeLayer(
        tokens=int(row["num_tokens"]),
        hidden_size=int(row["hidden_size"]),
        intermediate_size=int(row["moe_intermediate_size"]),
        top_k=top_k,
        experts=experts,
        tp=int(row["moe_tp_size"]),
        ep=int(row["moe_ep_size"]),
        distribution=str(row["distribution"]),
        gated=device in ALL_GATED or (top_k, experts) not in UNGATED,
    )


def numbers_of(x: Floats, table: Table, low: float = 0.0, high: float = 0.0) -> MoeNumbers:
    """The numbers of unbounded parameters."""
    factors = dict(zip(FACTORS, np.exp(x[len(PRIOR) :]).tolist(), strict=False))
    shares = np.exp(np.array([x[6], x[7], 0.0]))
    return MoeNumbers(
        kernel=table.kernel,
        compute=float(np.exp(x[0])),
        memory=float(np.exp(x[1])),
        core_memory=float(np.exp(x[2])),
        stream_memory=float(np.exp(x[3])),
        overlap=float(1 + np.exp(x[4])),
        rounding=float(1 / (1 + np.exp(-x[5]))),
        tile_shares=tuple((shares / shares.sum()).tolist()),
        inner_copies=float(np.exp(x[8])),
        hidden_copies=float(np.exp(x[9])),
        fixed_s=float(np.exp(x[10]) * 1e-6),
        expert_s=float(np.exp(x[11]) * 1e-6),
        low=low,
        high=high,
        measured=UNKNOWN,
        tuned=SHAPED.get(table.hardware.name, ()),
        **factors,
    )


def fit(table: Table) -> Floats:
    """The parameters that fit best: of a draw of rows, with a weak pull towards where they start."""
    chosen = np.random.default_rng(SEED).permutation(len(table.layers))[:ROWS]
    mask = np.zeros(len(table.layers), dtype=bool)
    mask[chosen] = True
    part = table.take(mask)
    columns, target = layer_columns(part.layers), np.log(part.measured_s)
    more = SHAPE_PRIOR if part.hardware.name in SHAPED else SHAPE_PRIOR[:0]
    prior, width = np.append(PRIOR, more), np.append(WIDTH, np.full(len(more), SHAPE_WIDTH))

    def residuals(x: Floats) -> Floats:
        times = times_of(numbers_of(x, part), columns, part.hardware, part.dtype).latency_s
        return np.concatenate([np.log(times) - target, 0.01 * np.sqrt(len(target)) * (x - prior) / width])

    result: Floats = least_squares(residuals, prior, loss="soft_l1", f_scale=0.1, max_nfev=60).x
    return result


def held_out(table: Table) -> Floats:
    """Predictions of every row by a fit that saw no row of its expert shape."""
    _, groups = table.groups()
    shapes = sorted(set(groups))
    answer = np.zeros(len(groups))
    for fold in (shapes[start::FOLDS] for start in range(min(FOLDS, len(shapes)))):
        out = np.array([group in fold for group in groups])
        x = fit(table.take(~out))
        answer[out] = table.take(out).predicted(numbers_of(x, table))
    return answer


def entry(table: Table, numbers: MoeNumbers) -> str:
    """The file's text about one table."""
    values = {
        "device": table.hardware.name,
        "dtype": table.dtype.value,
        "kernel": table.kernel,
        "source": SOURCE.format(rows=len(table.layers)),
        "tile_shares": [round(share, 4) for share in numbers.tile_shares],
    }
    measured = ", ".join(f"{name} = {list(ends)}" for name, ends in numbers.measured._asdict().items())
    shaped = FACTORS if numbers.tuned else ()
    others = (*values, "fixed_s", "expert_s", "measured", "tuned", *FACTORS)
    names = [*(name for name in MoeNumbers.__slots__ if name not in others), *shaped]
    values |= {name: float(f"{getattr(numbers, name):.5g}") for name in names}
    values |= {"fixed_us": float(f"{numbers.fixed_s * 1e6:.5g}"), "expert_us": float(f"{numbers.expert_s * 1e6:.5g}")}
    values |= {"tuned": [list(pair) for pair in numbers.tuned]} if numbers.tuned else {}
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in values.items()]
    return "[[kernels]]\n" + "".join([*lines, f"measured = {{ {measured} }}\n"])


def summary_of(predicted: Floats, measured: Floats) -> dict[str, float]:
    """Figures of a row of errors, in percent of what was measured."""
    error = 100 * (predicted / measured - 1)
    figures = {
        "mean_pct": abs(error).mean(),
        "median_pct": np.median(abs(error)),
        "p95_pct": np.quantile(abs(error), 0.95),
        "bias_pct": error.mean(),
    }
    return {"points": len(error)} | {name: round(float(value), 2) for name, value in figures.items()}


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path(__file__).parents[2] / "hw_profiles" / "calibrations"
)
def main(folder: Path, out: Path) -> None:
    """Fit every table of the FOLDER, judge it, and write the numbers and the rows of errors."""
    texts = [HEADER]
    rows: list[dict[str, Any]] = []
    for table in tables(folder):
        predicted = held_out(table)
        off = np.log(table.measured_s / predicted)
        low, high = min(0.0, float(np.quantile(off, 0.05))), max(0.0, float(np.quantile(off, 0.95)))
        numbers = replace(numbers_of(fit(table), table, low, high), measured=table.sizes())
        texts.append(entry(table, numbers))
        about = {"kind": f"moe {table.dtype.value}", "subset": f"{table.hardware.name}, {table.kernel}"}
        inside = np.mean((off >= low) & (off <= high))
        for protocol, values in ((table.groups()[0], predicted), ("in sample", table.predicted(numbers))):
            row = about | {"protocol": protocol} | summary_of(values, table.measured_s)
            rows.append(row | ({"coverage_pct": round(100 * float(inside), 1)} if "held" in protocol else {}))
            click.echo(json.dumps(rows[-1]))
    write_file(out / "moe.toml", "\n".join(texts).encode())
    write_file(ROWS_OUT, (json.dumps({"errors": rows}, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
