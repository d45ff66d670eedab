"""The table and the figure of the comparison, from its records alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from costmodel.files.write import write_file
from studies.comparison.record import dense_of
from studies.minilm.record import Judged
from validate.interval import interval_text

OURS = "ours"
"""Of ours, the one that changed embeddings least on sentences of the calibration file that nothing was fitted to."""
HEADER = [
    "| method | removed | of the layers | Spearman below dense | ours above it | 1 - cos to dense |",
    "|" + "---|" * 6,
]


def write_page(rows: Sequence[Judged], folder: Path, layers_share: float) -> None:
    """Write compared.md and compared.png.

    Args:
        layers_share: of all parameters, those in layers.
    """
    write_file(folder / "compared.md", to_markdown(rows, layers_share).encode())
    if len(rows) > 1:
        draw(rows, folder / "compared.png")


def to_markdown(rows: Sequence[Judged], layers_share: float) -> str:
    """A table for each share removed, best first."""
    dense = dense_of(rows)
    digest, _, amount = dense.text.partition(" ")
    fitted, _, seen = dense.calibration.partition(" ")
    lines = [
        "# all-MiniLM-L6 beside baselines at the same size",
        "",
        f"Spearman's correlation of cosine and score on {len(dense.scores)} pairs of STS-B, {amount} ({digest[:8]}); "
        f"dense {interval_text(dense.correlation(dense)[0], 4, signed=False)}. Fitted to and chosen on {seen} "
        f"({fitted[:8]}); weights {dense.weights[:8]}. Nothing is retrained. Shares are of all parameters; "
        f"{100 * layers_share:.0f} % of them are in layers, the rest, embeddings above all, stays. Intervals are "
        f"paired, 95 %, over pairs. Layers come whole: dropping them removes what comes nearest.",
        "",
        *verdict(rows),
    ]
    for asked in sizes(rows):
        here = sorted(at(rows, asked), key=lambda row: -row.correlation(dense)[0].value)
        ours = next((row for row in here if row.method == OURS), None)
        lines += ["", f"## {asked:.0%} removed", "", *HEADER]
        for row in here:
            gain = "-" if ours is None or row is ours else interval_text(ours.beside(row, dense), 3)
            below = interval_text(row.correlation(dense)[1], 3)
            lines.append(
                f"| {row.method} | {100 * row.removed:.2f} % | {100 * row.removed / layers_share:.0f} % | {below} | "
                f"{gain} | {row.change:.4f} |"
            )
    return "\n".join(lines) + "\n"


def verdict(rows: Sequence[Judged]) -> list[str]:
    """A sentence for each share removed: which baselines ours is better than, level with and worse than."""
    dense = dense_of(rows)
    lines = []
    for asked in sizes(rows):
        here = at(rows, asked)
        ours = next((row for row in here if row.method == OURS), None)
        if ours is None:
            continue
        groups: dict[str, list[str]] = {"better than": [], "level with": [], "worse than": []}
        for row in here:
            if not row.method.startswith(OURS):
                interval = ours.beside(row, dense)
                assert interval.low is not None
                assert interval.high is not None
                sign = "better than" if interval.low > 0 else "worse than" if interval.high < 0 else "level with"
                groups[sign].append(row.method)
        said = "; ".join(f"{sign} {', '.join(names)}" for sign, names in groups.items() if names)
        lines.append(f"- {asked:.0%}: ours {said}.")
    return lines


def sizes(rows: Sequence[Judged]) -> list[float]:
    """Shares that were asked for, ascending."""
    return sorted({row.asked for row in rows if row.asked})


def at(rows: Sequence[Judged], asked: float) -> list[Judged]:
    """Rows of one share."""
    return [row for row in rows if row.asked == asked]


def draw(rows: Sequence[Judged], path: Path) -> None:
    """Correlation and change of embeddings by the share removed, a line for each method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    dense = dense_of(rows)
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    for method in dict.fromkeys(row.method for row in rows if row is not dense):
        mine = sorted((row for row in rows if row.method == method), key=lambda row: row.removed)
        style = "-" if method.startswith(OURS) else "--"
        width = 2.5 if method == OURS else 1.2
        removed = [100 * row.removed for row in mine]
        correlations = [row.correlation(dense)[0].value for row in mine]
        left.plot(removed, correlations, f"o{style}", label=method, linewidth=width, markersize=4)
        right.plot(removed, [row.change for row in mine], f"o{style}", linewidth=width, markersize=4)
    left.axhline(dense.correlation(dense)[0].value, color="black", linewidth=0.8)
    left.set_ylabel("Spearman of cosine and score (black: dense)")
    right.set_yscale("log")
    right.set_ylabel("1 - cosine of embedding and dense one, mean")
    for axes in (left, right):
        axes.set_xlabel("parameters removed, % of the whole model")
        axes.grid(alpha=0.3)
    left.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
