"""`costmodel hw`: list, show and check hardware profiles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from costmodel.cli.common import NamingGroup, format_option, print_table, say, write_csv, write_json
from costmodel.errors import HardwareError
from costmodel.hardware.profile import HardwareProfile, builtin_hardware, file_key, load_hardware
from costmodel.timing.calibration.load import shipped_calibration
from costmodel.timing.calibration.record import Calibration
from costmodel.units import KIB, DType, seconds, si

SCHEMA = 1
"""Version of the JSON output."""

_UNITS = {
    "matrix_flops_per_s": "FLOP/s",
    "vector_flops_per_s": "FLOP/s",
    "memory_bytes_per_s": "B/s",
    "memory_bytes": "B",
    "caches": "B",
    "cores": "",
    "host_launch_s": "s",
    "kernel_floor_s": "s",
    "idle_power_w": "W",
    "peak_power_w": "W",
    "interconnect_bytes_per_s": "B/s",
    "ridge_flops_per_byte": "FLOP/B",
}
"""SI unit by field of the profile."""
_YES = {True: "yes", False: "no"}


@click.group(cls=NamingGroup)
def command() -> None:
    """List, show and check hardware profiles.

    Example: costmodel hw show a100-sxm-80gb
    """


@command.command("list")
@format_option
def list_command(fmt: str) -> None:
    """List the built-in profiles.

    Example: costmodel hw list --format csv
    """
    profiles = [load_hardware(name) for name in builtin_hardware()]
    if fmt == "json":
        write_json({"schema": SCHEMA, "profiles": [_summary(profile) for profile in profiles]})
    elif fmt == "csv":
        write_csv(_flat(_summary(profile)) for profile in profiles)
    else:
        columns = ["name", "device", "bf16", "fp16", "fp32", "GB/s", "GB", "max W", "verified"]
        rows = [
            [
                p.name,
                p.description,
                *(_scaled(p.matrix_flops_per_s.get(dtype), 1e12) for dtype in (DType.BF16, DType.FP16, DType.FP32)),
                _scaled(p.memory_bytes_per_s, 1e9),
                _scaled(p.memory_bytes, 1e9),
                _scaled(p.peak_power_w, 1),
                _YES[p.verified],
            ]
            for p in profiles
        ]
        note = "bf16, fp16, fp32: dense matrix products in TFLOP/s. verified: rates and bandwidth are the vendor's own."
        print_table("Hardware profiles", columns, rows, left=2, caption=note)


@command.command("show")
@click.argument("name", metavar="NAME|PATH")
@format_option
def show_command(name: str, fmt: str) -> None:
    """Show every figure of a profile with its unit and source, its ridge points, and its calibration's errors.

    The table names figures by their keys in a profile's file; JSON and CSV by field, in SI units, with the key beside.
    A ridge point is the arithmetic intensity above which a matrix product is limited by compute, not by memory.

    Example: costmodel hw show h100-sxm-80gb --format json
    """
    profile = load_hardware(name)
    rows = _rows(profile)
    calibration = shipped_calibration(profile)
    if fmt == "json":
        ridges = {dtype.value: profile.ridge_flops_per_byte(dtype) for dtype in profile.matrix_flops_per_s}
        found = calibration and _calibration_json(calibration)
        write_json(
            {
                "schema": SCHEMA,
                **_summary(profile),
                "figures": rows,
                "ridge_flops_per_byte": ridges,
                "calibration": found,
            }
        )
    elif fmt == "csv":
        write_csv(rows + _ridge_rows(profile))
    else:
        columns = ["figure", "value", "verified", "source"]
        cells = [
            [
                row["key"] or row["figure"],
                _show(row["value"], row["unit"], row["figure"]),
                _YES[row["verified"]],
                row["source"],
            ]
            for row in rows + _ridge_rows(profile)
        ]
        launch = "the host runs ahead of the device" if profile.asynchronous else "each op is a synchronous call"
        title = f"{profile.name}: {profile.description} ({profile.architecture or profile.kind}, {launch})"
        print_table(title, columns, cells, left=len(columns))
        if calibration is not None:
            _print_calibration(calibration)


@command.command("check")
@click.argument("names", nargs=-1, metavar="[NAME|PATH]...")
@format_option
def check_command(names: tuple[str, ...], fmt: str) -> int:
    """Check profiles: all the built-in ones unless some are named. Exit code 2 when one is bad.

    Example: costmodel hw check my-device.toml
    """
    results: list[dict[str, Any]] = []
    for name in names or builtin_hardware():
        try:
            profile = load_hardware(name)
        except HardwareError as error:
            results.append({"profile": name, "ok": False, "figures": None, "unverified": None, "error": str(error)})
        else:
            unverified = sum(not figure.verified for figure in profile.figures.values())
            counts = {"figures": len(profile.figures), "unverified": unverified}
            results.append({"profile": name, "ok": True, **counts, "error": None})
    if fmt == "json":
        write_json({"schema": SCHEMA, "profiles": results})
    elif fmt == "csv":
        write_csv(results)
    for result in results:
        if not result["ok"]:
            say(f"error: {result['error']}", err=True)
        elif fmt == "table":
            say(f"ok {result['profile']}: {result['figures']} figures, {result['unverified']} unverified")
    return 0 if all(result["ok"] for result in results) else 2


def _print_calibration(calibration: Calibration) -> None:
    """The error table: percent, on shapes that the fit had not seen unless the protocol says otherwise."""
    columns = ["class", "subset", "points", "mean", "median", "p95", "bias", "held out"]
    rows = [
        [
            row["kind"],
            row["subset"],
            f"{row['points']:,}",
            *(f"{row[name]:.1f} %" for name in ("mean_pct", "median_pct", "p95_pct", "bias_pct")),
            row["protocol"],
        ]
        for row in calibration.errors
    ]
    served = ", ".join(dtype.value for dtype in calibration.dtypes)
    say("")
    title = f"calibration {calibration.name} ({calibration.level}; {served}): predicted / measured - 1"
    print_table(title, columns, rows, left=2)
    for text in dict.fromkeys(f"source: {each['source']} ({each['licence']})" for each in calibration.provenance):
        say(text)


def _calibration_json(calibration: Calibration) -> dict[str, Any]:
    return {
        "name": calibration.name,
        "level": calibration.level,
        "dtypes": [dtype.value for dtype in calibration.dtypes],
        "errors": [dict(row) for row in calibration.errors],
        "provenance": [dict(row) for row in calibration.provenance],
    }


def _summary(profile: HardwareProfile) -> dict[str, Any]:
    """The profile without its sources, in SI units; every dtype is a key, null where there is no rate."""
    return {
        "name": profile.name,
        "description": profile.description,
        "kind": profile.kind,
        "architecture": profile.architecture,
        "asynchronous": profile.asynchronous,
        "verified": profile.verified,
        "matrix_flops_per_s": {dtype.value: profile.matrix_flops_per_s.get(dtype) for dtype in DType},
        "vector_flops_per_s": profile.vector_flops_per_s,
        "memory_bytes_per_s": profile.memory_bytes_per_s,
        "memory_bytes": profile.memory_bytes,
        "cores": profile.cores,
        "host_launch_s": profile.host_launch_s,
        "kernel_floor_s": profile.kernel_floor_s,
        "idle_power_w": profile.idle_power_w,
        "peak_power_w": profile.peak_power_w,
        "interconnect_bytes_per_s": profile.interconnect_bytes_per_s,
    }


def _flat(summary: Mapping[str, Any]) -> dict[str, object]:
    """A nested mapping as one row: `{"a": {"b": 1}}` becomes `{"a.b": 1}`."""
    row: dict[str, object] = {}
    for key, value in summary.items():
        row.update({f"{key}.{part}": each for part, each in value.items()} if isinstance(value, dict) else {key: value})
    return row


def _rows(profile: HardwareProfile) -> list[dict[str, Any]]:
    """One row per figure: its field, value in SI, unit, whether it is verified, its source, and its key in the file."""
    values: dict[str, object] = {f"caches.{cache.name}": cache.bytes for cache in profile.caches}
    values |= {f"matrix_flops_per_s.{dtype.value}": rate for dtype, rate in profile.matrix_flops_per_s.items()}
    return [
        {
            "figure": key,
            "value": values[key] if key in values else getattr(profile, key),
            "unit": _UNITS[key.partition(".")[0]],
            "verified": figure.verified,
            "source": figure.source,
            "key": file_key(key),
        }
        for key, figure in profile.figures.items()
    ]


def _ridge_rows(profile: HardwareProfile) -> list[dict[str, Any]]:
    """The ridge points as rows like those of the figures."""
    return [
        {
            "figure": f"ridge_flops_per_byte.{dtype.value}",
            "value": profile.ridge_flops_per_byte(dtype),
            "unit": _UNITS["ridge_flops_per_byte"],
            "verified": profile.figures[f"matrix_flops_per_s.{dtype.value}"].verified
            and profile.figures["memory_bytes_per_s"].verified,
            "source": "derived: matrix rate / memory bandwidth",
            "key": None,
        }
        for dtype in profile.matrix_flops_per_s
    ]


def _scaled(value: float | None, unit: float) -> str | None:
    """A number for a column whose title has the unit."""
    return None if value is None else f"{value / unit:.5g}"


def _show(value: float, unit: str, figure: str) -> str:
    """A number with the unit that people use for it."""
    if figure.startswith("caches."):
        return f"{value / KIB**2:g} MiB"
    if unit == "s":
        return seconds(value)
    if unit == "FLOP/B":
        return f"{value:.1f} FLOP/B"
    return si(value, unit, digits=5).rstrip()
