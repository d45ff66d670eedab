"""The roofline as an interactive page."""

from __future__ import annotations

from costmodel.show.page import make_page
from costmodel.show.roofline_chart import GROUPS, RooflineChart


def roofline_page(chart: RooflineChart) -> str:
    """A self-contained HTML page of a chart: phases side by side, details of a mark under the pointer or the finger,
    roofs and variants to switch on and off, all numbers as a table."""
    return make_page("roofline", f"Roofline: {chart.title}", {**chart.to_json(), "groups": GROUPS})
