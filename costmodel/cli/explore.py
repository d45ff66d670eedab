"""`costmodel explore`: answers about every configuration of a design space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from costmodel.cli.common import compare_format_option, print_lines, print_table, warn_of_search, write_csv, write_json
from costmodel.cli.comparison import print_comparison
from costmodel.cli.options import options_of
from costmodel.cli.progress import Working
from costmodel.cli.repeat import repeated
from costmodel.cli.space import print_every_digit
from costmodel.decomposition.recipe import recipe_text, require_suffix
from costmodel.decomposition.settings import DecompositionSettings
from costmodel.errors import InputError
from costmodel.explore import Exploration, explore
from costmodel.explore.beside import Beside, held_beside, price_beside
from costmodel.explore.explore import SCHEMA, best_warnings
from costmodel.explore.machines import by_machine, devices_of, fewest_devices
from costmodel.explore.milder import milder, opening
from costmodel.explore.settings import ExploreSettings
from costmodel.explore.text import count_text
from costmodel.files.write import write_file
from costmodel.pricing.setup import SEVERAL, Setup, WorkloadSettings
from costmodel.pricing.several import Refusal, answer_each, questions_of
from costmodel.show.comparison import explorations_table
from costmodel.show.exploration import (
    beside_row,
    beside_title,
    csv_rows,
    damage_title,
    dense_row,
    destroyed,
    distribution_row,
    distribution_title,
    found_rows,
    milder_title,
    top_title,
)
from costmodel.show.figure import file_kind
from costmodel.show.report import phase_title
from costmodel.space.settings import SpaceSettings

_SHARED = ("schema", "model", "space", "form", "ranks")
"""What an exploration that is refused has in common with the others of its comparison."""
_SHOWN = 24
"""Rows of the frontier in the table; JSON and CSV have all."""

_ONE = ": 1, as in the paper; --ranks 25%,50%,75% tries others"
"""What follows the number of ranks where nobody named any: the paper's."""


@click.command()
@options_of(WorkloadSettings, "workloads", SEVERAL)
@options_of(SpaceSettings, "space")
@options_of(ExploreSettings, "asked")
@click.option("--plot", "plot_file", metavar="FILE", help="Draw the frontier of the first two objectives (.png, .svg).")
@click.option("--report", "report_file", metavar="FILE.html", help="Write an interactive page that needs no network.")
@click.option("--recipe", metavar="FILE.toml", help="Price this recipe beside those that are found.")
@click.option("--save-recipe", metavar="FILE.toml", help="Write the first configuration listed as a recipe.")
@compare_format_option
@click.pass_context
def command(
    ctx: click.Context,
    /,
    workloads: tuple[WorkloadSettings, ...],
    space: SpaceSettings,
    asked: ExploreSettings,
    plot_file: str | None,
    report_file: str | None,
    recipe: str | None,
    save_recipe: str | None,
    fmt: str,
) -> None:
    """Explore every configuration of a model's design space on a device.

    Gives the distribution of each objective over all configurations, how many are within the limits, the best of them,
    and the Pareto frontier. `guarantee` says whether all of that is exact within the model, and if not, how far off it
    can be; the assumptions say how far off the model can be.

    --hw, --stack, --tp, --ep, --pp, --batch, --seq-len and --kv-len repeat or take commas: a comparison.

    \b
    Example:
      costmodel explore --model llama2-7b --hw a100-sxm-80gb --phase decode \\
        --runtime graph --ranks 64-1024:64 \\
        --limit 'saved.peak_memory_pct>=20%' --top 1

    One token at a time in the eager runtime the host's launches set the pace, so that
    factors, which are more kernels, save memory but no time; a replayed graph has none.
    """
    print_every_digit()
    picture = file_kind(Path(plot_file)) if plot_file is not None else ""
    if report_file is not None:
        file_kind(Path(report_file), ("html",))
    if save_recipe is not None:
        require_suffix(save_recipe)
    drawn = next((file for file in (plot_file, report_file, save_recipe) if file is not None), None)
    if drawn is not None and len(workloads) > 1:
        raise InputError("a file is of one question", value=drawn, hint="explore one device, stack and workload")
    if recipe is not None and (len(workloads) > 1 or fmt == "markdown"):
        raise InputError(
            "a recipe is priced beside one question", value=recipe, hint="costmodel estimate compares it on several"
        )

    def explored(setup: Setup) -> Exploration:
        return explore(
            space.of(setup.model),
            setup.hardware,
            setup.workloads,
            asked,
            calibration=setup.calibration,
            new_tokens=setup.new_tokens,
        )

    questions = questions_of(workloads)
    named = DecompositionSettings(recipe=recipe)
    config = named.load(questions[0].model)
    warn_of_search(named, questions[0].model)
    with Working("exploring") as working:

        def begin(number: int) -> None:
            several = f", question {number} of {len(questions)}" if len(questions) > 1 else ""
            question = questions[number - 1]
            working.status(f"exploring {question.model.name} on {question.hardware.name}{several}")

        results = answer_each(questions, explored, begin)
    result = next(each for each in results if isinstance(each, Exploration))
    beside = price_beside(result, config, asked.quality) if recipe is not None else held_beside(result, asked.quality)
    if save_recipe is not None:
        write_file(Path(save_recipe), recipe_text(opening(result).best, result.space.model).encode())
    if plot_file is not None:
        from costmodel.show.explore_plot import frontier_plot

        write_file(Path(plot_file), frontier_plot(result, picture))
    if report_file is not None:
        from costmodel.cli.estimate import command as estimate_command
        from costmodel.show.explore_page import explore_page

        ctx.params["recipe"] = None  # a point of the page is named by its own SPECs
        repeat = repeated(ctx, "costmodel estimate", estimate_command)
        write_file(Path(report_file), explore_page(result, repeat).encode())
    if len(results) > 1 or fmt == "markdown":
        _compare(results, fmt)
        return
    if fmt == "json":
        write_json(result.to_json() | ({} if beside is None else {beside.source: beside.to_json()}))
    elif fmt == "csv":
        write_csv(csv_rows(result, beside))
    else:
        _print(result, beside)
        print_lines(f"wrote {file}" for file in (plot_file, report_file, save_recipe) if file is not None)


def _compare(results: Sequence[Exploration | Refusal], fmt: str) -> None:
    answered = [each for each in results if isinstance(each, Exploration)]
    if fmt == "json":
        answers = [each.to_json() for each in answered]
        told = iter(answers)
        phases = [
            {**each.rows(answers[0])[-1], **{key: answers[0][key] for key in _SHARED}, "hardware": each.hardware}
            if isinstance(each, Refusal)
            else {"workload": {**each.workloads[-1].to_json(), **_place(each)}, **next(told)}
            for each in results
        ]
        machines = [_machine(group) for group in by_machine(answered) if len(group) > 1]
        listed = {"machines": machines} if machines else {}
        write_json({"schema": SCHEMA, "model": answered[0].space.model.name, "phases": phases, **listed})
    elif fmt == "csv":
        write_csv(row for each in results for row in _csv_rows(each))
    else:
        print_comparison(explorations_table(results), fmt)


def _csv_rows(result: Exploration | Refusal) -> list[dict[str, object]]:
    if isinstance(result, Refusal):
        return result.csv_rows()[-1:]
    return [{**_place(result), **row} for row in csv_rows(result)]


def _place(result: Exploration) -> dict[str, object]:
    """What tells one answer of a comparison from another; q_len is the prompt's where a prefill is asked for."""
    first, work = result.workloads[0], result.workloads[-1]
    place = {"hardware": result.hardware, "stack": work.stack, "batch": work.batch}
    place |= {"q_len": first.q_len, "kv_len": work.kv_len}
    return {**place, **(work.split if work.devices > 1 else {})}


def _machine(group: Sequence[Exploration]) -> dict[str, object]:
    """Of one question to several numbers of devices, the fewest of which some configuration keeps the limits."""
    found = fewest_devices(group)
    splits = [result.workloads[0].split for result in group]
    names = dict.fromkeys(name for split in splits for name in split)
    numbers = {name: [split.get(name, 1) for split in splits] for name in names}
    return {**_place(group[0]), **numbers, "fewest": None if found is None else devices_of(found)}


def _print(result: Exploration, beside: Beside | None) -> None:
    space, answer, question = result.space, result.answer, result.question
    quality = question.tables.quality
    ranks = max(len(set(row)) for row in space.ranks)
    lines = [
        f"{space.model.name} on {result.hardware}: {space.kind} space, form {space.form}, {ranks} candidate "
        f"rank{'s' if ranks > 1 else ''}{_ONE if {rank for row in space.ranks for rank in row} == {1} else ''}",
        f"configurations: {count_text(space.size)} (the paper counts 2^{result.paper_count.bit_length() - 1})",
    ]
    if space.excluded:
        lines.append(f"excluded: {count_text(space.excluded)} with a rank above min(out, in) of a chosen tensor")
    if question.limits:
        lines.append(f"within {', '.join(map(str, question.limits))}: {_matching(result)}")
    marked = "" if result.measured else " - NOT MEASURED"
    metric = result.damage.metric if quality else result.damage.metric.removeprefix("damage ")
    lines.append(f"{'quality' if quality else 'damage'}: {metric}, less is better{marked}")
    priced = result.estimate_best()
    print_lines([*lines, *map(phase_title, priced.phases)])
    columns = ["objective", "min", "1 %", "median", "mean", "99 %", "max", "min to max"]
    rows = [distribution_row(name, each) for name, each in answer.distribution.items() if each]
    if rows:
        print_table(distribution_title(answer.distribution.values()), columns, rows)
    names = [objective.name for objective in question.objectives]
    columns = ["", "configuration", *names, *([] if "quality" in names else [damage_title(result)])]
    alive = milder(result)
    if alive is not None and alive.top:
        rows = [dense_row(result), *found_rows(result, alive.top)]
        print_table(milder_title(result, alive), columns, rows, left=2)
    elif alive is not None:
        print_lines([f"{milder_title(result, alive)}: nothing is ahead of dense", ""])
    if answer.top:
        print_table(top_title(result), columns, [dense_row(result), *found_rows(result, answer.top)], left=2)
    elif question.limits and question.top:
        print_lines(["no configuration found within the limits", *(f"  {each.text()}" for each in result.nearest)])
        print_lines([f"  {result.held_back}"] if result.held_back else [])
    if answer.frontier and len(names) > 1:
        step = max(1, -(-len(answer.frontier) // _SHOWN))
        shown = answer.frontier[::step]
        count = len(answer.frontier)
        title = f"Frontier: {count} point{'s' if count > 1 else ''}" + (f", one in {step} shown" if step > 1 else "")
        print_table(title, columns, found_rows(result, shown, step), left=2)
    if beside is not None:
        print_table(beside_title(result, beside), columns, [dense_row(result), beside_row(result, beside)], left=2)
    first = "best" if result.measured else "first" if alive is None else "first of all"
    warnings = [*destroyed(result), *best_warnings(priced)]
    print_lines(
        [
            f"guarantee: {answer.guarantee}",
            f"note: that is within the model, of prices at {priced.level} level that rest on the assumptions below",
            f"answered in {result.elapsed_s:.2f} s",
            *(f"assumption: {text}" for text in priced.assumptions),
            *(f"warning: the {first} configuration: {text}" for text in warnings),
        ]
    )


def _matching(result: Exploration) -> str:
    answer = result.answer
    if answer.matching is not None:
        return f"{count_text(answer.matching)} configuration{'' if answer.matching == 1 else 's'}"
    if answer.matching_share is not None:
        low, high = (100 * answer.matching_share[key] for key in ("low", "high"))
        return f"{low:.1f} to {high:.1f} % of the configurations, from a sample"
    if answer.matching_bounds is None:
        return "not counted"
    low, high = answer.matching_bounds
    return f"between {count_text(low)} and {count_text(high)} configurations"
