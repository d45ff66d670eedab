"""From a checkpoint to a verified choice: sensitivity, measured configurations, fit, search, measured frontier, report.

    validate choose --model models/llama --text models/llama/heldout.txt \\
        --calibration-text models/llama/calibration.txt --hw hw_profiles/amd-epyc-2t.toml --out loop

Each stage keeps what it made in DIR: the same command continues after an interrupt and does nothing twice. The text is
cut in two: configurations are chosen on one half and judged on the other. DIR/report.html is made from the records
alone, again with --report; DIR/choice.json is the configuration to hand to `validate apply`, unless it is the dense
model.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from costmodel.cli.common import print_table
from costmodel.errors import InputError
from validate.choose.baselines import RULES
from validate.choose.settings import NAME as SETTINGS
from validate.choose.settings import RANKS, SMALL, Settings
from validate.choose.verdict import Verdict
from validate.cli.progress import RunProgress
from validate.pages.markup import interval_text
from validate.predictor.points import FEWEST


@click.command("choose")
@click.option("--model", metavar="DIR", help="Checkpoint with a tokenizer.")
@click.option("--text", metavar="FILE", help="Text to predict, one that the model was not trained on.")
@click.option("--calibration-text", metavar="FILE", help="Text for sensitivity and whitened factors.")
@click.option("--hw", metavar="NAME|PATH", help="Profile of this device; latency is predicted from it and measured.")
@click.option(
    "--calibration",
    default="auto",
    show_default=True,
    metavar="FILE|auto|none",
    help="Measured corrections of predicted latency.",
)
@click.option(
    "--samples",
    type=click.IntRange(FEWEST + 1),
    default=320,
    show_default=True,
    metavar="N",
    help="Configurations measured to fit the predictor on, dense among them; more may be asked for until it is fitted.",
)
@click.option(
    "--phase",
    type=click.Choice(["prefill", "decode", "both"]),
    default="prefill",
    show_default=True,
    help="Whose latency counts.",
)
@click.option(
    "--ranks",
    default=RANKS,
    metavar="R1,R2,...",
    help="Candidate ranks.  [default: 1 and shares of break-even from 5% to 90%]",
)
@click.option(
    "--factors",
    type=click.Choice(["plain", "whitened"]),
    default="whitened",
    show_default=True,
    help="How factors are computed, those of baselines too.",
)
@click.option(
    "--blocks", type=click.IntRange(2), default=64, show_default=True, help="Blocks of each half of the text."
)
@click.option(
    "--length",
    type=click.IntRange(2),
    metavar="L",
    help="Tokens of a block.  [default: 256, or the most that the model takes]",
)
@click.option("--calibration-blocks", type=click.IntRange(1), default=64, show_default=True, help="Of that text.")
@click.option(
    "--seq-len",
    type=click.IntRange(1),
    default=64,
    show_default=True,
    help="Tokens of the prompt whose latency counts; a decode step attends to one more.",
)
@click.option("--batch-size", type=click.IntRange(1), default=1, show_default=True, help="Sequences of that prompt.")
@click.option("--points", type=click.IntRange(1), default=16, show_default=True, help="Points of the frontiers, about.")
@click.option(
    "--rounds",
    type=click.IntRange(0),
    default=2,
    show_default=True,
    help="Of searching, measuring what was found and fitting again, before the search that counts.",
)
@click.option("--random", type=click.IntRange(0), default=8, show_default=True, help="Random baselines.")
@click.option(
    "--accept",
    type=click.FloatRange(0),
    default=0.05,
    show_default=True,
    metavar="NATS",
    help="Increase of NLL per token that the choice may have; kept for later calls.",
)
@click.option(
    "--budget",
    type=click.FloatRange(0.1, 3600),
    default=5.5,
    show_default=True,
    metavar="SECONDS",
    help="Of one comparison of latencies.",
)
@click.option(
    "--precision",
    type=click.FloatRange(0.1, 50),
    default=2.0,
    show_default=True,
    metavar="PCT",
    help="At which a comparison stops earlier.",
)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of samples and random baselines.")
@click.option("--threads", type=click.IntRange(1), help="Threads on a CPU.  [default: as `validate`]")
@click.option("--device", type=click.Choice(["cpu", "cuda"]), default="cpu", show_default=True)
@click.option("--batch", type=click.IntRange(1), default=8, show_default=True, help="Blocks that run together.")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where everything is kept.",
)
@click.option("--small", is_flag=True, help="Sizes of a trial of a minute or two; options given count all the same.")
@click.option("--report", "report_only", is_flag=True, help="Only make the report of DIR again, from its records.")
@click.pass_context
def command(ctx: click.Context, /, out: Path, small: bool, report_only: bool, **options: Any) -> None:
    """Find the best low-rank configurations of a checkpoint in the whole space, and prove them against baselines."""
    from validate.choose.report import write_report

    start = time.monotonic()
    if not report_only:
        missing = next((name for name in ("model", "text", "calibration_text", "hw") if options[name] is None), None)
        if missing is not None:
            raise InputError(f"--{missing.replace('_', '-')} is missing", hint="or --report for a finished loop")
        if not Path(options["model"]).is_dir():
            raise InputError("no such checkpoint", value=options["model"], allowed="a folder")
        given = {name for name in options if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
        options |= {name: value for name, value in SMALL.items() if small and name not in given}
        if "accept" not in given and (out / SETTINGS).exists():
            options["accept"] = Settings.read(out).accept
        os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        from validate.choose.run import Loop

        Loop(Settings(**options), out, click.echo, lambda: RunProgress("configuration")).run()
    accept = options["accept"] if ctx.get_parameter_source("accept") is ParameterSource.COMMANDLINE else None
    verdict, lines = write_report(out, accept)
    _print_tallies(verdict)
    for line in lines:
        click.echo(line)
    click.echo(f"{time.monotonic() - start:.0f} s in all; wrote {out / 'report.html'}")


def _print_tallies(verdict: Verdict) -> None:
    """How the configurations found did against each kind of baseline."""
    rows = [
        [
            each.axis,
            RULES[each.rule],
            len(each.duels),
            each.count("better"),
            each.count("better", clear=True),
            each.count("level"),
            each.count("worse"),
            each.count("dense"),
            each.count("same"),
            each.count("none"),
            interval_text(each.mean, 4),
        ]
        for each in verdict.tallies
    ]
    columns = [
        "equal",
        "baseline",
        "n",
        "better",
        "clear",
        "level",
        "worse",
        "dense",
        "same",
        "no match",
        "NLL, ours minus theirs",
    ]
    print_table("Configurations found against baselines, on the half that nothing was chosen by", columns, rows, left=2)
