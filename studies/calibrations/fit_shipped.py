"""Refits the calibrations that ship, from a folder of measured tables, and writes their error tables.

Run: python -m studies.calibrations.fit_shipped [FOLDER] [--out hw_profiles/calibrations] [--only DEVICE] [--keep]
Without FOLDER nothing is fitted and the table is written from the files that are there. With --keep the forms that a
file has stay, and those that it lacks are fitted. `studies/calibrations/recipes.py` names the folder's tables. Takes
ten minutes to an hour a device; the same tables give the same files.
"""

from __future__ import annotations

import json
from pathlib import Path

import click
import numpy as np

from costmodel.files.write import write_file
from costmodel.timing.calibration.load import load_calibration
from studies.calibrations.device_fit import fit_device
from studies.calibrations.recipes import RECIPES
from studies.stacks.table import asked_lines
from validate.calibration.file import calibration_bytes

BESIDE = {
    "devices without a calibration": Path(__file__).with_name("generations.json"),
    "layers of experts": Path(__file__).with_name("moe.json"),
    "collectives": Path(__file__).with_name("collectives.json"),
    "whole passes under a stack": Path(__file__).parents[1] / "stacks" / "errors.json",
}
"""Rows of other studies, by title."""


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
    for title, path in ({path.stem: path for path in sorted(folder.glob("*.json"))} | BESIDE).items():
        rows = json.loads(path.read_text())["errors"]
        lines += [f"## {title}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
        for row in rows:
            more = ", ".join(_figure(key, row[key]) for key in row if key not in known)
            cells = [row["kind"], row["subset"], row["protocol"], f"{row['points']:,}"]
            cells += [f"{row[name]:.2f}" for name in known[4:]] + [more]
            lines.append(f"| {' | '.join(cells)} |")
        lines.append("")
    return "\n".join([*lines, "## what whole passes were asked to reach", "", *asked_lines(), ""])


def _figure(key: str, value: float) -> str:
    name = key.removesuffix("_pct")
    return f"{name} {value:g} %" if name != key else f"{key} {value:g}"


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False), required=False)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path(__file__).parents[2] / "hw_profiles" / "calibrations",
    help="Where the files are.",
)
@click.option("--only", type=click.Choice(list(RECIPES)), help="One device.")
@click.option("--keep", is_flag=True, help="Leave the forms that a file has.")
def main(folder: Path | None, out: Path, only: str | None, keep: bool) -> None:
    """Refit the calibrations that ship from a FOLDER of measured tables, write them and print their errors."""
    np.seterr(all="raise", under="ignore")
    for name in [only] if only else list(RECIPES):
        if folder is not None:
            write_file(out / f"{name}.json", calibration_bytes(fit_device(folder, name, out, keep=keep)))
            load_calibration(out / f"{name}.json")
    text = error_table(out)
    write_file(out / "ERRORS.md", text.encode())
    click.echo(text)


if __name__ == "__main__":
    main()
