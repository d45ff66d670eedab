"""Several answers side by side, a row for each: what differs is in columns, what all share in the title."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from costmodel.decomposition.text import describe
from costmodel.explore.milder import milder
from costmodel.explore.text import count_text, objective_text
from costmodel.forward.workload import Phase, Workload
from costmodel.pricing.estimate import Estimate
from costmodel.pricing.phase_estimate import PhaseEstimate
from costmodel.pricing.several import IMPOSSIBLE, Place, Refusal
from costmodel.show.exploration import among_alive
from costmodel.show.report import amount, configuration_text, duration, energy, rate
from costmodel.timing.columns import BOUNDS
from costmodel.units import percent, si

if TYPE_CHECKING:
    from costmodel.explore import Exploration


_VERDICTS = ("verdict", "fits", "configuration")
"""Columns that say of a row that it cannot be answered; else the last one does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Cells of a comparison; `left` columns are flush left, `notes` are lines below it."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int
    notes: tuple[str, ...] = ()


def place(hardware: str, work: Workload | Place, *, phase: bool = True) -> dict[str, str]:
    """What was asked of where: the cells that tell one answer of a comparison from another."""
    length = f"{work.q_len}" if work.phase is Phase.PREFILL else f"{work.kv_len}"
    return {
        "device": hardware,
        "stack": work.stack or "bare",
        "devices": _shared_out(work),
        **({"phase": work.phase.value} if phase else {}),
        "batch": f"{work.batch}",
        "tokens": length,
    }


def table(
    title: str, places: Sequence[dict[str, str]], cells: Sequence[dict[str, str] | None], notes: Sequence[str] = ()
) -> Table:
    """A table of places and cells, one of each a row; what is the same in every place goes to the title. A row without
    cells, of which not all are, is one that cannot be answered."""
    columns = next(row for row in cells if row is not None)
    verdicts = [column for column in columns if column in _VERDICTS][:1] or [*columns][-1:]
    empty = {column: IMPOSSIBLE if column in verdicts else "-" for column in columns}
    varying = [key for key in places[0] if len({row[key] for row in places}) > 1] or ["device"]
    same = [_said(key, value) for key, value in places[0].items() if key not in varying]
    return Table(
        title=", ".join(part for part in (title, *same) if part),
        columns=(*varying, *columns),
        rows=tuple(
            (*(row[key] for key in varying), *(empty if values is None else values).values())
            for row, values in zip(places, cells, strict=True)
        ),
        left=len(varying),
        notes=tuple(dict.fromkeys(notes)),
    )


def estimates_table(results: Sequence[Estimate | Refusal]) -> Table:
    """Estimates of one configuration, a row for each phase; at least one is none that was refused."""
    first = next(result for result in results if isinstance(result, Estimate))
    plain = not first.decomposition.factors and not first.decomposition.dropped
    works = _works(results)

    def notes(result: Estimate) -> list[str]:
        verdicts = [
            f"{where(result.hardware.name, phase.workload, works)}: {phase.verdict.text}"
            for phase in result.phases
            if not plain and phase.verdict.code != "gain"
        ]
        return [*verdicts, *(f"warning: {text}" for text in result.warnings)]

    return _phases_table(results, works, _dense_cells if plain else _cells, notes)


def rooflines_table(results: Sequence[Estimate | Refusal]) -> Table:
    """Where passes lie on their devices' rooflines, a row for each phase: intensity, rate, and what limits the time; at
    least one of the results is none that was refused."""
    return _phases_table(results, _works(results), _bound_cells, lambda _: [])


def _phases_table(
    results: Sequence[Estimate | Refusal],
    works: Sequence[Workload | Place],
    cells: Callable[[PhaseEstimate], dict[str, str]],
    notes: Callable[[Estimate], list[str]],
) -> Table:
    """A row for each phase, of what was refused too; `works` is what was asked in each."""
    first = next(result for result in results if isinstance(result, Estimate))
    places, rows, said = [], list[dict[str, str] | None](), list[str]()
    for result in results:
        if isinstance(result, Refusal):
            places += [place(result.hardware, work) for work in result.places]
            rows += [None] * len(result.places)
            said += refusal_notes(result, works)
        else:
            places += [place(result.hardware.name, phase.workload) for phase in result.phases]
            rows += [cells(phase) for phase in result.phases]
            said += notes(result)
    return table(f"{first.model.name}: {configuration_text(first.decomposition, first.model)}", places, rows, said)


def _works(results: Sequence[Estimate | Refusal]) -> list[Workload | Place]:
    """What was asked in each row."""
    works: list[Workload | Place] = []
    for result in results:
        works += result.places if isinstance(result, Refusal) else [phase.workload for phase in result.phases]
    return works


def refusal_notes(refusal: Refusal, works: Sequence[Workload | Place]) -> list[str]:
    """Why a question of a comparison is not answered: a line for each of its rows."""
    return [f"{where(refusal.hardware, work, works)}: {refusal.text}" for work in refusal.places]


def where(hardware: str, work: Workload | Place, among: Sequence[Workload | Place] = ()) -> str:
    """A place in words: `l4, vllm, decode, batch 32`; of several questions what else tells it from the others."""
    parts = [hardware, work.stack or ("bare" if any(other.stack for other in among) else "")]
    if any(other.devices > 1 for other in (work, *among)):
        parts.append(_said("devices", _shared_out(work)) or "1 device")
    parts += [work.phase.value, f"batch {work.batch}"]
    alike = [other for other in among if other.phase is work.phase]
    if len({(other.q_len, other.kv_len) for other in alike}) > 1:
        parts.append(f"{work.q_len if work.phase is Phase.PREFILL else work.kv_len} tokens")
    return ", ".join(part for part in parts if part)


def _shared_out(work: Workload | Place) -> str:
    """How many devices, and where not all of them share out each weight, which way: `4 (tp 2, pp 2)`."""
    ways = ", ".join(f"{name} {size}" for name, size in work.split.items() if size > 1)
    return f"{work.devices} ({ways})" if max(work.ep, work.pp) > 1 else f"{work.devices}"


def saving_text(saved: float | None, low: float | None, high: float | None) -> tuple[str, str]:
    """A saving and its interval in percent, `33.1 %` and `18 to 45 %`; `unknown` where there is none."""
    middle = "unknown" if saved is None else f"{saved:.1f} %"
    return middle, "unknown" if low is None or high is None else f"{low:.0f} to {high:.0f} %"


def _said(key: str, value: str) -> str:
    if key in ("device", "phase"):
        return value
    if key == "stack":
        return "" if value == "bare" else value
    if key == "devices":
        number, space, how = value.partition(" ")
        return "" if value == "1" else f"{number} devices{space}{how}"
    return f"batch {value}" if key == "batch" else f"{value} tokens"


def _cells(phase: PhaseEstimate) -> dict[str, str]:
    saved = phase.saved
    middle, ends = saving_text(saved["latency_pct"], saved["latency_p05_pct"], saved["latency_p95_pct"])
    return {
        "dense": duration(phase.dense.latency_s),
        "factored": duration(phase.decomposed.latency_s),
        "saved": middle,
        "90 % interval": ends,
        "peak memory": amount(phase.decomposed.peak_memory_bytes, "B"),
        "verdict": phase.verdict.code,
    }


def _dense_cells(phase: PhaseEstimate) -> dict[str, str]:
    costs = phase.dense
    return {
        "latency": duration(costs.latency_s),
        "throughput": rate(costs.tokens_per_s, "tok/s"),
        "energy": energy(costs.energy_j),
        "peak memory": amount(costs.peak_memory_bytes, "B"),
        "fits": "yes" if costs.fits else "no",
    }


def _bound_cells(phase: PhaseEstimate) -> dict[str, str]:
    _, timings = phase.ops()
    seconds, bounds = timings.latency_s, np.array(timings.bound())
    whole = float(seconds.sum())
    costs, working_s = phase.decomposed, phase.working_s
    return {
        "intensity": f"{costs.arithmetic_intensity:.3g} FLOP/B",
        "achieved": si(costs.flops / working_s, "FLOP/s"),
        **{f"{name}-bound": percent(float(seconds[bounds == name].sum()) / whole, 0) for name in BOUNDS},
        "host": percent(max(0.0, 1 - costs.device_s / working_s), 0),
    }


def explorations_table(results: Sequence[Exploration | Refusal]) -> Table:
    """Explorations of one model, a row for each: how many configurations keep the limits, the first of them, and what
    it changes against dense; at least one is none that was refused."""
    answered = [result for result in results if not isinstance(result, Refusal)]
    first = answered[0]
    phases = "" if len(first.workloads) == 1 else " and ".join(work.phase.value for work in first.workloads)
    works = [result.places[-1] if isinstance(result, Refusal) else result.workloads[-1] for result in results]
    notes: list[str] = []
    for result in results:
        notes += refusal_notes(result, works)[-1:] if isinstance(result, Refusal) else _notes(result)
    return table(
        ", ".join(
            part
            for part in (
                first.space.model.name,
                f"{first.space.kind} space by {first.question.objectives[0].name}",
                phases,
            )
            if part
        ),
        [place(result.hardware, work, phase=not phases) for result, work in zip(results, works, strict=True)],
        [None if isinstance(result, Refusal) else _first_cells(result) for result in results],
        [*notes, *_machine_notes(answered)],
    )


def _machine_notes(results: Sequence[Exploration]) -> list[str]:
    """Where numbers of devices are compared under limits, the least that keeps them, a line for each machine."""
    from costmodel.explore.machines import by_machine, fewest_devices

    notes = []
    for group in by_machine(results):
        if len(group) > 1 and group[0].question.limits:
            found, place = fewest_devices(group), where(group[0].hardware, group[0].workloads[0])
            numbers = ", ".join(_shared_out(result.workloads[0]) for result in group)
            first = _shared_out(found.workloads[0]) if found else "none"
            count = f"{first} of {numbers} devices"
            notes.append(f"{place}: the fewest within the limits: {count}")
    return notes


def _first_cells(result: Exploration) -> dict[str, str]:
    answer, objective = result.answer, result.question.objectives[0]
    dense = result.question.dense()[objective.name]
    share = answer.matching_share
    counted = "unknown" if share is None else f"~{100 * share['share']:.2g} %"
    cells = {
        "within limits": counted if answer.matching is None else count_text(answer.matching),
        "dense": objective_text(objective.name, dense),
    }
    if not answer.top:
        return {**cells, "first": "-", "saved": "-", "configuration": "none"}
    alive = milder(result)
    if alive is not None and not alive.top:
        return {**cells, "first": "-", "saved": "-", "configuration": "none alive is ahead of dense"}
    top = (answer if alive is None else alive).top[0]
    value = top.objectives[objective.name]
    return {
        **cells,
        "first": objective_text(objective.name, value),
        "saved": f"{100 * (dense - value) / dense:.1f} %" if dense and not objective.maximise else "-",
        "configuration": describe(result.space.config(top.number), result.space.model),
    }


def _notes(result: Exploration) -> list[str]:
    limits = [f"within {', '.join(map(str, result.question.limits))}"] if result.question.limits else []
    alive = milder(result)
    among = [] if alive is None else [f"first: {among_alive(result.question.objectives[0], alive)}"]
    return [*limits, *among, f"guarantee: {result.answer.guarantee}"]
