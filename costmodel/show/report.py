"""An estimate as rows of text: for tables and CSV. Makes strings, prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from costmodel.decomposition.factors import Decomposition, LowRank
from costmodel.decomposition.held import held
from costmodel.decomposition.sites import site_columns
from costmodel.decomposition.text import describe, describe_layers, rank_span
from costmodel.forward.workload import LmHead, Phase
from costmodel.model import ModelSpec
from costmodel.pricing.estimate import Estimate
from costmodel.pricing.phase import PhaseCosts
from costmodel.pricing.phase_estimate import PhaseEstimate
from costmodel.pricing.saving import saved_pct
from costmodel.pricing.several import Refusal
from costmodel.units import percent, seconds, si, significant

if TYPE_CHECKING:
    from costmodel.pricing.request import Request, RequestCosts

DIGITS = 4
"""Significant digits of a cost in a table."""
MAX_CONFIGURATION = 240
"""Longest text of SPECs that is shown whole."""


def amount(value: float, unit: str) -> str:
    """A cost with a prefix and all its digits, so that a column lines up: `13.80 GB`."""
    return si(value, unit, DIGITS, pad=value >= 1000 or value % 1 > 0)


def duration(value: float) -> str:
    """A time with all its digits: `1.700 ms`."""
    return seconds(value, DIGITS, pad=True)


def rate(value: float, unit: str) -> str:
    """A number that people compare without a prefix: `17,046 tok/s`, `0.998 FLOP/B`."""
    return f"{value:,.0f} {unit}" if value >= 999.5 else f"{significant(value, DIGITS, pad=True)} {unit}"


def energy(value: float | None) -> str:
    """Joules, below one millijoules; `unknown` for None."""
    if value is None:
        return "unknown"
    return amount(value * 1e3, "mJ") if 0 < value < 1 else amount(value, "J")


def saving(before: float | None, after: float | None) -> str:
    """The saving of `after` over `before`, in percent; negative where it costs more."""
    saved = saved_pct(before, after)
    return "" if saved is None else f"{round(saved, 2) + 0.0:.2f} %"


_METRICS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("parameters", "params", lambda value: f"{value:,}"),
    ("weights", "weight_bytes", lambda value: amount(value, "B")),
    ("matrix FLOPs", "flops", lambda value: amount(value, "FLOP")),
    ("memory traffic", "hbm_bytes", lambda value: amount(value, "B")),
    ("intensity", "arithmetic_intensity", lambda value: rate(value, "FLOP/B")),
    ("kernels", "kernels", lambda value: f"{value:,}"),
    ("device time", "device_s", duration),
    ("in collectives", "communication_s", duration),
    ("host launch time", "host_s", duration),
    ("latency", "latency_s", duration),
    ("throughput", "tokens_per_s", lambda value: rate(value, "tok/s")),
    ("KV cache", "kv_cache_bytes", lambda value: amount(value, "B")),
    ("peak memory", "peak_memory_bytes", lambda value: amount(value, "B")),
    ("energy", "energy_j", energy),
)
"""Label, contract key, and how to show it."""
_NO_SAVING = ("tokens_per_s", "arithmetic_intensity")
_WHERE_THERE = ("kv_cache_bytes", "communication_s")
"""Shown where there is any."""
_TWO_CLOCKS = ("device_s", "host_s")
"""Shown where the host launches kernels beside the device; elsewhere the latency is the device's time."""


def configuration_text(decomposition: Decomposition, model: ModelSpec) -> str:
    """The configuration as SPECs, or its extent where they would fill the screen; with a word where it is what the
    model's folder holds."""
    own = " (what its folder holds)" if decomposition == held(model) else ""
    text = describe(decomposition, model)
    if len(text) <= MAX_CONFIGURATION:
        return f"{text}{own}"
    parts = []
    for form, two_factor in (("svd", True), ("tucker", False)):
        ranks = [f.ranks for f in decomposition.factors.values() if isinstance(f, LowRank) is two_factor]
        if ranks:
            parts.append(f"{len(ranks)} of {len(site_columns(model))} sites {form} of rank {rank_span(ranks)}")
    if decomposition.dropped:
        parts.append(f"{describe_layers(decomposition.dropped)} dropped")
    return f"{', '.join(parts)} (JSON output has each){own}"


def phase_title(phase: PhaseEstimate) -> str:
    """What was run, in one line."""
    work = phase.workload
    length = f"{work.q_len} tokens" if work.phase is Phase.PREFILL else f"kv-len {work.kv_len}"
    weights = f", {work.site_dtype.value} weights" if work.site_dtype is not work.dtype else ""
    logits = ", all logits" if work.lm_head is LmHead.ALL and not phase.pricer.model.is_encoder else ""
    runtime = work.runtime.value
    if work.stack not in (None, runtime):
        runtime = f"{work.stack} ({runtime})"
    split = f", each of {work.devices} devices" if work.devices > 1 else ""
    if work.pp > 1:
        many = f", {work.microbatches} microbatches" if work.microbatches > 1 else ""
        split = f", one device of each of {work.pp} stages together{many}"
    return (
        f"{work.phase.value}: batch {work.batch}, {length}{logits}, {work.dtype.value}{weights}, {runtime}, "
        f"{work.attention.value} attention, {phase.decomposed.level} level{split}"
    )


def phase_rows(phase: PhaseEstimate) -> list[tuple[str, str, str, str]]:
    """Label, dense, decomposed and saving of each cost."""
    rows = []
    for label, name, show in _METRICS:
        before, after = getattr(phase.dense, name), getattr(phase.decomposed, name)
        if (name in _TWO_CLOCKS and not phase.dense.host_s) or (name in _WHERE_THERE and not before):
            continue
        rows.append((label, show(before), show(after), "" if name in _NO_SAVING else saving(before, after)))
        if name == "latency_s":
            rows.append(("  bounds", bounds(phase.dense), bounds(phase.decomposed), ""))
            if phase.dense.latency_p05_s is not None:
                rows.append(("  90 % interval", interval(phase.dense), interval(phase.decomposed), ""))
    return rows


def whole_rows(phase: PhaseEstimate) -> list[tuple[str, str, str, str]]:
    """The same of all devices together."""
    whole = phase.whole()
    before, after = whole["dense"], whole["decomposed"]
    rows = []
    for label, name, show in (*_METRICS, ("per device", "tokens_per_s_per_device", lambda value: rate(value, "tok/s"))):
        if name in before and not (name in _WHERE_THERE and not before[name]):
            share = "" if name.startswith("tokens_per_s") else saving(before[name], after[name])
            rows.append((label, show(before[name]), show(after[name]), share))
    return rows


def stage_rows(phase: PhaseEstimate) -> list[tuple[str, str, str, str, str, str]]:
    """For each stage of a pipeline, decomposed: what one of its devices holds, and its time of a microbatch."""
    return [
        (
            f"{place + 1}",
            f"{stage.layers}",
            amount(stage.weight_bytes, "B"),
            amount(stage.kv_cache_bytes, "B"),
            amount(stage.peak_memory_bytes, "B"),
            duration(stage.latency_s),
        )
        for place, stage in enumerate(phase.stages())
    ]


def bounds(costs: PhaseCosts) -> str:
    """The model's lower and upper bound of latency."""
    return _between(costs.latency_lower_s, costs.latency_upper_s)


def interval(costs: PhaseCosts) -> str:
    """The calibrated 90 % interval of latency."""
    if costs.latency_p05_s is None or costs.latency_p95_s is None:
        return "unknown"
    return _between(costs.latency_p05_s, costs.latency_p95_s)


def _between(low: float, high: float) -> str:
    """`30.04 - 37.98 ms`; the unit once where both have it."""
    first, last = duration(low), duration(high)
    if first == last:
        return first
    number, _, unit = first.partition(" ")
    return f"{number if last.endswith(f' {unit}') else first} - {last}"


def op_groups(phase: PhaseEstimate) -> list[tuple[str, str, str, str, str, str]]:
    """Operations by role: role, dense time, number and time in the decomposed pass, its share, what limits most of it.

    A role is a tensor's name for a decomposable linear, a module's name outside the layers, else the kind.
    """
    dense, decomposed = _grouped(phase, "dense"), _grouped(phase, "decomposed")
    everything = sum(entry["seconds"] for entry in decomposed.values()) or 1.0
    rows = []
    for role in {**dense, **decomposed}:
        now = decomposed.get(role, {"count": 0, "seconds": 0.0, "bounds": {}})
        bound = max(now["bounds"], key=now["bounds"].__getitem__, default="-")
        before = dense.get(role, {"seconds": 0.0})["seconds"]
        rows.append(
            (
                role,
                duration(before),
                str(now["count"]),
                duration(now["seconds"]),
                percent(now["seconds"] / everything),
                bound,
            )
        )
    return rows


def _grouped(phase: PhaseEstimate, which: Literal["dense", "decomposed"]) -> dict[str, dict[str, Any]]:
    """Of all microbatches, so that what is counted and the times add up to those of the pass."""
    (counts, timings), many = phase.counted_ops(which), phase.workload.microbatches
    groups: dict[str, dict[str, Any]] = {}
    for (op, count), latency, bound in zip(counts, timings.latency_s.tolist(), timings.bound(), strict=True):
        bound = "communication" if op.cost.message_bytes else bound
        entry = groups.setdefault(op.role, {"count": 0, "seconds": 0.0, "bounds": {}})
        entry["count"] += many * count
        entry["seconds"] += many * count * latency
        entry["bounds"][bound] = entry["bounds"].get(bound, 0.0) + count * latency
    return groups


def op_lines(phase: PhaseEstimate) -> list[tuple[str, str, str, str, str, str, str]]:
    """Every operation of the decomposed pass: name, shape, FLOPs, traffic, intensity, time, what limits it."""
    rows = []
    for row in phase.op_rows():
        shape = "" if row["m"] is None else f"{row['m']} x {row['n']} x {row['k']}"
        rows.append(
            (
                row["name"],
                shape,
                amount(row["flops"], "FLOP") if row["flops"] else "-",
                amount(row["hbm_bytes"], "B"),
                f"{row['arithmetic_intensity']:.1f}",
                duration(row["latency_s"]),
                row["bound"],
            )
        )
    return rows


def request_rows(request: Request) -> list[tuple[str, str, str, str]]:
    """Label, dense, decomposed and saving of a whole request."""
    before, after = request.dense, request.decomposed
    rows = [
        (
            label,
            duration(getattr(before, name)),
            duration(getattr(after, name)),
            saving(getattr(before, name), getattr(after, name)),
        )
        for label, name in (("TTFT", "ttft_s"), ("TPOT (mean)", "tpot_s"), ("total", "latency_s"))
        if getattr(before, name) is not None
    ]
    saved = saving(before.energy_j, after.energy_j)
    rows.append(("energy", energy(before.energy_j), energy(after.energy_j), saved))
    peaks = (before.peak_memory_bytes, after.peak_memory_bytes)
    return [*rows, ("peak memory", amount(peaks[0], "B"), amount(peaks[1], "B"), saving(*peaks))]


def csv_rows(result: Estimate) -> list[dict[str, object]]:
    """One row per phase and variant with its configuration as SPECs, every cost, the savings, the request where one was
    asked for, the verdict and the warnings."""
    rows = []
    requests = {"dense": result.request.dense, "decomposed": result.request.decomposed} if result.request else {}
    for phase in result.phases:
        for variant, costs in (("dense", phase.dense), ("decomposed", phase.decomposed)):
            saved = phase.saved if variant == "decomposed" else dict.fromkeys(phase.saved)
            request: RequestCosts | None = requests.get(variant)
            rows.append(
                {
                    "model": result.model.name,
                    "hardware": result.hardware.name,
                    "variant": variant,
                    "configuration": "dense" if variant == "dense" else describe(result.decomposition, result.model),
                    **phase.workload.to_json(),
                    **costs.to_json(),
                    **{f"saved_{k}": v for k, v in saved.items()},
                    **({f"request_{k}": v for k, v in request.to_json().items()} if request else {}),
                    "verdict": phase.verdict.code if variant == "decomposed" else None,
                    "verdict_text": phase.verdict.text if variant == "decomposed" else None,
                    "warnings": "; ".join(result.warnings),
                }
            )
    return rows


def comparison_csv_rows(result: Estimate | Refusal) -> list[dict[str, object]]:
    """The rows of one question of a comparison; of one that cannot be answered its places and why."""
    return result.csv_rows() if isinstance(result, Refusal) else csv_rows(result)
