"""An exploration as an interactive page: frontier over a cloud, filters, one configuration in detail, distributions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from costmodel.decomposition.factors import break_even_rank
from costmodel.decomposition.sites import column_labels
from costmodel.errors import InputError
from costmodel.explore.milder import opening
from costmodel.explore.objectives import Objective, Priced, parse_objectives
from costmodel.show.answer_text import answer_text, trust_lines
from costmodel.show.exploration import among_alive, quality_label
from costmodel.show.explore_maps import map_data, maps
from costmodel.show.page import make_page
from costmodel.units import unit_of

if TYPE_CHECKING:
    from costmodel.arrays import Choices
    from costmodel.explore import Exploration
    from costmodel.explore.tables import CostBatch

CLOUD = 1500
FRONTIER = 400
"""Points of the frontier on the page; of a longer one evenly spaced ones."""
_LETTERS = 600_000
"""Most characters for all configurations together; the cloud shrinks where a model has many sites."""
_DIGITS = 7
_PER_PHASE = (
    "latency_s",
    "saved.latency_pct",
    "peak_memory_bytes",
    "saved.peak_memory_pct",
    "energy_j",
    "saved.energy_pct",
)
_BASE36 = "0123456789abcdefghijklmnopqrstuvwxyz"


def explore_page(result: Exploration, command: str) -> str:
    """A self-contained HTML page of an exploration.

    Args:
        result: from `explore`, with two objectives or more.
        command: the `costmodel estimate` command that prices a configuration of it, without the configuration.

    Raises:
        InputError: when fewer than two objectives were asked for.
    """
    whole, result = result, opening(result)
    question, space, answer = result.question, result.space, result.answer
    if len(question.objectives) < 2:
        raise InputError(
            "a report needs two objectives",
            value=[each.name for each in question.objectives],
            hint="name another one with --objectives",
        )
    model = space.model
    numbers = [found.number for found in _thinned(answer.frontier)]
    best = [found.number for found in answer.top]
    width = 2 if max(len(set(row)) for row in space.ranks) >= len(_BASE36) else 1
    room = _LETTERS // (width * model.num_layers * len(model.tensors)) - len(numbers) - len(best) - 1
    cloud = space.sample_choices(int(max(50, min(CLOUD, room, space.valid_size))), seed=0)
    listed: Choices = np.stack([space.choices(number) for number in (0, *best, *numbers)])
    choices = np.concatenate([listed, cloud])
    columns, values = _columns(result, choices)
    kinds = ["dense", *["best"] * len(best), *["frontier"] * len(numbers), *["sample"] * len(cloud)]
    known = {name: each for name, each in answer.distribution.items() if each is not None}
    priced = result.estimate_best()
    data = {
        "title": f"{model.name} on {result.hardware}",
        "answer": answer_text(result, priced, "" if result is whole else among_alive(question.objectives[0], answer)),
        "trust": trust_lines(result, priced),
        "assumptions": list(priced.assumptions),
        "measured": result.measured,
        "alive": result is not whole,
        "subtitle": _subtitle(result),
        "guarantee": answer.guarantee,
        "configurations": f"{space.size:,}"
        if space.size < 10**18
        else f"about {float(space.size):.3g}"
        if space.size < 10**300
        else f"about 10^{len(str(space.size)) - 1}",
        "matching": None if answer.matching is None else f"{answer.matching:,}",
        "limits": [str(limit) for limit in question.limits],
        "frontier_size": len(answer.frontier),
        "quality": question.tables.quality
        and {"metric": question.tables.quality.metric, "stand_in": question.tables.quality.stand_in},
        "form": space.form,
        "layers": model.num_layers,
        "command": command,
        "model": model.name,
        "width": width,
        "tensors": [
            {
                "name": label,
                "shape": [t.out_features, t.in_features],
                "ranks": list(ranks),
                "break_even": break_even_rank(t.out_features, t.in_features, space.form),
            }
            for t, label, ranks in zip(model.tensors, column_labels(model), space.ranks, strict=True)
        ],
        "columns": columns,
        "objectives": [each.name for each in question.objectives],
        "points": [
            {"kind": kind, "values": row, "sites": sites}
            for kind, row, sites in zip(kinds, values, _encoded(choices, width), strict=True)
        ],
        "distribution": {
            name: {
                "edges": _short(each.edges),
                "counts": [count / max(1, sum(each.counts)) for count in each.counts],
                "sampled": each.sampled,
            }
            for name, each in known.items()
        },
    }
    first = listed[min(1, len(listed) - 1)]
    return make_page(
        "explore", f"Design space: {data['title']}", {**data, **map_data(result)}, maps=maps(result, first)
    )


def _thinned(found: Sequence[Any]) -> list[Any]:
    if len(found) <= FRONTIER:
        return list(found)
    return [found[round(place * (len(found) - 1) / (FRONTIER - 1))] for place in range(FRONTIER)]


def _columns(result: Exploration, choices: Choices) -> tuple[list[dict[str, Any]], list[list[float]]]:
    """Every cost that the page can show, and a row of them for each configuration."""
    question = result.question
    phases = tuple(work.phase.value for work in result.workloads)
    priced = Priced(phases=phases, request=result.new_tokens is not None, quality=question.tables.quality is not None)
    names = [each.name for each in question.objectives]
    names += [f"{phase}.{metric}" for phase in phases for metric in _PER_PHASE]
    names += ["params", f"{phases[0]}.saved.params_pct"]
    names += ["request.latency_s"] * priced.request + ["quality"] * priced.quality
    batch = question.tables.batch(choices)
    kept, parts = [], []
    for objective in parse_objectives(list(dict.fromkeys(names)), priced):
        column = _values(objective, batch)
        if column is not None:
            kept.append(
                {
                    "name": objective.name,
                    "label": _label(objective, question.tables.quality),
                    "unit": _unit(objective),
                    "more": objective.maximise,
                }
            )
            parts.append(column)
    table = np.stack(parts, axis=-1)
    return kept, [_short(row) for row in table.tolist()]


def _values(objective: Objective, batch: CostBatch) -> Any:
    try:
        return np.asarray(objective.values(batch), dtype=np.float64)
    except InputError:
        return None  # a cost that the profile cannot give, such as energy without a power figure


def _label(objective: Objective, quality: Any) -> str:
    if objective.part == "quality":
        return quality_label(quality)
    words = objective.metric
    for suffix in ("_s", "_bytes", "_j"):
        words = words.removesuffix(suffix)
    words = words.replace("_", " ").replace("params", "parameters")
    part = "" if objective.metric in ("params", "weight_bytes") else f"{objective.part} "
    return f"{part}{words}{' saved' if objective.saving == 'pct' else ' speed-up' if objective.saving else ''}"


def _unit(objective: Objective) -> str:
    if objective.part == "quality":
        return ""
    return unit_of(f"_{objective.saving}" if objective.saving == "pct" else objective.saving or objective.metric)


def _short(row: Sequence[float]) -> list[float]:
    return [float(f"{value:.{_DIGITS}g}") for value in row]


def _encoded(choices: Choices, width: int) -> list[str]:
    """The candidate at each site, layer by layer, in base 36 with `width` digits; 0 is dense."""
    symbols = [a + b for a in (_BASE36 if width == 2 else [""]) for b in _BASE36]
    return ["".join(symbols[choice] for choice in each.ravel().tolist()) for each in choices]


def _subtitle(result: Exploration) -> str:
    work = result.workloads[-1]
    phases = ", ".join(
        f"prefill of {each.q_len} tokens" if each.phase.value == "prefill" else f"decode with kv-len {each.kv_len}"
        for each in result.workloads
    )
    space = f"{result.space.kind} space, form {result.space.form}"
    return f"{space}; {phases}; batch {work.batch}, {work.dtype.value}, {work.runtime.value}"
