"""`validate quality fit`: measured configurations -> a predictor of all others, as a quality file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import click

from costmodel.cli.common import format_option, say, write_csv, write_json
from costmodel.decomposition.factors import FORMS, Form
from costmodel.files.write import write_file
from costmodel.show.figure import SUFFIXES, file_kind
from costmodel.space.settings import parse_ranks
from validate.cli.options import ranks_option
from validate.cli.progress import WorkBar
from validate.cli.quality_fit_report import print_fit
from validate.factors.kinds import Factors

SCHEMA = 1
"""Version of the JSON output."""
_SHOWN = ("predictor", "provenance", "errors", "additivity", "tasks", "task_errors", "link")
"""What the JSON output has of the quality file."""


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="DIR|FILES", type=click.Path(path_type=Path))
@click.option(
    "--sensitivity",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Of the same checkpoint, by `validate sensitivity`, better with --fisher.",
)
@click.option("--form", type=click.Choice(FORMS), default="svd", show_default=True, help="Of the quality file.")
@click.option(
    "--factors",
    type=click.Choice(get_args(Factors)),
    help="Which records to fit, and what the file is for.  [default: the only kind that there is, or plain]",
)
@ranks_option
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Quality file to write.  [default: predicted.quality.json in the first folder]",
)
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Draw predicted against measured, and errors by band (.png, .svg); with what each weight alone costs by layer "
    "and tensor as a page (.html).",
)
@click.option(
    "--parts",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write halves of measured configurations, for --configs of `validate quality` with an --out of "
    "their own: fitted beside the others, they say where damage adds up.",
)
@click.option(
    "--parts-of",
    type=click.IntRange(1, 10_000),
    default=40,
    show_default=True,
    metavar="N",
    help="Configurations that are halved.",
)
@format_option
def command(
    paths: tuple[Path, ...],
    sensitivity: Path,
    form: Form,
    factors: Factors | None,
    ranks: str,
    out: Path | None,
    plot_file: Path | None,
    parts: Path | None,
    parts_of: int,
    fmt: str,
) -> None:
    """Predict the quality of every configuration from a few hundred measured ones, and print how wrong that is.

    DIR is a folder of `validate quality --samples`. Errors are of configurations held out, in bands of damage, beside
    models that anyone could use instead. Needs no torch.

    \b
    Example:
        validate quality fit my-quality --sensitivity my-model.sensitivity --out quality.json
        costmodel explore --model my-model --hw a100-sxm-80gb --phase decode \\
            --objectives latency_s,quality --quality quality.json --ranks 25%,50%,80%
    """
    from validate.predictor.evidence import read_evidence
    from validate.predictor.fit import fit_predictor
    from validate.predictor.fitted_file import fitted_content
    from validate.predictor.parts import parts_content
    from validate.sensitivity.file import load_sensitivity
    from validate.sensitivity.quality_file import quality_bytes

    parsed, picture = parse_ranks(ranks), "" if plot_file is None else file_kind(plot_file, (*SUFFIXES, "html"))
    evidence = read_evidence(paths, load_sensitivity(sensitivity), factors)
    for note in evidence.notes:
        say(f"note: {note}", err=True)
    if parts is not None:
        write_file(parts, parts_content(evidence, parts_of))
    with WorkBar() as bar:
        fit = fit_predictor(evidence, bar.show)
    content = fitted_content(fit, sensitivity, kind=form, ranks=parsed)
    path = out or (paths[0] if paths[0].is_dir() else paths[0].parent) / "predicted.quality.json"
    write_file(path, quality_bytes(content))
    if plot_file is not None:
        if picture == "html":
            from validate.predictor.page import predictor_page
            from validate.predictor.weight_maps import WeightDamage

            damage = WeightDamage(path, evidence.spec, parsed, form)
            write_file(plot_file, predictor_page(fit, damage.at_reference()).encode())
        else:
            from validate.predictor.figures import predictor_plot

            write_file(plot_file, predictor_plot(fit, picture))
    if fmt == "json":
        write_json(summary_of(content, path))
    elif fmt == "csv":
        names = list(dict.fromkeys(name for row in fit.errors for name in row))
        write_csv([{name: row.get(name) for name in names} for row in fit.errors])
    else:
        print_fit(fit, content["link"], path)


def summary_of(content: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """The JSON output: what the quality file at `path` says of its making."""
    told = {name: content[name] for name in _SHOWN}
    return {"schema": SCHEMA, "quality_file": str(path), "model": content["model"], **told}
