"""One self-contained page about a loop: what was found, what it beats, how far the prediction held. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from costmodel.show.site_map import SiteMap
from costmodel.units import percent, seconds
from validate.choose.baselines import RULES
from validate.choose.duels import SIZE, axis_of, cost, own_axis
from validate.choose.figures import duel_plot, trade_off
from validate.choose.page_survival import survival_section
from validate.choose.points import Point
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
        about=_about(settings, verdict),
        finding=_finding(verdict),
        summary=_tiles(verdict),
        maps=maps,
        costs=[_cost(verdict, moved, axis) for axis in verdict.axes],
        survival=survival_section(verdict),
        moved="" if moved is None or not moved.shifts else _sentence(moved.sentence),
        points=_points(verdict),
        duels=_duels(verdict),
        settings=settings,
        total=seconds(total),
        stages=_stages(stages),
        searches=_searches(verdict),
    )


def _about(settings: Settings, verdict: Verdict) -> str:
    results = verdict.results
    tokens = sum(results.dense.verified.tokens)
    return (
        f"{results.name}; {settings.factors} factors; {results.fitted.sentence}; "
        f"{len(results.points)} chosen ones and baselines measured on {tokens:,} other tokens; latency on "
        f"{results.device}, batch {settings.batch_size}, {settings.seq_len} tokens"
    )


def _finding(verdict: Verdict) -> str:
    sentences = [_choice_text(verdict), *verdict.doubts, _sentence(verdict.standing.sentence)]
    for axis in verdict.axes:
        counts, clear = verdict.counts(axis), verdict.counts(axis, clear=True)
        total = sum(counts.values())
        sentence = (
            f"At equal {_axis(axis)} the configurations found are better than {counts['better']} of {total} baselines"
        )
        if axis != SIZE:
            sentence += f" ({clear['better']} of them at a latency that is no more beyond noise)"
        sentence += f", level with {counts['level']}, worse than {counts['worse']}"
        others = {
            "dense": "are met by the dense model, no worse",
            "same": "were found themselves",
            "none": "cost less than anything found",
        }
        said = [f"{counts[name]} {words}" for name, words in others.items() if counts[name]]
        sentences.append("; ".join([sentence, *said]) + ".")
    return " ".join(sentences)


def _choice_text(verdict: Verdict) -> str:
    """What was chosen, and what it was measured to cost."""
    if verdict.choice is None:
        return (
            f"The choice is the dense model: nothing is faster than it within {verdict.accept:g} nats, and there is "
            "nothing to apply."
        )
    return (
        f"The choice within {verdict.accept:g} nats, {point_text(verdict.choice.point)}: {choice_latency(verdict)}, "
        f"{_cost_text(verdict, verdict.choice, SIZE)} of dense in size, "
        f"{interval_text(verdict.choice.change)} nats on text that nothing was chosen by."
    )


def point_text(point: Point) -> str:
    """Which point of the plan it is, in words."""
    if point.role == "baseline":
        return f"{RULES[point.rule]}, {point.label}"
    if point.role == "frontier":
        objective = point.label.rpartition(" ")[0]
        return f"found on the predicted frontier of {_axis(axis_of(objective))}, {point.rule}"
    objective, _, named = point.label.partition(" of ")
    rule, _, label = named.partition(", ")
    return f"the best found at the {_axis(axis_of(objective))} of a baseline ({RULES[rule]}, {label})"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def _tiles(verdict: Verdict) -> list[tuple[str, str, bool]]:
    survival, optimism = verdict.survival, verdict.optimism
    tiles = []
    for axis in verdict.axes:
        counts = verdict.counts(axis)
        text = f"{counts['better']} / {counts['level']} / {counts['worse']}"
        tiles.append((text, f"better / level / worse at equal {_axis(axis)}", bool(counts["worse"])))
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
    name = _axis(axis)
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
            _axis(own_axis(each)),
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
            _axis(duel.axis),
            theirs.point.rule,
            theirs.point.label,
            _cost_text(verdict, theirs, duel.axis),
            interval_text(theirs.change),
        ]
        row += ["-", "-"] if ours is None else [_cost_text(verdict, ours, duel.axis), interval_text(ours.change)]
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


def _axis(axis: str) -> str:
    return axis if axis == SIZE else f"{axis} latency"


def _ratio(each: Result, phase: str) -> str:
    timing = each.timings.get(phase)
    dense = each.dense_costs[phase]
    measured = "-" if timing is None else f"{timing.ratio:.3f} [{timing.ratio_low:.3f}, {timing.ratio_high:.3f}]"
    return f"{each.point.costs[phase] / dense:.3f}, {measured}"


def _cost_text(verdict: Verdict, each: Result, axis: str) -> str:
    value = cost(each, axis) / (verdict.results.plan.dense_params if axis == SIZE else 1)
    return f"{value:.3f}"


def choice_latency(verdict: Verdict) -> str:
    """Latency of the choice beside dense, timed again or, where it was not, as selected."""
    found = []
    for phase in verdict.results.phases:
        timing, again = verdict.choice_timing(phase)
        if timing is None:
            found.append(f"{phase} latency not measured")
            continue
        text = f"{timing.ratio:.3f} [{timing.ratio_low:.3f}, {timing.ratio_high:.3f}] of dense in {phase} latency"
        if timing.ratio_high >= 1:
            text += ", not clearly less"
        kind = (
            "timed again"
            if again
            else "selected as the least, so optimistic; the loop with this --accept times it again"
        )
        found.append(f"{text} ({kind})")
    return ", ".join(found)
