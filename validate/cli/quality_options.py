"""The options of `validate quality`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from costmodel.cli.common import format_option

F = TypeVar("F", bound=Callable[..., Any])

DTYPES = ("fp32", "bf16", "fp16")

_OPTIONS = [
    click.option(
        "--model",
        metavar="PATH",
        help="Checkpoint: a folder with config.json, *.safetensors and a tokenizer, or a name on the Hugging Face hub.",
    ),
    click.option("--config", "config", multiple=True, metavar="FILE", help="Configuration to measure; repeatable."),
    click.option(
        "--configs", metavar="FILE", help="Configurations to measure: a list, or the JSON of `costmodel explore`."
    ),
    click.option(
        "--decompose",
        multiple=True,
        metavar="SPEC",
        help="Configuration to measure, such as "
        '"tensors=mlp rank=50%"; repeatable, each is one; " + " joins SPECs of one.',
    ),
    click.option(
        "--samples",
        type=click.IntRange(1, 100_000),
        metavar="N",
        help="Measure a sample of the space of this size, the dense model included.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**63 - 1),
        default=0,
        show_default=True,
        help="Of the sample; a larger sample of a seed continues a smaller one.",
    ),
    click.option("--text", metavar="FILE", help="Text to predict, one that the model was not trained on."),
    click.option(
        "--blocks",
        type=click.IntRange(2, 1_000_000),
        default=64,
        show_default=True,
        help="Blocks of the text, spread evenly over it.",
    ),
    click.option(
        "--length",
        type=click.IntRange(2, 1_000_000),
        metavar="L",
        help="Tokens of a block.  [default: 256, or the most that the model takes]",
    ),
    click.option(
        "--tasks",
        multiple=True,
        metavar="NAME|FILE.jsonl",
        help="Task: arc_easy, arc_challenge, hellaswag, "
        "mmlu, truthfulqa, winogrande, gsm8k, others of lm-evaluation-harness, or local items; repeatable.",
    ),
    click.option("--limit", type=click.IntRange(1), metavar="N", help="Items of each task, the first ones."),
    click.option(
        "--factors",
        type=click.Choice(["plain", "whitened"]),
        default="plain",
        show_default=True,
        help="Factors of the weights alone, or those that change outputs on calibration text least.",
    ),
    click.option("--calibration-text", metavar="FILE", help="Text for whitened factors, not the one to predict."),
    click.option(
        "--calibration-blocks",
        type=click.IntRange(1, 1_000_000),
        default=64,
        show_default=True,
        help="Blocks of it, of --length tokens.",
    ),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="auto takes CUDA where there is one.",
    ),
    click.option(
        "--dtype",
        type=click.Choice(DTYPES),
        default="fp32",
        show_default=True,
        help="Of the weights; narrower types change the numbers.",
    ),
    click.option(
        "--batch",
        type=click.IntRange(1, 65_536),
        default=8,
        show_default=True,
        help="Blocks, and items, that run together.",
    ),
    click.option("--threads", type=click.IntRange(1, 4096), help="Threads on a CPU.  [default: torch's]"),
    click.option(
        "--stop-after",
        type=click.FloatRange(1),
        metavar="SECONDS",
        help="Start no further configuration after this long, and report; --resume continues.",
    ),
    click.option("--out", default="quality", show_default=True, metavar="DIR", help="Where records go."),
    click.option(
        "--resume",
        is_flag=True,
        help="Continue the run in DIR with its own settings; without new configurations only report.",
    ),
    format_option,
]


def quality_options(function: F) -> F:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
