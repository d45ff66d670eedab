"""An exploration as rows, of text for people and of CSV. Makes strings, prints nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from costmodel.decomposition.prior import DESTROYED, METRIC
from costmodel.decomposition.text import describe
from costmodel.explore import Exploration
from costmodel.explore.answer import Answer, Found
from costmodel.explore.beside import Beside
from costmodel.explore.by_site.problem import metric_of
from costmodel.explore.distribution import Distribution
from costmodel.explore.objectives import Objective
from costmodel.explore.quality import QualityTable
from costmodel.explore.text import bars, objective_text

_ALIVE = f"with less than {DESTROYED:g} nat of damage by the prior"
"""How those are told of that the prior leaves alive, where the first of all is destroyed."""


def distribution_title(spreads: Iterable[Distribution | None]) -> str:
    """What the distributions are over, and how far a sample can be off."""
    known = [each for each in spreads if each]
    sampled = max((each for each in known if each.sampled), key=lambda each: len(each.exact), default=None)
    if sampled is None:
        return "Distribution over all configurations"
    marked = ", ~ over the sample" if any({"min", "max", "mean"} - set(each.exact) for each in known) else ""
    error = f"{100 * sampled.share_error:.1f} points"
    return (
        f"Distribution: min, mean and max over all configurations{marked}; the rest from {sampled.sampled:,} "
        f"samples, shares within {error}"
    )


def distribution_row(name: str, each: Distribution) -> list[str]:
    """Name, least, quantiles, mean, greatest and a histogram of one objective."""

    def text(value: float, key: str) -> str:
        return f"{'' if key in each.exact or not each.sampled else '~'}{objective_text(name, value)}"

    low, median, high = (objective_text(name, each.quantiles[q]) for q in ("0.01", "0.5", "0.99"))
    values = [text(each.minimum, "min"), low, median, text(each.mean, "mean"), high, text(each.maximum, "max")]
    return [name, *values, bars(each.counts, 16)]


def found_rows(result: Exploration, founds: Sequence[Found], step: int = 1) -> list[list[str]]:
    """A row for each configuration: its place, itself, its objectives with what they save, its damage."""
    rows = []
    for position, found in enumerate(founds):
        text = describe(result.space.config(found.number), result.space.model)
        saved = result.saved_pct(found.objectives)
        damage = result.damage_of(found.number)
        rows.append([str(1 + position * step), *_cells(text, found.objectives, saved, damage)])
    return rows


def beside_row(result: Exploration, beside: Beside) -> list[str]:
    """The configuration of a recipe or of the model's folder as a row like those of configurations."""
    text = describe(beside.config, result.space.model)
    return [beside.source, *_cells(text, beside.objectives, beside.saved_pct, beside.damage)]


def beside_title(result: Exploration, beside: Beside) -> str:
    """What the table of the recipe or of the model's folder says, the limits included where there are any."""
    what = "The recipe" if beside.source == "recipe" else "What the model's folder holds"
    if not result.question.limits:
        return f"{what} beside the search"
    return f"{what} beside the search, {'within' if beside.within else 'outside'} the limits"


def _cells(text: str, objectives: Mapping[str, float], saved: Mapping[str, float | None], damage: float) -> list[str]:
    """A configuration, its objectives with what they save, its damage unless that is one of them."""
    values = [
        objective_text(name, value) + (f" ({saved[name]:.1f} %)" if saved[name] is not None else "")
        for name, value in objectives.items()
    ]
    shown = text if len(text) <= 160 else f"{text[:140]} ... (in full: --format json)"
    return [shown, *values, *([] if "quality" in objectives else [f"{damage:.3g}"])]


def dense_row(result: Exploration) -> list[str]:
    """The dense model as a row like those of configurations."""
    dense = result.question.dense()
    values = [objective_text(name, value) for name, value in dense.items()]
    return ["", "dense", *values, *([] if "quality" in dense else ["0"])]


def top_title(result: Exploration) -> str:
    """What the list is ordered by; best only where it was measured what the configurations do to the answers."""
    objective = result.question.objectives[0]
    if result.measured:
        return f"Best by {objective.name} (saved)"
    if objective.part == "quality":
        return "Least damage as it is guessed, not measured"
    return f"{'Most' if objective.maximise else 'Least'} {objective.name} (saved), whatever it does to the answers"


def milder_title(result: Exploration, alive: Answer) -> str:
    """What the list of models that are likely alive is ordered by."""
    objective = result.question.objectives[0]
    order = f"{'Most' if objective.maximise else 'Least'} {objective.name} (saved)"
    return f"{order} {among_alive(objective, alive)}"


def among_alive(objective: Objective, answer: Answer) -> str:
    """Among which configurations the first was found, and how far it can be from the first of them in truth."""
    if not answer.top_gap:
        return _ALIVE
    return f"{_ALIVE}, within {objective_text(metric_of(objective).metric, answer.top_gap)} of the optimum"


def damage_title(result: Exploration) -> str:
    """What the column of damage is called."""
    return "damage" if result.measured else "damage (prior)"


def quality_label(quality: QualityTable) -> str:
    """What quality is, short enough for an axis; a guess says so."""
    name, _, more = quality.metric.partition(", ")
    return f"{name} (guessed)" if more and quality.stand_in else quality.metric


def damage_name(result: Exploration) -> str:
    """What the objective `quality` is here, in a sentence: its unit, and that a prior is none of it measured."""
    return "predicted damage in nats (a prior)" if result.damage.metric == METRIC else result.damage.metric


def destroyed(result: Exploration) -> list[str]:
    """A warning where the prior takes the first configuration's answers for lost."""
    if not result.answer.top or result.damage.metric != METRIC:
        return []
    damage = result.damage_of(result.answer.top[0].number)
    if damage < DESTROYED:
        return []
    return [
        f"likely destroyed: {damage:.2g} nats by a prior; limit it (--limit 'quality<=0.3'), or give ranks to choose "
        "from (--ranks 25%,50%,75%)"
    ]


def csv_rows(result: Exploration, beside: Beside | None = None) -> list[dict[str, object]]:
    """The rows of the CSV: the best, the frontier, the recipe; the configuration as JSON in the last column."""
    answer = result.answer
    rows: list[dict[str, object]] = []
    for name, founds in (("top", answer.top), ("frontier", answer.frontier)):
        for position, found in enumerate(founds):
            rows.append(
                {
                    "list": name,
                    "position": position,
                    **found.objectives,
                    "index": found.number,
                    "damage": result.damage_of(found.number),
                    "config": json.dumps(result.space.config(found.number).to_json()),
                }
            )
    if beside is not None:
        last = {"index": "", "damage": beside.damage, "config": json.dumps(beside.config.to_json())}
        rows.append({"list": beside.source, "position": 0, **beside.objectives, **last})
    return rows
