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
import shlex
import signal
import time
from dataclasses import asdict, replace
from pathlib import Path

import click

from costmodel.cli.common import is_quiet, print_table, say
from costmodel.cli.options import options_of
from costmodel.cli.progress import Working
from costmodel.decomposition.recipe import load_recipe
from costmodel.errors import InputError
from costmodel.families.load import load_model
from validate.choose.baselines import RULES
from validate.choose.settings import NAME as SETTINGS
from validate.choose.settings import SMALL, Settings, Sizes
from validate.choose.verdict import Verdict
from validate.cli.options import cluster_at, given, ray_option
from validate.cli.progress import LOADING, RunProgress, is_loading
from validate.interval import interval_text


@click.command("choose")
@click.option("--model", metavar="DIR", help="Checkpoint with a tokenizer.")
@click.option("--text", metavar="FILE", help="Text to predict, one that the model was not trained on.")
@click.option("--calibration-text", metavar="FILE", help="Text for sensitivity and whitened factors.")
@click.option("--hw", metavar="NAME|PATH", help="Profile of this device; latency is predicted from it and measured.")
@click.option("--recipe", metavar="FILE.toml", help="Measure this recipe too, as one more baseline.")
@options_of(Sizes, "sizes")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where everything is kept.",
)
@click.option("--small", is_flag=True, help="Sizes of a trial of a minute or two; options given count all the same.")
@click.option("--report", "report_only", is_flag=True, help="Only make the report of DIR again, from its records.")
@ray_option("Measure sensitivity and quality")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: str | None,
    text: str | None,
    calibration_text: str | None,
    hw: str | None,
    recipe: str | None,
    sizes: Sizes,
    out: Path,
    small: bool,
    report_only: bool,
    ray: str | None,
) -> None:
    """Find the best low-rank configurations of a checkpoint in the whole space, and prove them against baselines.

    DIR/choice.json is what `validate apply --choice` takes, DIR/recipe.toml the same configuration as a recipe,
    DIR/report.html shows how it was found. A run that was
    killed continues where it was when started again.

    \b
    Example:
      validate choose --model my-llama --text heldout.txt \\
        --calibration-text text.txt --hw amd-epyc-2t --out loop
    """
    from validate.choose.report import CHOICE, write_report

    start = time.monotonic()
    asked = given(ctx)
    if not report_only:
        if model is None or text is None or calibration_text is None or hw is None:
            about = {"--model": model, "--text": text, "--calibration-text": calibration_text, "--hw": hw}
            missing = next(name for name, value in about.items() if value is None)
            raise InputError(f"{missing} is missing", hint="or --report for a finished loop")
        if not Path(model).is_dir():
            raise InputError("no such checkpoint", value=model, allowed="a folder")
        for option, file in (("--text", text), ("--calibration-text", calibration_text)):
            if not Path(file).exists():
                raise InputError(f"{option}: no such file", value=file, allowed="a text in UTF-8")
        if load_model(model).factored is not None:
            hint = "choose for the dense checkpoint that it was made of"
            raise InputError("a factored checkpoint cannot be factored again", value=model, hint=hint)
        if small:
            sizes = replace(sizes, **{name: value for name, value in SMALL.items() if name not in asked})
        if "accept" not in asked and (out / SETTINGS).exists():
            sizes = replace(sizes, accept=Settings.read(out).accept)
        given_recipe = None if recipe is None else " + ".join(load_recipe(recipe))
        os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        with Working(LOADING, at_once=is_loading(LOADING)):
            from validate.choose.run import Loop

        settings = Settings(
            model=model, text=text, calibration_text=calibration_text, hw=hw, recipe=given_recipe, **asdict(sizes)
        )
        with cluster_at(ray) as cluster:
            Loop(settings, out, say, lambda: RunProgress("configuration"), _pass_on, cluster).run()
    accept = sizes.accept if "accept" in asked else None
    verdict, lines = write_report(out, accept)
    _print_tallies(verdict)
    for line in lines:
        say(line)
    say(f"{time.monotonic() - start:.0f} s in all; wrote {out / 'report.html'}")
    if verdict.choice is not None:
        say(f"next: {_apply(Settings.read(out), out / CHOICE)}")


def _pass_on(line: str) -> None:
    """Say a line of progress of another process, not under -q."""
    if not is_quiet():
        say(line, err=True)


def _apply(settings: Settings, choice: Path) -> str:
    """The command that writes what was chosen."""
    words = ["validate", "apply", "--model", settings.model, "--choice", str(choice)]
    if settings.factors != "plain":
        words += ["--calibration-text", settings.calibration_text]
    return shlex.join([*words, "--out", f"{settings.model.rstrip('/')}-factored"])


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
