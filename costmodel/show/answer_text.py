"""The answer to an exploration's question in a sentence, and how far it can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from costmodel.explore.text import count_text, objective_text
from costmodel.show.exploration import damage_name, damage_title, destroyed
from costmodel.show.report import configuration_text, interval
from costmodel.units import percent

if TYPE_CHECKING:
    from costmodel.explore import Exploration
    from costmodel.pricing.estimate import Estimate


def answer_text(result: Exploration, priced: Estimate, among: str = "") -> str:
    """What was asked for and what is first, beside dense; where nothing keeps the limits, what comes nearest.

    Args:
        priced: `result.estimate_best()`.
        among: which of the configurations that keep the limits are listed, where not all are.
    """
    question, answer = result.question, result.answer
    limits = " and ".join(map(str, question.limits))
    asked = f"Of {count_text(result.space.size)} configurations"
    if not answer.top:
        nearest = "; ".join(each.text() for each in result.nearest) or "nothing was asked to be listed"
        return f"{asked}{f', none keeps {limits}' if limits else ''}: {nearest}."
    first, objective = answer.top[0], question.objectives[0]
    which = (
        "the best" if result.measured else "the one with the most" if objective.maximise else "the one with the least"
    )
    kept = (f" that keep {limits}" if limits else "") + (f" {among}" if among else "")
    what = damage_name(result) if objective.part == "quality" else objective.name
    text = f"{asked}, {which} {'by ' if result.measured else ''}{what}{kept} is "
    text += f"{configuration_text(result.best, result.space.model)}: "
    dense, saved = question.dense(), result.saved_pct(first.objectives)
    parts = [
        f"{damage_name(result)} {value:.3g} (dense {dense[name]:.3g})"
        if name == "quality"
        else f"{name} {objective_text(name, value)} (dense {objective_text(name, dense[name])}"
        + (f", {saved[name]:.1f} % less)" if saved[name] is not None else ")")
        for name, value in first.objectives.items()
    ]
    parts += [f"{damage_title(result)} {result.damage_of(first.number):.3g}"] * ("quality" not in first.objectives)
    return f"{text}{', '.join(parts)}."


def trust_lines(result: Exploration, priced: Estimate) -> list[str]:
    """Level and interval of each phase's latency, what damage is, what warns against the answer."""
    lines = []
    for phase in priced.phases:
        costs = phase.decomposed
        spread = f"90 % interval {interval(costs)}" if costs.latency_p05_s is not None else "no interval is known"
        saved = phase.saved["latency_pct"]
        less = "" if saved is None else f", {percent(saved / 100)} of dense saved"
        lines.append(f"{phase.workload.phase.value}: latency at {costs.level} level, {spread}{less}")
    measured = "measured" if result.measured else "not measured"
    lines.append(f"damage: {result.damage.metric}, {measured}")
    return [*lines, *(f"warning: {text}" for text in destroyed(result))]
