"""Fits collectives to measured ones, and judges them with whole (device, collective, number of devices) held out.

Run: python -m studies.calibrations.collectives TABLE [--out hw_profiles/calibrations]
Writes collectives.toml there and the rows of errors to collectives.json beside this file, which `fit_shipped` puts into
ERRORS.md. Numbers of a fabric and a collective are a prior plus deviations of the collective, of the fabric and of the
two together, each pulled towards zero: what one fabric lacks, the others tell.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np

from costmodel.arrays import Floats, Ints
from costmodel.files.table import read_table
from costmodel.files.write import write_file
from costmodel.timing.collectives import ALL_REDUCE, CUSTOM, CollectiveNumbers, times_of
from costmodel.timing.columns import COLLECTIVES
from studies.calibrations.moe import summary_of
from validate.errors import RecordError

ROWS_OUT = Path(__file__).with_suffix(".json")
FABRICS = {
    "nvlink-a100": ("a100_sxm", "a100-sxm-80gb", "ampere", 300.0),
    "nvlink-hopper": ("h100_sxm h200_sxm", "h100-sxm-80gb h200-sxm", "hopper", 450.0),
    "nvlink-b200": ("b200_sxm", "b200-sxm", "blackwell", 900.0),
    "pcie": ("l40s", "l40s", "", 25.0),
}
"""Devices as the table and as profiles call them, architecture, GB/s of one direction of the link."""
KINDS = (*COLLECTIVES, CUSTOM)
NAMES = ("first_us", "more", "rate", "rate_power", "switched", "middle", "sharpness", "shared_bus")
PRIOR = np.array([np.log(6.0), np.log(0.8), np.log(0.75), 0.0, 0.0, np.log(0.5), np.log(2.0), 0.0])
OF_KIND = np.array([0.7, 0.5, 0.4, 0.3, 0.3, 1.0, 0.5, 0.3])
OF_FABRIC = np.array([0.5, 0.3, 0.3, 0.2, 0.3, 0.5, 0.2, 2.0])
OF_BOTH = np.array([0.3, 0.3, 0.3, 0.15, 0.2, 0.6, 0.4, 0.1])
"""Standard deviations, in the order of NAMES, of what is added to PRIOR."""
NOISE, PULL, LARGE, STEPS = 0.08, 1.5, 65536, 20
"""Scatter of a measurement, weight of the pull, bytes from which errors are judged, and steps of a fit."""
HEADER = """# Collectives of one server, by studies/calibrations/collectives.py; README.md says what the keys are.
schema = 1
"""
SOURCE = (
    "NVIDIA aiconfigurator measurement database (Apache-2.0), NCCL 2.23 to 2.29 and vLLM 0.14 to 0.24, {rows} points"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Points:
    """Measured collectives as columns; `fabric` and `kind` are places in FABRICS and KINDS."""

    device: np.ndarray
    fabric: Ints
    kind: Ints
    devices: Floats
    message_bytes: Floats
    measured_s: Floats

    def take(self, mask: np.ndarray) -> Points:
        """Some of the rows."""
        return Points(**{name: getattr(self, name)[mask] for name in self.__slots__})

    def groups(self) -> list[tuple[str, int, int]]:
        """What is held out as a whole."""
        return list(zip(self.device.tolist(), self.kind.tolist(), self.devices.astype(int).tolist(), strict=True))


def read(path: Path) -> Points:
    """The points of the table; an own all-reduce was timed twice, of which the faster is the kernel without a host."""
    raw: Mapping[str, Sequence[Any]] = read_table(path, RecordError).columns
    best: dict[tuple[object, ...], float] = {}
    for row in zip(
        *(raw[name] for name in ("device", "collective", "library", "num_gpus", "message_elements", "latency_us")),
        strict=True,
    ):
        *key, latency_us = row
        once = CUSTOM in str(row[2])
        place = (*key, None if once else len(best))
        best[place] = min(best.get(place, np.inf), float(latency_us))
    fabric_of = {device: place for place, row in enumerate(FABRICS.values()) for device in row[0].split()}
    keys = list(best)
    return Points(
        device=np.array([key[0] for key in keys]),
        fabric=np.array([fabric_of[str(key[0])] for key in keys]),
        kind=np.array([KINDS.index(CUSTOM if CUSTOM in str(key[2]) else str(key[1])) for key in keys]),
        devices=np.array([float(key[3]) for key in keys]),
        message_bytes=np.array([2.0 * float(key[4]) for key in keys]),
        measured_s=np.array([best[key] * 1e-6 for key in keys]),
    )


def numbers_of(x: Floats, low: float = 0.0, high: float = 0.0) -> CollectiveNumbers:
    """Numbers of unbounded parameters in the order of NAMES."""
    return CollectiveNumbers(
        first_s=float(np.exp(x[0]) * 1e-6),
        more=float(np.exp(x[1])),
        rate=float(np.exp(x[2])),
        rate_power=float(x[3]),
        switched=float(np.exp(x[4])),
        middle=float(np.exp(x[5])),
        sharpness=float(1 + np.exp(x[6])),
        shared_bus=float(np.exp(-x[7])),
        low=low,
        high=high,
    )


def predicted(table: Floats, points: Points) -> Floats:
    """Seconds of every point by parameters (fabrics, kinds, NAMES)."""
    answer = np.zeros(len(points.measured_s))
    for place, row in enumerate(FABRICS.values()):
        for kind, name in enumerate(KINDS):
            here = (points.fabric == place) & (points.kind == kind)
            if here.any():
                collective = ALL_REDUCE if name == CUSTOM else name
                numbers = numbers_of(table[place, kind])
                answer[here] = times_of(
                    numbers, collective, points.devices[here], points.message_bytes[here], row[3] * 1e9
                )[2]
    return answer


def fit(points: Points) -> Floats:
    """Parameters (fabrics, kinds, NAMES), by Levenberg and Marquardt's method on ln of the times."""
    fabrics, kinds, width = len(FABRICS), len(KINDS), len(NAMES)
    sizes = dict.fromkeys(points.groups(), 0)
    for group in points.groups():
        sizes[group] += 1
    weight = np.array([np.sqrt(20 / sizes[group]) for group in points.groups()])
    weight = np.where(points.message_bytes >= LARGE, 1.0, 0.5) * weight / NOISE
    target, rows = np.log(points.measured_s), np.arange(len(points.measured_s))

    def table(x: Floats) -> Floats:
        of_kind, of_fabric, of_both = np.split(x, [kinds * width, (kinds + fabrics) * width])
        result: Floats = (
            PRIOR
            + of_kind.reshape(1, kinds, width) * OF_KIND
            + of_fabric.reshape(fabrics, 1, width) * OF_FABRIC
            + of_both.reshape(fabrics, kinds, width) * OF_BOTH
        )
        return result

    def residuals(x: Floats) -> Floats:
        return np.concatenate([(np.log(predicted(table(x), points)) - target) * weight, PULL * x])

    def jacobian(x: Floats) -> Floats:
        here, step = table(x), 1e-5
        start = np.log(predicted(here, points))
        slopes = np.zeros((len(rows), len(x)))
        for place in range(width):
            moved = here.copy()
            moved[..., place] += step
            slope = (np.log(predicted(moved, points)) - start) / step * weight
            slopes[rows, points.kind * width + place] = slope * OF_KIND[place]
            slopes[rows, (kinds + points.fabric) * width + place] = slope * OF_FABRIC[place]
            both = kinds + fabrics + points.fabric * kinds + points.kind
            slopes[rows, both * width + place] = slope * OF_BOTH[place]
        return np.concatenate([slopes, PULL * np.eye(len(x))])

    x = np.zeros((kinds + fabrics + fabrics * kinds) * width)
    damping, off = 1.0, residuals(x)
    for _ in range(STEPS):
        slopes = jacobian(x)
        normal = slopes.T @ slopes
        step = np.linalg.solve(normal + damping * np.diag(np.diag(normal)), -slopes.T @ off)
        then = residuals(x + step)
        better = then @ then < off @ off
        if better:
            x, off = x + step, then
        damping *= 0.3 if better else 4
    return table(x)


def held_out(points: Points) -> Floats:
    """Predictions of every point by a fit without its device's collective on that number of devices."""
    groups, answer = points.groups(), np.zeros(len(points.measured_s))
    for group in sorted(set(groups)):
        out = np.array([each == group for each in groups])
        answer[out] = predicted(fit(points.take(~out)), points.take(out))
    return answer


def text_of(table: Floats, low: Floats, high: Floats, rows: int) -> str:
    """The file; `low` and `high` are by kind."""
    lines = [HEADER + f"source = {json.dumps(SOURCE.format(rows=rows))}", ""]
    for place, (name, (_, profiles, architecture, link)) in enumerate(FABRICS.items()):
        lines += [
            f"[fabrics.{name}]",
            f"devices = {json.dumps(profiles.split())}",
            f"architectures = {json.dumps(architecture.split())}",
            f"link_gb_per_s = {link:g}",
        ]
        for kind, collective in enumerate(KINDS):
            numbers = numbers_of(table[place, kind], low[kind], high[kind])
            values = {key: getattr(numbers, key) for key in CollectiveNumbers.__slots__ if key != "first_s"}
            shown = {"first_us": numbers.first_s * 1e6} | values
            row = ", ".join(f"{key} = {value:.4g}" for key, value in shown.items())
            lines.append(f"collectives.{collective} = {{ {row} }}")
        lines.append("")
    return "\n".join(lines)


def error_rows(points: Points, by_protocol: dict[str, Floats], low: Floats, high: Floats) -> list[dict[str, object]]:
    """Rows of ERRORS.md: messages of at least LARGE bytes, by library, and all of them."""
    large, custom = points.message_bytes >= LARGE, points.kind == KINDS.index(CUSTOM)
    subsets: Sequence[tuple[str, np.ndarray]] = (
        ("NCCL, from 64 kB", large & ~custom),
        ("NCCL, below 64 kB", ~large & ~custom),
        ("vLLM's own all-reduce, from 64 kB", large & custom),
    )
    off = np.log(points.measured_s / by_protocol["device, collective and number held out"])
    inside = (off >= low[points.kind]) & (off <= high[points.kind])
    rows: list[dict[str, object]] = []
    for protocol, values in by_protocol.items():
        for subset, mask in subsets:
            row = {"kind": "collectives", "subset": subset, "protocol": protocol}
            rows.append(row | summary_of(values[mask], points.measured_s[mask]))
            if "held" in protocol:
                rows[-1]["coverage_pct"] = round(100 * float(inside[mask].mean()), 1)
    return rows


@click.command()
@click.argument("table", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path(__file__).parents[2] / "hw_profiles" / "calibrations"
)
def main(table: Path, out: Path) -> None:
    """Fit the TABLE, judge the fit, and write the numbers and the rows of errors."""
    points = read(table)
    left_out, best = held_out(points), fit(points)
    off, large = np.log(points.measured_s / left_out), points.message_bytes >= LARGE
    ends = np.array([np.quantile(off[large & (points.kind == kind)], [0.05, 0.95]) for kind in range(len(KINDS))])
    low, high = np.minimum(ends[:, 0], 0), np.maximum(ends[:, 1], 0)
    write_file(out / "collectives.toml", text_of(best, low, high, len(off)).encode())
    rows = error_rows(
        points,
        {"device, collective and number held out": left_out, "in sample": predicted(best, points)},
        low,
        high,
    )
    write_file(ROWS_OUT, (json.dumps({"errors": rows}, indent=1) + "\n").encode())
    click.echo("\n".join(json.dumps(row) for row in rows))


if __name__ == "__main__":
    main()
