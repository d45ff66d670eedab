"""`validate sensitivity`: how much each weight of a checkpoint can be truncated, for every rank."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import get_args

import click

from costmodel.cli.common import format_option, print_table, say, write_csv, write_json
from costmodel.cli.options import options_of
from costmodel.decomposition.factors import FORMS, Form
from costmodel.decomposition.text import Rank
from costmodel.errors import InputError
from costmodel.files.write import write_file
from costmodel.show.figure import file_kind
from costmodel.space.settings import parse_ranks
from validate.cli.options import cluster_at, given, ranks_option, ray_option, require_used
from validate.cli.progress import LOADING, WorkBar
from validate.factors.kinds import Factors
from validate.sensitivity.file import Sensitivity, load_sensitivity
from validate.sensitivity.page import KINDS, sensitivity_bytes
from validate.sensitivity.quality_file import quality_bytes, quality_file
from validate.sensitivity.settings import SensitivitySettings
from validate.sensitivity.table import site_rows

SCHEMA = 1
"""Version of the JSON output."""
_BESIDE = "beside the sensitivity file"
_SHOWN = 28
"""Rows of the table; JSON and CSV have all."""


@click.command()
@click.option("--model", metavar="PATH", help="Dense checkpoint: a folder, or a name on the hub.")
@click.option("--text", type=click.Path(path_type=Path), metavar="FILE", help="UTF-8 text to calibrate on.")
@options_of(SensitivitySettings, "settings")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="File to write; what is finished is in FILE.partial until then.",
)
@click.option(
    "--from", "source", type=click.Path(path_type=Path), metavar="FILE", help="Read this file instead of measuring."
)
@click.option(
    "--as-quality",
    is_flag=False,
    flag_value=_BESIDE,
    metavar="[FILE]",
    help=f"Also write a quality file for `costmodel explore --quality`.  [default: {_BESIDE}, .quality.json]",
)
@ranks_option
@click.option(
    "--rank-multiple",
    type=int,
    default=1,
    show_default=True,
    metavar="N",
    help="As in `explore`: percentages are rounded down to a multiple.",
)
@click.option("--form", type=click.Choice(FORMS), default="svd", show_default=True, help="Of the quality file.")
@click.option(
    "--factors",
    type=click.Choice(get_args(Factors)),
    default="plain",
    show_default=True,
    help="Of the quality file: how `validate quality` and `apply` will compute them.",
)
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw what truncating each weight costs by layer and tensor (.png, .svg, or a page: .html).",
)
@ray_option("Factorise weights")
@format_option
def command(
    model: str | None,
    text: Path | None,
    settings: SensitivitySettings,
    out: Path | None,
    source: Path | None,
    as_quality: str | None,
    ranks: str,
    rank_multiple: int,
    form: Form,
    factors: Factors,
    plot_file: Path | None,
    ray: str | None,
    fmt: str,
) -> None:
    """Measure what truncating each weight does to its outputs on a text, for every rank, one layer at a time.

    Per site: the singular values; the squared Frobenius error and the expected squared output error of the plain
    truncation; the least output error of any weight of that rank (whitened); with --fisher slope and curvature of the
    loss. Memory holds one layer. A run that was killed continues where it was when started again.

    \b
    Example:
        validate sensitivity --model my-model --text book.txt \\
            --out my-model.sensitivity --as-quality
        costmodel explore --model my-model --hw a100-sxm-80gb --phase decode \\
            --objectives latency_s,quality --ranks 25%,50%,80% \\
            --quality my-model.sensitivity.quality.json
    """
    wanted = {name: ("--as-quality", as_quality is not None) for name in ("ranks", "rank_multiple", "form", "factors")}
    require_used(given(click.get_current_context()), wanted)
    parsed, picture = parse_ranks(ranks), "" if plot_file is None else file_kind(plot_file, KINDS)
    if source is not None:
        if model is not None or text is not None or out is not None:
            raise InputError("--from reads a file, nothing is measured", hint="leave out --model, --text and --out")
        found, path = load_sensitivity(source), source
    else:
        if model is None or text is None or out is None:
            raise InputError("--model, --text and --out are needed", hint="or --from FILE to read an earlier result")
        found, path = _measure(model, text, out, settings, ray), out
    quality = _write_quality(found, path, as_quality, parsed, rank_multiple, form, factors)
    if plot_file is not None:
        write_file(plot_file, sensitivity_bytes(found, picture))
    _print(found, path, quality, fmt)


def _measure(model: str, text: Path, out: Path, settings: SensitivitySettings, ray: str | None) -> Sensitivity:
    if not out.parent.is_dir():
        raise InputError("no such folder", value=str(out.parent), hint="make it, or choose another --out")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with cluster_at(ray) as cluster, WorkBar() as bar:
        bar.status(LOADING)
        from transformers.utils import logging

        from validate.sensitivity.measure import measure_sensitivity

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        found = measure_sensitivity(model, text, out, settings, show=bar.status, count=bar.count, cluster=cluster)
    if found.run.whole:
        say(f"note: the model was read whole: {found.run.whole}", err=True)
    return found


def _write_quality(
    found: Sensitivity, path: Path, target: str | None, ranks: list[Rank], multiple: int, form: Form, factors: Factors
) -> Path | None:
    if target is None:
        return None
    file = path.with_name(f"{path.name}.quality.json") if target == _BESIDE else Path(target)
    content = quality_file(found, ranks=ranks, form=form, factors=factors, multiple=multiple)
    write_file(file, quality_bytes(content))
    return file


def _print(found: Sensitivity, path: Path, quality: Path | None, fmt: str) -> None:
    rows = site_rows(found)
    run = found.run
    if fmt == "json":
        about = {"model": run.model, "tokens": run.blocks * run.length, "nll": run.nll, "seconds": run.seconds}
        files = {"file": str(path), "quality_file": None if quality is None else str(quality)}
        write_json({"schema": SCHEMA, **files, **about, "sites": rows})
        return
    if fmt == "csv":
        write_csv(rows)
        return
    tokens = f"{run.blocks} x {run.length} tokens"
    nll = "" if run.nll is None else f", dense NLL {run.nll:.4f} nats"
    title = f"{path}: {run.model}, {len(found.sites)} sites, {tokens}{nll}, {run.seconds:,.0f} s"
    caption = "output error of a truncation in % of the outputs' energy at 50 % of break-even; rank for 5 % error"
    if len(rows) > _SHOWN:
        caption += f"; {len(rows) - _SHOWN} sites not shown: --format csv"
    columns = ["site", "shape", "stable rank", "plain", "whitened", "rank plain", "rank whitened"]
    if run.gradients:
        columns += ["loss plain", "loss whitened"]
        caption += "; curvature of the loss at 50 % of break-even in nats"
    cells = [
        [
            row["site"],
            f"{row['out_features']} x {row['in_features']}",
            f"{row['stable_rank']:.1f}",
            f"{row['plain_output_pct']:.2f}",
            f"{row['whitened_pct']:.2f}",
            row["plain_rank_5pct"],
            row["whitened_rank_5pct"],
            *(f"{row[name]:.4f}" for name in ("loss_curvature_plain", "loss_curvature_whitened") if run.gradients),
        ]
        for row in rows[:_SHOWN]
    ]
    print_table(title, columns, cells, caption=caption)
    if quality is not None:
        say(f"{quality}: an estimate for costmodel explore --quality, not measured")
