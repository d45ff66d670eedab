"""How long configurations take with and without the dense model's cached states: those whose first layers are dense
start from them, and dense predictions that are not kept take the head alone.

    python benchmarks/quality.py --model smollm2 --text wikitext2_raw.test.txt --samples 40 --out quality.json

Each configuration of a seeded sample is measured both ways, one after the other, so that a busy machine slows both.
Factors are random: neither time nor sameness depends on what they hold. `--keep 0` takes dense predictions as too large
to keep, as those of 32,768 tokens and 49,152 words are, however short the text is.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from costmodel.cli import run
from costmodel.cli.common import say
from costmodel.decomposition.factors import Decomposition
from validate.factors.replace import RandomFactors, Replacement
from validate.models.blocks import text_blocks
from validate.models.pretrained import open_pretrained
from validate.quality.job import TextFile
from validate.quality.plan import sample_cases
from validate.quality.text import KEPT_BYTES, TextMeasure


def first_changed(decomposition: Decomposition) -> int:
    """Number of the first layer that is not dense."""
    return min({site.layer for site in decomposition.factors} | decomposition.dropped)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--model", required=True, metavar="DIR")
@click.option("--text", required=True, metavar="FILE")
@click.option("--samples", default=40, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=0, show_default=True)
@click.option("--blocks", default=8, show_default=True, type=click.IntRange(2))
@click.option("--length", default=256, show_default=True, type=click.IntRange(2))
@click.option("--keep", default=KEPT_BYTES, show_default=True, type=click.IntRange(0), metavar="BYTES")
@click.option("--stop-after", type=click.FloatRange(1), metavar="SECONDS", help="Start no further one after this long.")
@click.option("--out", metavar="FILE", help="JSON of every configuration.")
def command(
    model: str,
    text: str,
    samples: int,
    seed: int,
    blocks: int,
    length: int,
    keep: int,
    stop_after: float | None,
    out: str | None,
) -> None:
    """Compare times and losses with and without cached states."""
    began = time.monotonic()
    pretrained = open_pretrained(model)
    source = TextFile.read(text)
    assert source is not None
    asked = text_blocks(pretrained.model, pretrained.spec, pretrained.tokenizer, source.content, length, blocks)
    if not pretrained.spec.is_encoder:
        pretrained.model.config.use_cache = False  # type: ignore[union-attr]  # nothing is generated
    whole, cached = (
        TextMeasure(pretrained, asked, source.source, kept_bytes=keep, reuse=reuse) for reuse in (False, True)
    )
    tokens = sum(whole.dense.tokens)
    assert cached.dense == whole.dense
    rows = []
    for case in sample_cases(pretrained.spec, samples + 1, seed)[1:]:
        if stop_after is not None and time.monotonic() - began > stop_after:
            break
        first = first_changed(case.decomposition)
        with Replacement(pretrained.body, pretrained.spec, case.decomposition, RandomFactors(seed)):
            times, losses = [], []
            for measure, start in ((whole, 0), (cached, first)):
                before = time.perf_counter()
                found = measure.measure(start)
                losses.append((sum(found.nll) / tokens, sum(found.kl) / tokens))
                times.append(time.perf_counter() - before)
        difference = max(abs(one - other) for one, other in zip(*losses, strict=True))
        rows.append({"first": first, "whole_s": times[0], "cached_s": times[1], "difference": difference})
    share = sum(row["cached_s"] for row in rows) / sum(row["whole_s"] for row in rows)
    worst = max(row["difference"] for row in rows)
    say(f"{len(rows)} configurations, {tokens} tokens: {share:.2f} of the time, losses within {worst:.1e} nats a token")
    if out:
        Path(out).write_text(
            json.dumps({"tokens": tokens, "share": share, "worst": worst, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    run(command)
