"""An estimate as rows of text: for tables and CSV. Makes strings, prints nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from costmodel.decomposition import break_even_rank
from costmodel.estimate import Estimate, PhaseCosts, PhaseEstimate
from costmodel.request import Request
from costmodel.units import seconds, si

_METRICS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("parameters", "params", lambda value: f"{value:,}"),
    ("weights", "weight_bytes", lambda value: si(value, "B", 4)),
    ("matrix FLOPs", "flops", lambda value: si(value, "FLOP", 4)),
    ("memory traffic", "hbm_bytes", lambda value: si(value, "B", 4)),
    ("intensity", "arithmetic_intensity", lambda value: f"{value:.3g} FLOP/B"),
    ("kernels", "kernels", lambda value: f"{value:,}"),
    ("device time", "device_s", seconds),
    ("host launch time", "host_s", seconds),
    ("latency", "latency_s", seconds),
    ("throughput", "tokens_per_s", lambda value: f"{value:,.4g} tok/s"),
    ("KV cache", "kv_cache_bytes", lambda value: si(value, "B", 4)),
    ("peak memory", "peak_memory_bytes", lambda value: si(value, "B", 4)),
    ("energy", "energy_j", lambda value: f"{value:.4g} J"),
)
"""Label, contract key, and how to show it."""
_MORE_IS_BETTER = ("tokens_per_s", "arithmetic_intensity")


def phase_rows(phase: PhaseEstimate) -> list[tuple[str, str, str, str]]:
    """Label, dense, decomposed and saving of each cost."""
    rows = []
    for label, name, show in _METRICS:
        before, after = getattr(phase.dense, name), getattr(phase.decomposed, name)
        if name == "host_s" and not before:
            continue
        if name == "kv_cache_bytes" and not before:
            continue
        texts = ["unknown" if value is None else show(value) for value in (before, after)]
        rows.append((label, texts[0], texts[1], "" if name in _MORE_IS_BETTER else percent(before, after)))
        if name == "latency_s":
            rows.append(("  bounds", bounds(phase.dense), bounds(phase.decomposed), ""))
            if phase.dense.latency_p05_s is not None:
                rows.append(("  90 % interval", interval(phase.dense), interval(phase.decomposed), ""))
    return rows


def percent(before: float | None, after: float | None) -> str:
    """The saving of `after` over `before`, in percent."""
    return "" if not before or after is None else f"{100 * (before - after) / before:.2f} %"


def bounds(costs: PhaseCosts) -> str:
    """The model's lower and upper bound of latency."""
    return f"{seconds(costs.latency_lower_s)} - {seconds(costs.latency_upper_s)}"


def interval(costs: PhaseCosts) -> str:
    """The calibrated 90 % interval of latency."""
    if costs.latency_p05_s is None or costs.latency_p95_s is None:
        return "unknown"
    return f"{seconds(costs.latency_p05_s)} - {seconds(costs.latency_p95_s)}"


def phase_title(phase: PhaseEstimate) -> str:
    """What was run, in one line."""
    work = phase.workload
    weights = f", weights {work.site_dtype.value}" if work.site_dtype is not work.dtype else ""
    length = f"{work.q_len} tokens" if work.phase.value == "prefill" else f"one token, {work.kv_len} in the KV cache"
    return (
        f"{work.phase.value}: batch {work.batch}, {length}, {work.dtype.value}{weights}, {work.runtime.value}, "
        f"{work.attention.value} attention ({phase.decomposed.level} level)"
    )


def op_groups(phase: PhaseEstimate) -> list[tuple[str, str, str, str, str, str]]:
    """Operations of the decomposed pass by role: role, count, device time, share, what limits most of it, dense time.

    A role is a tensor's name for a decomposable linear, a module's name outside the layers, else the kind.
    """
    dense, decomposed = _grouped(phase, "dense"), _grouped(phase, "decomposed")
    everything = sum(entry["seconds"] for entry in decomposed.values()) or 1.0
    rows = []
    for role in {**dense, **decomposed}:
        now = decomposed.get(role, {"count": 0, "seconds": 0.0, "bounds": {}})
        bound = max(now["bounds"], key=now["bounds"].__getitem__, default="-")
        before = dense.get(role, {"seconds": 0.0})["seconds"]
        rows.append((role, str(now["count"]), seconds(before), seconds(now["seconds"]),
                     f"{100 * now['seconds'] / everything:.1f} %", bound))  # fmt: skip
    return rows


def _grouped(phase: PhaseEstimate, which: Any) -> dict[str, dict[str, Any]]:
    ops, timings = phase.ops(which)
    groups: dict[str, dict[str, Any]] = {}
    for op, latency, bound in zip(ops, timings.latency_s.tolist(), timings.bound(), strict=True):
        role = op.site or (op.name if op.name in ("lm_head", "pooler.dense") else op.kind)
        entry = groups.setdefault(role, {"count": 0, "seconds": 0.0, "bounds": {}})
        entry["count"] += 1
        entry["seconds"] += latency
        entry["bounds"][bound] = entry["bounds"].get(bound, 0.0) + latency
    return groups


def request_rows(request: Request) -> list[tuple[str, str, str, str]]:
    """Label, dense, decomposed and saving of a whole request."""
    before, after = request.dense, request.decomposed
    rows = [
        (label, seconds(getattr(before, name)), seconds(getattr(after, name)),
         percent(getattr(before, name), getattr(after, name)))
        for label, name in (("TTFT", "ttft_s"), ("TPOT (mean)", "tpot_s"), ("total", "latency_s"))
    ]  # fmt: skip
    energies = ["unknown" if value is None else f"{value:.4g} J" for value in (before.energy_j, after.energy_j)]
    return [*rows, ("energy", energies[0], energies[1], percent(before.energy_j, after.energy_j))]


def break_even_rows(result: Estimate) -> list[tuple[str, str, str, str, str]]:
    """For each tensor its shape, both break-even ranks, and the ranks that this configuration gives it."""
    rows = []
    for tensor in result.model.tensors:
        ranks = [factor.ranks for site, factor in result.decomposition.factors.items() if site.tensor == tensor.name]
        lowest, highest = min(map(min, ranks), default=None), max(map(max, ranks), default=None)
        shown = "dense" if not ranks else f"{lowest}" if lowest == highest else f"{lowest} to {highest}"
        shape = (tensor.out_features, tensor.in_features)
        limits = (str(break_even_rank(*shape, "svd")), str(break_even_rank(*shape, "tucker")))
        rows.append(
            (tensor.name, f"{shape[0]} x {shape[1]}", *limits, f"{shown} ({len(ranks)} layers)" if ranks else shown)
        )
    return rows


def csv_rows(result: Estimate) -> list[dict[str, object]]:
    """One row per phase and variant with every cost and the savings."""
    rows = []
    for phase in result.phases:
        for variant, costs in (("dense", phase.dense), ("decomposed", phase.decomposed)):
            saved = phase.saved if variant == "decomposed" else dict.fromkeys(phase.saved)
            rows.append({
                "model": result.model.name, "hardware": result.hardware.name, "variant": variant,
                **phase.workload.to_json(), **costs.to_json(), **{f"saved_{k}": v for k, v in saved.items()},
                "verdict": phase.verdict.code if variant == "decomposed" else None,
            })  # fmt: skip
    return rows
