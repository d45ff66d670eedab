"""`costmodel objectives`: every number that can be asked for, with its unit and meaning."""

from __future__ import annotations

from collections.abc import Sequence

import click

from costmodel.cli.common import format_option, print_lines, print_table, write_csv, write_json
from costmodel.explore.names import METRICS, REQUEST_METRICS, REQUEST_SAVED, SAVED, all_names, named

SCHEMA = 1
"""Version of the JSON output."""


@click.command()
@format_option
def command(fmt: str) -> None:
    """List every name that --objectives and --limit take.

    Example: costmodel objectives --format json
    """
    rows = [named(name).to_json() for name in all_names()]
    if fmt == "json":
        write_json({"schema": SCHEMA, "objectives": rows})
    elif fmt == "csv":
        write_csv(rows)
    else:
        _print_part("Of a pass: prefill.NAME, decode.NAME", "decode", METRICS)
        _print_part("Saved by a pass: prefill.saved.NAME, decode.saved.NAME", "decode.saved", SAVED)
        _print_part("Of a request (--new-tokens N): request.NAME", "request", REQUEST_METRICS)
        _print_part("Saved by a request: request.saved.NAME", "request.saved", REQUEST_SAVED)
        print_lines(
            [
                f"quality: {named('quality').meaning}; less is better",
                "The phase may be left out where one is asked for, and of params and weight_bytes always.",
                "A limit takes units: --limit 'decode.latency_s<=10ms', 'saved.params_pct>=20%', "
                "'decode.peak_memory_bytes<=24GB'; without one the number is in the unit above.",
            ]
        )


def _print_part(title: str, prefix: str, keys: Sequence[str] | dict[str, str]) -> None:
    rows = []
    for key in keys:
        entry = named(f"{prefix}.{key}")
        rows.append([key, entry.unit, "more" if entry.more_is_better else "less", entry.meaning])
    print_table(title, ["name", "unit", "better", "meaning"], rows, left=4)
