"""The options of `validate` without a command."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from costmodel.forward.workload import MAX_BATCH, MAX_LENGTH, Attention
from costmodel.units import COMPUTE_DTYPES

F = TypeVar("F", bound=Callable[..., Any])

DEFAULT_MODEL = "llama-70m"
_LENGTH = click.IntRange(1, MAX_LENGTH)

_OPTIONS = [
    click.option(
        "--samples",
        type=click.IntRange(1, 100_000),
        default=20,
        show_default=True,
        help="Configurations to measure, the dense model included.",
    ),
    click.option(
        "--model",
        default=DEFAULT_MODEL,
        show_default=True,
        metavar="NAME|PATH",
        help="Built-in name, a config.json, or a folder; a folder with *.safetensors brings its weights.",
    ),
    click.option("--num-layers", type=click.IntRange(1), help="Build this many layers only: a slice of a large model."),
    click.option(
        "--weights",
        type=click.Choice(["auto", "random"]),
        default="auto",
        show_default=True,
        help="Take the folder's weights where it has some, or random ones.",
    ),
    click.option(
        "--device",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="auto takes CUDA where there is one.",
    ),
    click.option(
        "--threads", type=click.IntRange(1, 4096), help="Threads on a CPU.  [default: physical cores that it may use]"
    ),
    click.option(
        "--hw",
        default="auto",
        show_default=True,
        metavar="auto|NAME|PATH",
        help="Profile to predict with; auto matches the device's name, or writes a minimal profile.",
    ),
    click.option(
        "--calibration",
        default="auto",
        show_default=True,
        metavar="FILE|auto|none",
        help="Measured corrections to predict with, beside the datasheet.",
    ),
    click.option(
        "--phase",
        type=click.Choice(["prefill", "decode", "both"]),
        default="both",
        show_default=True,
        help="Which passes to run; an encoder has prefill only.",
    ),
    click.option(
        "--batch",
        type=click.IntRange(1, MAX_BATCH),
        multiple=True,
        help="Sequences; repeatable.  [default: 1 2 4 8 on a CPU, 1 4 16 64 on CUDA]",
    ),
    click.option(
        "--seq-len",
        type=_LENGTH,
        multiple=True,
        help="Tokens of a prompt; repeatable.  [default: 16 to 128 on a CPU, 128 to 2048 on CUDA]",
    ),
    click.option(
        "--kv-len",
        type=_LENGTH,
        multiple=True,
        help="Tokens that a decode step attends to; repeatable.  [default: 64 to 512, 128 to 2048]",
    ),
    click.option(
        "--dtype",
        type=click.Choice(["auto", *(dtype.value for dtype in COMPUTE_DTYPES)]),
        default="auto",
        show_default=True,
        help="auto: fp32 on a CPU, bf16 on CUDA.",
    ),
    click.option(
        "--runtime",
        type=click.Choice(["auto", "eager", "graph", "both"]),
        default="auto",
        show_default=True,
        help="auto: eager on a CPU, where a graph is the same; both on CUDA.",
    ),
    click.option(
        "--attention",
        type=click.Choice([form.value for form in Attention]),
        default="fused",
        show_default=True,
        help="One fused kernel, or separate ones.",
    ),
    click.option(
        "--seed",
        type=click.IntRange(0, 2**63 - 1),
        default=0,
        show_default=True,
        help="Of the choice of samples, weights and tokens.",
    ),
    click.option(
        "--configs",
        metavar="FILE",
        help="Measure these: a configuration, a list of them, or the JSON of `costmodel explore`.",
    ),
    click.option(
        "--precision",
        type=click.FloatRange(0.1, 50),
        default=2.0,
        show_default=True,
        metavar="PCT",
        help="Stop a comparison when its 95 % interval is this narrow, to each side.",
    ),
    click.option(
        "--budget",
        type=click.FloatRange(0.1, 3600),
        default=5.5,
        show_default=True,
        metavar="SECONDS",
        help="Stop a comparison after this long anyway.",
    ),
    click.option(
        "--stop-after",
        type=click.FloatRange(1),
        metavar="SECONDS",
        help="Start no further sample after this long, and report; --resume continues.",
    ),
    click.option("--out", default="validation", show_default=True, metavar="DIR", help="Where records and report go."),
    click.option("--resume", is_flag=True, help="Continue the run in DIR with its own settings."),
    click.option(
        "--fail-above",
        type=click.FloatRange(0),
        metavar="PCT",
        help="Exit 1 when the median error of the predicted ratio is above this, or a sample failed.",
    ),
    click.option(
        "--format",
        "fmt",
        type=click.Choice(["table", "json", "csv"]),
        default="table",
        show_default=True,
        help="How to print the result.",
    ),
]


def measure_options(function: F) -> F:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function
