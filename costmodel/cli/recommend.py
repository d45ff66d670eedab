"""`costmodel recommend`: which configuration reaches a goal, on each device and workload."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from costmodel.cli.common import compare_format_option, print_lines, warn_of_search, write_csv, write_json
from costmodel.cli.comparison import print_comparison
from costmodel.cli.options import options_of
from costmodel.cli.progress import Working
from costmodel.decomposition.presets import Preset
from costmodel.decomposition.recipe import recipe_text, require_suffix
from costmodel.decomposition.settings import DecompositionSettings
from costmodel.errors import InputError
from costmodel.explore.goal import Goal
from costmodel.explore.recommend import recommend_each
from costmodel.explore.recommendation import Recommendation
from costmodel.files.write import write_file
from costmodel.pricing.setup import SEVERAL, WorkloadSettings
from costmodel.pricing.several import Refusal, questions_of
from costmodel.show.next_command import next_command
from costmodel.show.recommendation import csv_rows, recommendations_json, recommendations_table


@click.command()
@options_of(WorkloadSettings, "workloads", SEVERAL)
@click.option("--faster", metavar="P%", help="Save this share of the latency of each phase, for example 20%.")
@click.option("--smaller", metavar="P%", help="Save this share of the weights' bytes, for example 25%.")
@click.option("--fits", metavar="SIZE", help="Need at most this much memory at the peak, for example 24GB.")
@click.option(
    "--max-damage",
    type=float,
    metavar="X",
    help="The most damage allowed.  [default: 1 nat by the prior, anything by another quality]",
)
@click.option(
    "--quality",
    metavar="FILE|prior|standin:params|standin:energy:FILE",
    help="What each factored weight does to the answers; all but a FILE are no measurement.  [default: prior]",
)
@click.option("--preset", type=click.Choice(["uniform-50", "mlp-only", "keep-ends"]), help="Judge this preset alone.")
@click.option("--recipe", metavar="FILE.toml", help="Judge this recipe alone.")
@click.option("--save-recipe", metavar="FILE.toml", help="Write the first configuration recommended as a recipe.")
@compare_format_option
def command(
    workloads: tuple[WorkloadSettings, ...],
    faster: str | None,
    smaller: str | None,
    fits: str | None,
    max_damage: float | None,
    quality: str | None,
    preset: Preset | None,
    recipe: str | None,
    save_recipe: str | None,
    fmt: str,
) -> None:
    """Recommend a configuration that reaches a goal, on each device, stack and workload.

    A yes is the least damaging configuration that reaches the goal at the pessimistic end of the saving's 90 %
    interval; a no says why, and what the most is that any configuration saves. Damage is a prior that knows no weights
    until it was measured: verify what is recommended.

    --hw, --stack, --tp, --ep, --pp, --batch, --seq-len and --kv-len repeat or take commas: a row for each.

    \b
    Example:
      costmodel recommend --model qwen2.5-1.5b --hw l4,h100-sxm-80gb \\
        --batch 1,32 --phase decode --stack vllm --faster 20%
    """
    goal = Goal.of(faster, smaller, fits)
    if save_recipe is not None:
        require_suffix(save_recipe)
    named = DecompositionSettings(preset=preset, recipe=recipe)
    questions = questions_of(workloads)
    model = questions[0].model
    only = named.load(model) if named.named else None
    warn_of_search(named, model)
    how: dict[str, Any] = {"max_damage": max_damage, "quality": quality, "only": only}
    with Working("recommending") as working:

        def begin(number: int) -> None:
            working.status(f"recommending, question {number} of {len(questions)}")

        found = recommend_each(questions, goal, begin=begin, **how)
    rows = [row for _, row in found]
    kept = None if save_recipe is None else next((row for row in rows if _has_factors(row)), None)
    following = [
        next_command(row, workloads[at], save_recipe if row is kept else None)
        if isinstance(row, Recommendation)
        else None
        for at, row in found
    ]
    if fmt == "json":
        write_json(recommendations_json(rows, following))
    elif fmt == "csv":
        write_csv(line for row, command in zip(rows, following, strict=True) for line in csv_rows(row, command))
    else:
        print_comparison(recommendations_table(rows), fmt)
        if fmt == "table":
            print_lines(_steps(rows, following))
    if save_recipe is not None:
        _save(kept, Path(save_recipe))
        if fmt == "table":
            print_lines([f"wrote {save_recipe}"])


def _steps(rows: Sequence[Recommendation | Refusal], following: Sequence[str | None]) -> list[str]:
    """The next command of the first row with a configuration, and where those of the others are."""
    steps = [
        (row, command)
        for row, command in zip(rows, following, strict=True)
        if isinstance(row, Recommendation) and row.config is not None and row.verdict.reason == "reached"
    ]
    if not steps:
        return []
    row, command = steps[0]
    lines = [f"next: {command}"]
    if not row.held_by_one:
        lines.append(f"note: validate measures on one device, and the dense model needs more than one {row.hardware}")
    elif row.workload.devices > 1:
        lines.append("note: validate measures on one device; what several of them save is predicted")
    elif command is not None and "validate" in command.split():
        lines.append(f"note: validate measures the machine that it runs on: run it on {row.hardware}")
    if len(steps) > 1:
        lines.append(f"next, of the other rows: --format json or csv ({len(steps) - 1} of them)")
    return lines


def _has_factors(row: Recommendation | Refusal) -> bool:
    """Whether a recipe can say what is recommended, which dense as it is needs not."""
    return isinstance(row, Recommendation) and row.config is not None and bool(row.config.factors)


def _save(row: Recommendation | Refusal | None, path: Path) -> None:
    """Write what is recommended first; where nothing is, the answer was printed and says why."""
    if not isinstance(row, Recommendation) or row.config is None:
        raise InputError("nothing is recommended, and no recipe was written", value=str(path))
    write_file(path, recipe_text(row.config, row.model).encode())
