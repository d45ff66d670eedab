"""Rows of the README's table of losses at equal size, from the records of both comparisons.

python -m studies.comparison.table
"""

from __future__ import annotations

from pathlib import Path

from scipy.stats import spearmanr

from studies.comparison.record import dense_of, read_lines
from studies.minilm.record import Judged
from studies.smollm2.record import Measured, read_measured

STUDIES = Path(__file__).resolve().parents[1]
FILE = "compared.jsonl"
RULES = ("drop late", "drop influence", "drop alone")


def rows() -> list[str]:
    """A Markdown row for each share removed: nats above dense, and Spearman's correlation."""
    language = read_measured(STUDIES / "smollm2" / FILE)
    sentences = read_lines(STUDIES / "minilm" / FILE, Judged)
    sizes = sorted({row.asked for row in language if row.asked})
    return [
        " | ".join([f"| {size:.0%}", *_losses(language, size), *_correlations(sentences, size)]) + " |"
        for size in sizes
    ]


def _losses(rows: list[Measured], size: float) -> list[str]:
    dense = dense_of(rows)
    here = {row.method: row for row in rows if row.asked == size}

    def cell(method: str) -> str:
        return f"{here[method].loss - dense.loss:.3f}" if method in here else "-"

    return [cell(method) for method in ("ours, fisher", "ours, sequential", "svd-llm", "drop influence")]


def _correlations(rows: list[Judged], size: float) -> list[str]:
    dense = dense_of(rows)
    here = {row.method: spearmanr(row.cosines, dense.scores).statistic for row in rows if row.asked == size}
    return [f"{here['ours']:.3f}", f"{here['svd-llm']:.3f}", f"{max(here[rule] for rule in RULES):.3f}"]


if __name__ == "__main__":
    print("\n".join(rows()))
