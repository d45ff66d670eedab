"""Tangents: weighted sums that never exceed a cost, whose maximum is the cost, and when one of them is all of it."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from costmodel.explore.by_site.problem import QUALITY, TIME_OF, Functional, SiteProblem, replaced
from costmodel.explore.objectives import Objective
from costmodel.explore.tables import CostTables
from costmodel.pricing.costs import COUNTS

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Weights of device time against host time in the tangents of their maximum."""
_ENDS = {"p05_s": -1, "p95_s": 1}
"""Which end of the interval a device time is, where it is one."""


def tangents(tables: CostTables, objective: Objective) -> list[Functional]:
    """Functionals that never exceed the objective's metric, whose maximum is (nearly) the metric.

    For a sum the metric itself. For max(device, host) weighted means of the two. Of the peak of live activations the
    part that the dense model has.
    """
    metric, part = objective.metric, objective.part
    if part == "quality":
        assert tables.quality is not None
        return [Functional(weights={QUALITY: tables.quality.quantum})]
    if part == "request":
        return _request_tangents(tables, objective)
    table = tables.parts[part]
    hardware = table.pricer.hardware
    if metric in TIME_OF:
        return _larger(tables, part, TIME_OF[metric])
    if metric == "energy_j":
        idle, peak = hardware.idle_power_w or 0.0, hardware.peak_power_w or 0.0
        busy = Functional(weights={(part, "busy_s"): table.quantum_s})
        zero = Functional(weights={})
        return [zero.plus(each, idle).plus(busy, peak - idle) for each in _larger(tables, part, "device_s")]
    if metric == "peak_memory_bytes":
        weights = {(part, "weight_bytes"): 1.0, (part, "kv_cache_bytes"): 1.0}
        return [Functional(weights=weights, constant=float(table.live_floor))]
    if metric == "host_s":
        return [Functional(weights={(part, "host_s"): table.quantum_s})]
    scale = 1.0 if metric in COUNTS else table.quantum_s
    return [Functional(weights={(part, metric): scale})]


def useful(problems: Sequence[SiteProblem], functionals: Sequence[Functional]) -> list[Functional]:
    """Tangents without those that another is above everywhere: device time where the host never takes longer."""
    for place, each in enumerate(functionals):
        others = [other for position, other in enumerate(functionals) if position != place]
        if all(least(problem, each.plus(other, -1.0)) >= 0 for other in others for problem in problems):
            return [each]
    return list(functionals)


def leading(tables: CostTables, problems: Sequence[SiteProblem], objective: Objective) -> Functional | None:
    """The tangent that is the objective's metric in every configuration, if one is.

    That is the case of every sum, and where in each pass the device takes longer in all configurations, or the host in
    all. Live activations that exceed the dense model's peak rule it out for peak memory.
    """
    if objective.metric == "peak_memory_bytes" and tables.phases[objective.part].raises_peak:
        return None
    functionals = tangents(tables, objective)
    if len(functionals) == 1:
        return functionals[0]
    leads = []
    for device, host in _device_lead(tables, objective):
        leads.append(all(least(problem, device) >= 0 for problem in problems))
        if not leads[-1] and not all(least(problem, host) >= 0 for problem in problems):
            return None
    if len(leads) == 1:
        return functionals[-1 if leads[0] else 0]
    half = len(functionals) // 2
    if half != len(_SHARES):  # one of the passes launches nothing, so its tangents are fewer
        return None
    return functionals[half * leads[0] + (half - 1) * leads[1]]


def least(problem: SiteProblem, functional: Functional) -> float:
    """The least value of a functional without interactions."""
    return float(problem.values(functional).min(axis=-1).sum() + problem.offset(functional))


def _device_lead(tables: CostTables, objective: Objective) -> list[tuple[Functional, Functional]]:
    """For each pass that the metric takes a larger of device and host time in, two functionals: the first is at least 0
    where the device takes longer in every step, the second where the host does.

    The passes are in the order in which `tangents` combines them: a request's prefill before its steps.
    """
    passes: list[tuple[str, str, float, float]] = []
    if objective.part == "request":
        assert tables.request is not None
        growth = tables.request.growth * tables.request.first.quantum_s
        passes += [("prefill", "device_s", 0.0, 0.0)] if objective.metric != "tpot_s" else []
        if objective.metric != "ttft_s" and len(growth):
            passes.append(("step", "device_s", float(growth[0]), float(growth[-1])))
    elif objective.metric in TIME_OF or objective.metric == "energy_j":
        passes.append((objective.part, TIME_OF.get(objective.metric, "device_s"), 0.0, 0.0))
    found = []
    for part, time, least, most in passes:
        table = tables.parts[part]
        device = Functional(weights={(part, time): table.quantum_s})
        factor, _ = table.pricer.time_model.host_and_step(_ENDS.get(time, 0))
        host = Functional(weights={(part, "host_s"): factor * table.quantum_s})
        found.append(
            (
                device.plus(host, -1.0).plus(Functional(weights={}, constant=least), 1.0),
                host.plus(device, -1.0).plus(Functional(weights={}, constant=most), -1.0),
            )
        )
    return found


def _larger(tables: CostTables, part: str, time: str) -> list[Functional]:
    """Weighted means of a device time and the host's launch time, which their maximum is never below."""
    table = tables.parts[part]
    launch = table.pricer.time_model.host_launch_s
    factor, step = table.pricer.time_model.host_and_step(_ENDS.get(time, 0))
    host, device, tick = (part, "host_s"), (part, time), table.quantum_s
    shares = _SHARES if launch else (1.0,)
    return [
        Functional(weights={device: share * tick, host: (1 - share) * factor * tick}, constant=step) for share in shares
    ]


def _request_tangents(tables: CostTables, objective: Objective) -> list[Functional]:
    request = tables.request
    assert request is not None
    first, count = request.first, len(request.growth)
    launch, hardware = first.pricer.time_model.host_launch_s, first.pricer.hardware
    device, host, busy = (("step", name) for name in ("device_s", "host_s", "busy_s"))
    energy = objective.metric == "energy_j"
    prefill = tangents(tables, replaced(objective, "prefill", "energy_j" if energy else "latency_s"))
    if objective.metric == "ttft_s":
        return prefill
    steps = []
    for share in _SHARES if launch and count else (1.0,):
        bound = round((1 - share) * count)
        weights = {device: (count - bound) * first.quantum_s, host: bound * first.quantum_s}
        steps.append(
            Functional(weights=weights, constant=float(request.after_s[bound]) + count * first.pricer.time_model.step_s)
        )
    zero = Functional(weights={})
    if objective.metric == "tpot_s":
        return [zero.plus(each, 1 / count) for each in steps]
    if energy:
        idle, peak = hardware.idle_power_w or 0.0, hardware.peak_power_w or 0.0
        working = Functional(weights={busy: count * first.quantum_s}, constant=request.busy_s)
        steps = [zero.plus(each, idle).plus(working, peak - idle) for each in steps]
    if len(prefill) == 1 or len(steps) == 1:
        return [a.plus(b, 1.0) for a, b in itertools.product(prefill, steps)]
    ends = (0, len(prefill) - 1)
    return [prefill[i].plus(step, 1.0) for i in ends for step in steps]
