"""The table and the figure of a comparison, from its records alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from costmodel.files.write import write_file
from studies.comparison.record import dense_of
from studies.smollm2.record import Measured
from validate.interval import interval_text

REFERENCE = "svd-llm"
"""The baseline that the others' losses are shown as shares of."""


def write_page(rows: Sequence[Measured], folder: Path) -> None:
    """Write compared.md and compared.png."""
    if not rows:
        return
    write_file(folder / "compared.md", to_markdown(rows).encode())
    if len(rows) > 1:
        draw(rows, folder / "compared.png")


def to_markdown(rows: Sequence[Measured]) -> str:
    """A table for each share of parameters removed: loss above dense, best first."""
    dense = dense_of(rows)
    digest, _, amount = dense.text.partition(" ")
    fitted, _, seen = dense.calibration.partition(" ")
    lines = [
        "# Ours beside baselines at the same size",
        "",
        f"Loss above dense in nats per token, without retraining, with paired 95 % intervals over blocks; dense "
        f"{dense.loss:.4f} nats. Judged on {amount} tokens ({digest[:8]}), fitted to and chosen on {seen} "
        f"({fitted[:8]}); weights {dense.weights[:8]}. The last column is the loss as a share of {REFERENCE}'s.",
    ]
    for asked in sorted({row.asked for row in rows if row is not dense}):
        here = sorted((row for row in rows if row.asked == asked and row is not dense), key=lambda row: row.loss)
        reference = next((row for row in here if row.method == REFERENCE), None)
        lines += ["", f"## {asked:.0%} removed", "", "| method | removed | above dense | share |", "|---|---|---|---|"]
        for row in here:
            above = row.above(dense)
            share = f"{above.value / reference.above(dense).value:.2f}" if reference else "-"
            lines.append(f"| {row.method} | {100 * row.removed:.2f} % | {interval_text(above, 3)} | {share} |")
    return "\n".join(lines) + "\n"


def draw(rows: Sequence[Measured], path: Path) -> None:
    """Loss above dense by the share removed, a line for each method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    dense = dense_of(rows)
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for method in dict.fromkeys(row.method for row in rows if row is not dense):
        mine = sorted((row for row in rows if row.method == method), key=lambda row: row.removed)
        style = "-" if method.startswith("ours") else "--"
        axes.plot(
            [100 * row.removed for row in mine], [row.loss - dense.loss for row in mine], f"o{style}", label=method
        )
    axes.set_yscale("log")
    axes.set_xlabel("parameters removed, % of the whole model")
    axes.set_ylabel("loss above dense, nats per token")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
