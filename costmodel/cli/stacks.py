"""`costmodel stacks`: list, show and check what executes a model."""

from __future__ import annotations

import click

from costmodel.cli.common import NamingGroup, format_option, print_table, say, write_csv, write_json
from costmodel.hardware.host import hosts
from costmodel.hardware.stack import Stack, builtin_stacks, load_stack

SCHEMA = 1
"""Version of the JSON output."""


@click.group(cls=NamingGroup)
def command() -> None:
    """List, show and check stacks: the software that executes a model.

    Example: costmodel stacks show vllm
    """


@command.command("list")
@format_option
def list_command(fmt: str) -> None:
    """List the built-in stacks and the classes of hosts.

    Example: costmodel stacks list --format csv
    """
    rows = [_summary(load_stack(name)) for name in builtin_stacks()]
    if fmt == "json":
        write_json({"schema": SCHEMA, "stacks": rows, "hosts": [_host(name) for name in hosts()]})
    elif fmt == "csv":
        write_csv(rows)
    else:
        columns = ["name", "what it is", "kind", "runtime", "attention", "cache", "launch us", "+-%"]
        cells = [
            [
                str(row["name"]),
                str(row["description"]),
                str(row["kind"]),
                str(row["runtime"]),
                str(row["attention"]),
                str(row["cache"]),
                "bare" if row["launch_us"] is None else f"{row['launch_us']:g}",
                f"{row['spread_pct']:.0f}",
            ]
            for row in rows
        ]
        note = (
            "launch us: bare where a launch takes what one of bare kernels does. +-%: standard deviation of whole "
            "passes around the prediction, beside the kernels' own."
        )
        print_table("Stacks", columns, cells, left=6, caption=note)
        columns = ["host", "what it is", "devices", "launch x"]
        print_table("Hosts", columns, [_host_row(name) for name in hosts()], left=3)


@command.command("show")
@click.argument("name", metavar="NAME|PATH")
@format_option
def show_command(name: str, fmt: str) -> None:
    """Show every figure of a stack with its source.

    Example: costmodel stacks show transformers-4.35 --format json
    """
    stack = load_stack(name)
    rows = [{"figure": figure.key, "value": figure.value, "source": figure.source} for figure in stack.figures]
    if fmt == "json":
        write_json({"schema": SCHEMA, **_summary(stack), "aliases": list(stack.aliases), "figures": rows})
    elif fmt == "csv":
        write_csv(rows)
    else:
        merges = ", merged products" if stack.merges else ""
        title = f"{stack.name}: {stack.description} ({stack.kind}, {stack.runtime}, {stack.cache} cache{merges})"
        cells = [[str(row["figure"]), f"{row['value']:g}", str(row["source"])] for row in rows]
        print_table(title, ["figure", "value", "source"], cells, left=3)


@command.command("check")
@click.argument("path", metavar="PATH")
def check_command(path: str) -> None:
    """Read a stack's file and say whether it is well formed.

    Example: costmodel stacks check my-stack.toml
    """
    stack = load_stack(path)
    say(f"{path}: stack {stack.name}, {len(stack.figures)} figures")


def _summary(stack: Stack) -> dict[str, object]:
    return {
        "name": stack.name,
        "description": stack.description,
        "kind": stack.kind,
        "runtime": stack.runtime,
        "attention": stack.attention,
        "cache": stack.cache,
        "merges": stack.merges,
        "launch_us": None if stack.launch_s is None else stack.launch_s * 1e6,
        "spread_pct": stack.spread * 100,
    }


def _host(name: str) -> dict[str, object]:
    host = hosts()[name]
    return {"name": name, "description": host.description, "slowness": host.slowness, "spread_pct": host.spread * 100}


def _host_row(name: str) -> list[str]:
    host = hosts()[name]
    return [name, host.description, ", ".join(host.architectures), f"{host.slowness:g}"]
