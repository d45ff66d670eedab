"""What truncating each weight costs as maps by layer and tensor, on a page or in a picture. No torch."""

from __future__ import annotations

import numpy as np

from costmodel.decomposition.sites import site_columns
from costmodel.show.site_map import Scale, SiteMap, value_map
from costmodel.show.site_map_plot import site_map_plot
from validate.pages.markup import Table, report
from validate.sensitivity.file import Sensitivity
from validate.sensitivity.spectra import Floats
from validate.sensitivity.table import site_rows

KINDS = ("png", "svg", "html")
_HALF = "at half the break-even rank"
_LOSS = (
    ("loss_curvature_plain", f"Increase of NLL to second order {_HALF}, plain factors, nats"),
    ("loss_curvature_whitened", f"Increase of NLL to second order {_HALF}, whitened factors, nats"),
)
_SLOPE = ("loss_slope_plain", f"Change of NLL to first order {_HALF}, plain factors, its size in nats")
_OUTPUT = (
    ("plain_output_pct", f"Error of the outputs {_HALF}, plain factors, % of their energy"),
    ("whitened_pct", f"Error of the outputs {_HALF}, whitened factors, % of their energy"),
)


def sensitivity_bytes(found: Sensitivity, kind: str) -> bytes:
    """A file of this kind, one of KINDS.

    Raises:
        InputError: when it is a picture and matplotlib is not installed.
    """
    maps = sensitivity_maps(found)
    if kind != "html":
        return site_map_plot(maps, f"{found.run.model}: what truncating each weight costs", kind)
    return _page(found, maps).encode()


def sensitivity_maps(found: Sensitivity) -> list[SiteMap]:
    """What the table says of every weight: with gradients what the loss does, then the errors of outputs. Plain and
    whitened factors have one scale."""
    rows, columns = site_rows(found), site_columns(found.spec)

    def values(name: str) -> Floats:
        cells = np.full((found.spec.num_layers, len(found.spec.tensors)), np.nan)
        for site, row in zip(found.sites, rows, strict=True):
            cells[site.layer, columns[site]] = abs(row[name])
        return cells

    maps = []
    for pair, unit in ((_LOSS if found.run.gradients else (), "nats"), (_OUTPUT, "%")):
        arrays = {name: values(name) for name, _ in pair}
        scale = Scale.of(np.array(list(arrays.values()))) if arrays else None
        maps += [value_map(title, name, found.spec, arrays[name], unit, scale, dense=False) for name, title in pair]
    if found.run.gradients:
        name, title = _SLOPE
        maps.insert(2, value_map(title, name, found.spec, values(name), "nats", dense=False))
    return maps


def _page(found: Sensitivity, maps: list[SiteMap]) -> str:
    run = found.run
    rows = site_rows(found)
    key, what = ("loss_curvature_plain", "nats") if run.gradients else ("plain_output_pct", "% of the outputs' energy")
    most = sorted(rows, key=lambda row: -row[key])[:3]
    named = "; ".join(f"{row['site']} ({row[key]:.3g} {what})" for row in most)
    nll = "" if run.nll is None else f"; dense NLL {run.nll:.4f} nats"
    table = Table(
        columns=("weight", "shape", "stable rank", "rank of 5 % error, plain", "whitened"),
        rows=[
            [
                row["site"],
                f"{row['out_features']} x {row['in_features']}",
                f"{row['stable_rank']:.1f}",
                row["plain_rank_5pct"],
                row["whitened_rank_5pct"],
            ]
            for row in rows
        ],
    )
    return report(
        "maps.html",
        "What truncating each weight costs",
        about=f"{run.model}: {len(rows)} weights, {run.blocks} x {run.length} tokens of calibration text{nll}",
        finding=f"At half its break-even rank, with plain factors, most is lost by {named}. One weight at a time: what "
        "several do to each other is not in it.",
        pictures=[],
        maps=maps,
        tables=[("Ranks of every weight", table)],
    )
