"""`costmodel recommend`: which configuration reaches a goal, on each device and workload."""

from __future__ import annotations

import dataclasses
import enum
import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from costmodel.cli.common import compare_format_option, print_lines, warn_of, write_csv, write_json
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
from costmodel.show.recommendation import csv_row, recommendations_table

SCHEMA = 1
"""Version of the JSON output."""
_ROWS_OWN = ("model", "hw", "phase", "batch", "seq_len", "kv_len", "new_tokens")
"""Fields of a question that a row answers for itself."""
_MEASURED = ("--dtype", "--runtime", "--attention", "--calibration")
"""Options that `validate` takes too."""


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

    --hw, --stack, --tp, --batch, --seq-len and --kv-len repeat or take commas: a row for each.

    \b
    Example:
      costmodel recommend --model qwen2.5-1.5b --hw l4,h100-sxm-80gb \\
        --batch 1,32 --phase decode --stack vllm --faster 20%
    """
    goal = Goal.of(faster, smaller, fits)
    if save_recipe is not None:
        require_suffix(save_recipe)
    named = DecompositionSettings(preset=preset, recipe=recipe)
    setups = [settings.setup() for settings in workloads]
    only = named.load(setups[0].model) if named.named else None
    warn_of(named, setups[0].model)
    rows = []
    with Working("recommending") as working:
        for place, row in recommend_each(setups, goal, max_damage=max_damage, quality=quality, only=only):
            rows.append((row, next_command(row, workloads[place])))
            working.status(f"recommending, question {place + 1} of {len(setups)}")
    if save_recipe is not None:
        _save([row for row, _ in rows], Path(save_recipe))
    if fmt == "json":
        head = {"schema": SCHEMA, "model": rows[0][0].model.name, "goal": str(goal)}
        damage = {"metric": rows[0][0].damage_metric, "stand_in": not rows[0][0].measured}
        write_json({**head, "damage": damage, "rows": [row.to_json(following) for row, following in rows]})
    elif fmt == "csv":
        write_csv(csv_row(row, following) for row, following in rows)
    else:
        print_comparison(recommendations_table([row for row, _ in rows]), fmt)
        steps = [following for row, following in rows if row.verdict.code == "yes" and row.config]
        if steps and fmt == "table":
            others = f"next, of the other rows: --format json or csv ({len(steps) - 1} of them)"
            print_lines([f"next: {steps[0]}", *([others] if len(steps) > 1 else [])])


def next_command(row: Recommendation, settings: WorkloadSettings) -> str:
    """What to run to verify a recommendation, or to see where the time goes where there is none."""
    work = row.workload
    words = ["--model", settings.model, "--hw", settings.hw, "--phase", work.phase.value, "--batch", str(work.batch)]
    words += ["--seq-len", str(work.q_len)] if work.phase.value == "prefill" else ["--kv-len", str(work.kv_len)]
    said = _said(settings)
    here = [*words, *(word for option in said.items() for word in option)]
    if row.config is None or row.spec is None or row.spec == "dense":
        return shlex.join(["costmodel", "roofline", *here])
    first = shlex.join(["costmodel", "estimate", *here, "--decompose", row.spec, "--save-recipe", "recipe.toml"])
    there = [*words, *(word for name in _MEASURED if name in said for word in (name, said[name]))]
    return f"{first} && {shlex.join(['validate', *there, '--configs', 'recipe.toml'])}"


def _said(settings: WorkloadSettings) -> dict[str, str]:
    """The options of a question that are not its defaults, but for those of which a row has its own."""
    said = {}
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if item.name in _ROWS_OWN or value is None or value == item.default:
            continue
        option = item.metadata.get("option", f"--{item.name.replace('_', '-')}")
        name = option if isinstance(option, str) else option[0]
        said[name] = str(value.value if isinstance(value, enum.Enum) else value)
    return said


def _save(rows: Sequence[Recommendation], path: Path) -> None:
    found = next((row for row in rows if row.config is not None and row.config.factors), None)
    if found is None or found.config is None:
        raise InputError("nothing is recommended, and no recipe was written", value=str(path))
    write_file(path, recipe_text(found.config, found.model).encode())
