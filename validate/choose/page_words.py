"""What the page about a loop says in sentences: of what, what was found, the choice, a point of the plan. No torch."""

from __future__ import annotations

from validate.choose.baselines import RULES
from validate.choose.duels import SIZE, axis_of, cost
from validate.choose.points import Point
from validate.choose.results import Result
from validate.choose.settings import Settings
from validate.choose.verdict import Verdict
from validate.interval import interval_text


def about(settings: Settings, verdict: Verdict) -> str:
    """What was asked of which model, and what was measured on what."""
    results = verdict.results
    tokens = sum(results.dense.verified.tokens)
    return (
        f"{results.name}; {settings.factors} factors; {results.fitted.sentence}; "
        f"{len(results.points)} chosen ones and baselines measured on {tokens:,} other tokens; latency on "
        f"{results.device}, batch {settings.batch_size}, {settings.seq_len} tokens"
    )


def finding(verdict: Verdict) -> str:
    """The choice, what casts doubt on it, and how the configurations found stand beside baselines."""
    sentences = [_choice_text(verdict), *verdict.doubts, as_sentence(verdict.standing.sentence)]
    for axis in verdict.axes:
        counts, clear = verdict.counts(axis), verdict.counts(axis, clear=True)
        total = sum(counts.values())
        sentence = (
            f"At equal {axis_name(axis)} the configurations found are better than {counts['better']} of {total} "
            "baselines"
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
        f"{cost_text(verdict, verdict.choice, SIZE)} of dense in size, "
        f"{interval_text(verdict.choice.change)} nats on text that nothing was chosen by."
    )


def point_text(point: Point) -> str:
    """Which point of the plan it is, in words."""
    if point.role == "baseline":
        return f"{RULES[point.rule]}, {point.label}"
    if point.role == "frontier":
        objective = point.label.rpartition(" ")[0]
        return f"found on the predicted frontier of {axis_name(axis_of(objective))}, {point.rule}"
    objective, _, named = point.label.partition(" of ")
    rule, _, label = named.partition(", ")
    return f"the best found at the {axis_name(axis_of(objective))} of a baseline ({RULES[rule]}, {label})"


def as_sentence(text: str) -> str:
    """A text with a capital and a full stop."""
    return f"{text[0].upper()}{text[1:]}."


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


def axis_name(axis: str) -> str:
    """What configurations were made equal in."""
    return axis if axis == SIZE else f"{axis} latency"


def cost_text(verdict: Verdict, each: Result, axis: str) -> str:
    """A configuration's cost over dense."""
    value = cost(each, axis) / (verdict.results.plan.dense_params if axis == SIZE else 1)
    return f"{value:.3f}"
