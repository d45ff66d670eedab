"""The page of a fitted predictor: how wrong it is, and what it says of every weight alone. No torch."""

from __future__ import annotations

from costmodel.show.figure import figure_bytes
from costmodel.show.site_map import SiteMap
from costmodel.units import percent
from validate.pages.markup import Picture, Table, report
from validate.predictor.figures import predictor_figure
from validate.predictor.fit import PredictorFit


def predictor_page(fit: PredictorFit, sensitivity: SiteMap) -> str:
    """The HTML text; it refers to nothing outside itself.

    Args:
        fit: of measured configurations.
        sensitivity: what it says of every weight alone.

    Raises:
        InputError: when matplotlib is not installed.
    """
    evidence = fit.evidence
    names = list(dict.fromkeys(name for row in fit.errors for name in row))
    own = next(row for row in fit.errors if row["band"] == "all")
    return report(
        "maps.html",
        "What every configuration would cost",
        about=f"{evidence.spec.name}: {len(evidence.points)} measured configurations, {evidence.factors} factors",
        finding=f"Of configurations held out the predicted increase of NLL is off by {own['mean_abs']:.3g} nats in the "
        f"mean; 90 % intervals hold {percent(fit.coverage, 0)}.",
        pictures=[
            Picture.of(
                lambda theme, narrow: figure_bytes(predictor_figure(fit, theme, narrow=narrow), "svg"),
                "Predicted against measured, each configuration held out; errors by band of damage beside models that "
                "anyone could use instead.",
            )
        ],
        maps=[sensitivity],
        tables=[
            (
                "Errors by band",
                Table(columns=names, rows=[[_cell(row.get(name)) for name in names] for row in fit.errors]),
            )
        ],
    )


def _cell(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else value
