"""`costmodel space`: how many configurations there are."""

from __future__ import annotations

import json
import sys
from typing import Any

import click

from costmodel.cli.common import format_option, print_lines, print_table, say, write_csv, write_json
from costmodel.decomposition.factors import FORMS
from costmodel.decomposition.held import searched_dense
from costmodel.explore.text import count_text
from costmodel.families.load import load_model
from costmodel.space.settings import parse_ranks
from costmodel.space.sizes import PAPER_MODELS, space_sizes


@click.command()
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME|PATH",
    help="Built-in name, or a config.json; repeatable.  [default: the paper's four]",
)
@click.option("--ranks", default="1", show_default=True, metavar="R1,R2,...", help="Candidate ranks.")
@click.option("--form", type=click.Choice(FORMS), default="svd", show_default=True, help="Two factors, or three.")
@format_option
def command(models: tuple[str, ...], ranks: str, form: Any, fmt: str) -> None:
    """Count the configurations of a model's design spaces, exactly.

    The paper counts 2^(layers + tensors) ways to choose layers and tensors; the distinct ones are fewer, since an
    empty choice of either is the dense model, and more with several ranks.

    Example: costmodel space --model llama2-7b --ranks 1,64,256
    """
    print_every_digit()
    candidates = parse_ranks(ranks)
    specs = [load_model(name) for name in models or PAPER_MODELS]
    for text in dict.fromkeys(text for spec in specs for text in searched_dense(spec)):
        say(f"warning: {text}", err=True)
    rows = [space_sizes(spec, candidates, form).to_json() for spec in specs]
    if fmt == "json":
        write_json({"schema": 1, **rows[0]} if len(models) == 1 else {"schema": 1, "models": rows})
    elif fmt == "csv":
        write_csv([{**row, "tensors": json.dumps(row["tensors"])} for row in rows])
    else:
        count = rows[0]["ranks"]
        columns = [
            "model",
            "layers",
            "tensors",
            "paper's count",
            "distinct, homogeneous",
            "distinct, per layer",
            "distinct, per site",
        ]
        cells = [
            [
                row["model"],
                row["num_layers"],
                len(row["tensors"]),
                f"2^{row['homogeneous_log2']}",
                count_text(row["homogeneous_distinct"]),
                count_text(row["per_layer_distinct"]),
                count_text(row["per_site_distinct"]),
            ]
            for row in rows
        ]
        print_table(f"Design spaces with {count} candidate rank{'s' if count > 1 else ''}", columns, cells)
        print_lines(
            [
                "homogeneous: a set of layers x a set of tensors x one rank, (2^L - 1)(2^K - 1) R + 1",
                "per layer: each layer its own set of tensors, one rank for all, (2^(LK) - 1) R + 1",
                "per site: each (layer, tensor) its own rank or dense, (R + 1)^(LK)",
            ]
        )


def print_every_digit() -> None:
    """Let this command print exact counts of any length; Python stops at 4,300 digits, a per-site space need not."""
    before = sys.get_int_max_str_digits()
    click.get_current_context().call_on_close(lambda: sys.set_int_max_str_digits(before))
    sys.set_int_max_str_digits(0)
