"""One self-contained page about a loop: what was found, what it beats, how far the prediction held. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from costmodel.show.site_map import SiteMap
from costmodel.units import percent, seconds
from validate.choose.baselines import RULES
from validate.choose.duels import SIZE, own_axis
from validate.choose.figures import duel_plot, trade_off
from validate.choose.page_survival import survival_section
from validate.choose.page_words import about, as_sentence, axis_name, cost_text, finding
from validate.choose.refit import Moved
from validate.choose.results import Result
from validate.choose.settings import Settings
from validate.choose.stages import StageRecord
from validate.choose.verdict import Verdict
from validate.interval import interval_text
from validate.pages.markup import Picture, Table, report


def loop_page(
    settings: Settings,
    verdict: Verdict,
    moved: Moved | None,
    stages: Mapping[str, StageRecord],
    maps: Sequence[SiteMap],
) -> str:
    """The HTML text; it refers to nothing outside itself.

    Args:
        maps: of all weights, by `choice_maps`.
    """
    total = sum(each.seconds for each in stages.values())
    return report(
        "loop.html",
        "From a checkpoint to a verified choice",
        about=about(settings, verdict),
        finding=finding(verdict),
        summary=_tiles(verdict),
        maps=maps,
        costs=[_cost(verdict, moved, axis) for axis in verdict.axes],
        survival=survival_section(verdict),
        moved="" if moved is None or not moved.shifts else as_sentence(moved.sentence),
        points=_points(verdict),
        duels=_duels(verdict),
        settings=settings,
        total=seconds(total),
        stages=_stages(stages),
        searches=_searches(verdict),
    )


def _tiles(verdict: Verdict) -> list[tuple[str, str, bool]]:
    survival, optimism = verdict.survival, verdict.optimism
    tiles = []
    for axis in verdict.axes:
        counts = verdict.counts(axis)
        text = f"{counts['better']} / {counts['level']} / {counts['worse']}"
        tiles.append((text, f"better / level / worse at equal {axis_name(axis)}", bool(counts["worse"])))
    tiles.append(
        (
            survival.share(survival.survived),
            "points of the predicted frontiers survive: nothing measured that costs no more clearly loses less",
            survival.survived < survival.points,
        )
    )
    if optimism is not None:
        tiles.append((f"{optimism.verify.value:+.3f}", "nats: measured minus predicted over those points", False))
        tiles.append((f"{optimism.factor.value:.2f}x", "what predicted changes have to be multiplied by", False))
    return tiles


def _cost(verdict: Verdict, moved: Moved | None, axis: str) -> dict[str, Any]:
    rows = [
        [
            RULES[each.rule],
            len(each.duels),
            each.count("better"),
            *([] if axis == SIZE else [each.count("better", clear=True)]),
            each.count("level"),
            each.count("worse"),
            *(each.count(name) or "-" for name in ("dense", "same", "none")),
            interval_text(each.mean),
        ]
        for each in verdict.tallies
        if each.axis == axis
    ]
    columns = (
        "baseline",
        "n",
        "better",
        *(() if axis == SIZE else ("clearly no slower",)),
        "level",
        "worse",
        "dense",
        "same",
        "no match",
        "NLL, ours minus theirs, mean",
    )
    name = axis_name(axis)
    width = verdict.results.latency_width(axis)
    noise = (
        ""
        if width is None
        else (
            f"Intervals of measured {axis} latency reach {percent(width)} to each side in the median: costs closer "
            "than that are equal for all one can tell."
        )
    )
    return {
        "name": name,
        "trade_off": Picture.of(
            lambda theme, narrow: trade_off(verdict, axis, moved, theme, narrow=narrow),
            "Lines are predicted, points are measured on the half of the text that nothing was chosen by, with "
            "95 % intervals. A thin line ties a point of a frontier to where it was predicted. The ring is the choice.",
        ),
        "tallies": Table(columns=columns, rows=rows),
        "noise": noise,
        "duels": Picture.of(
            lambda theme, narrow: duel_plot(verdict.duels, axis, theme, narrow=narrow),
            f"Every comparison at equal {name}.",
        ),
    }


def _points(verdict: Verdict) -> Table:
    results = verdict.results
    rows = [
        [
            each.text,
            each.point.rule,
            axis_name(own_axis(each)),
            f"{each.point.params / results.plan.dense_params:.3f}",
            *(_ratio(each, phase) for phase in results.phases),
            "-" if each.point.quality is None else f"{each.point.quality:+.3f}",
            interval_text(each.change_searched),
            interval_text(each.change),
        ]
        for each in results.frontier
    ]
    columns = (
        "configuration",
        "space",
        "chosen for",
        "params / dense",
        *(f"{phase} / dense, predicted and measured" for phase in results.phases),
        "NLL predicted",
        "on the half searched on",
        "on the other half",
    )
    return Table(columns=columns, rows=rows, wide=(0,))


def _duels(verdict: Verdict) -> Table:
    rows = []
    for duel in verdict.duels:
        theirs, ours = duel.baseline, duel.ours
        row = [
            axis_name(duel.axis),
            theirs.point.rule,
            theirs.point.label,
            cost_text(verdict, theirs, duel.axis),
            interval_text(theirs.change),
        ]
        row += ["-", "-"] if ours is None else [cost_text(verdict, ours, duel.axis), interval_text(ours.change)]
        noise = "" if duel.clear or duel.ours is None else ", costs equal within noise"
        rows.append([*row, interval_text(duel.difference), f"{duel.outcome}{noise}"])
    columns = (
        "equal",
        "rule",
        "baseline",
        "its cost / dense",
        "its change of NLL",
        "our cost / dense",
        "our change of NLL",
        "ours minus theirs",
        "",
    )
    return Table(columns=columns, rows=rows, wide=(2,))


def _stages(stages: Mapping[str, StageRecord]) -> Table:
    rows = [[name, each.note, seconds(each.seconds)] for name, each in stages.items()]
    return Table(columns=("stage", "what", "time"), rows=rows, wide=(1,))


def _searches(verdict: Verdict) -> Table:
    rows = [
        [
            curve.space,
            curve.objective,
            curve.configurations if len(curve.configurations) < 16 else f"{float(curve.configurations):.2e}",
            curve.count,
            curve.guarantee,
            seconds(curve.seconds),
        ]
        for curve in verdict.results.plan.curves
    ]
    return Table(columns=("space", "cost", "configurations", "points", "guarantee", "time"), rows=rows, wide=(4,))


def _ratio(each: Result, phase: str) -> str:
    timing = each.timings.get(phase)
    dense = each.dense_costs[phase]
    measured = "-" if timing is None else f"{timing.ratio:.3f} [{timing.ratio_low:.3f}, {timing.ratio_high:.3f}]"
    return f"{each.point.costs[phase] / dense:.3f}, {measured}"
