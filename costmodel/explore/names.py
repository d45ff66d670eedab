"""Every number that can be asked for as an objective or a limit: its name, which way is better, what it means."""

from __future__ import annotations

from dataclasses import dataclass, fields

from costmodel.pricing.phase import PhaseCosts
from costmodel.pricing.request import RequestCosts
from costmodel.units import unit_of

PHASES = ("prefill", "decode")
METRICS = tuple(f.name for f in fields(PhaseCosts) if f.name not in ("level", "fits"))
"""Costs of a pass."""
REQUEST_METRICS = tuple(f.name for f in fields(RequestCosts) if f.name not in ("peak_memory_bytes", "fits"))
"""Costs of a request."""
SAVED = {
    "params_pct": "params",
    "weight_bytes_pct": "weight_bytes",
    "flops_pct": "flops",
    "latency_pct": "latency_s",
    "latency_p05_pct": "latency_s",
    "latency_p95_pct": "latency_s",
    "energy_pct": "energy_j",
    "peak_memory_pct": "peak_memory_bytes",
    "speedup": "latency_s",
}
"""Savings of a pass, and the cost that each is of."""
REQUEST_SAVED = {"latency_pct": "latency_s", "energy_pct": "energy_j", "speedup": "latency_s"}
MORE_IS_BETTER = ("tokens_per_s", "arithmetic_intensity")
SAME_IN_ALL = ("params", "weight_bytes")
"""Metrics that no phase changes, so that none need be named."""

_OF_A_PASS = {
    "params": "parameters, tied ones once",
    "weight_bytes": "resident weights",
    "flops": "matrix products, a fused multiply-add is 2",
    "vector_flops": "everything else: norms, activations, rotations",
    "hbm_bytes": "traffic to and from memory",
    "arithmetic_intensity": "FLOPs of matrix products per byte of traffic",
    "latency_s": "time of the pass",
    "latency_lower_s": "compute and memory wholly overlapped",
    "latency_upper_s": "compute and memory one after the other",
    "latency_p05_s": "lower end of the 90 % interval",
    "latency_p95_s": "upper, pessimistic end of the 90 % interval",
    "tokens_per_s": "batch x tokens of the pass / latency",
    "kv_cache_bytes": "KV cache at the end of the pass",
    "peak_memory_bytes": "most that the device holds at once",
    "energy_j": "of the device, from its idle and peak power",
    "device_s": "sum of the operations on the device",
    "host_s": "the host's time to launch all kernels",
    "kernels": "kernels launched",
    "communication_s": "time in collectives among devices",
    "communication_bytes": "messages of collectives",
}
_OF_A_REQUEST = {
    "ttft_s": "time to the first token",
    "tpot_s": "mean time of each further token",
    "latency_s": "prompt in, last token out",
    "energy_j": "of the device for the whole request",
}
_SAVINGS = {
    "params_pct": "parameters less than dense",
    "weight_bytes_pct": "resident weights less than dense",
    "flops_pct": "matrix products less than dense",
    "latency_pct": "time less than dense",
    "latency_p05_pct": "the same at the pessimistic end of its 90 % interval",
    "latency_p95_pct": "the same at the optimistic end",
    "energy_pct": "energy less than dense",
    "peak_memory_pct": "peak memory less than dense",
    "speedup": "dense time / decomposed time",
}
QUALITY = "damage to the model's answers: what --quality FILE measured, else a prior that knows no weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A number of one configuration.

    Attributes:
        name: as --objectives and --limit take it.
        unit: `s`, `B`, `%`, ...; empty for a plain number.
        more_is_better: whether a larger one is the better.
        meaning: what it is, in a few words.
    """

    name: str
    unit: str
    more_is_better: bool
    meaning: str

    def to_json(self) -> dict[str, str]:
        better = "more" if self.more_is_better else "less"
        return {"name": self.name, "unit": self.unit, "better": better, "meaning": self.meaning}


def named(name: str) -> Named:
    """What a name means.

    Raises:
        KeyError: on a name that is not in `all_names`.
    """
    words = name.split(".")
    key = words[-1]
    saved = "saved" in words
    if name == "quality":
        meaning = QUALITY
    elif words[0] == "request":
        meaning = (_SAVINGS if saved else _OF_A_REQUEST)[key]
    else:
        meaning = (_SAVINGS if saved else _OF_A_PASS)[key]
    better = saved or key in MORE_IS_BETTER
    return Named(name=name, unit=unit_of(name), more_is_better=better, meaning=meaning)


def all_names(phases: tuple[str, ...] = PHASES, *, request: bool = True, quality: bool = True) -> list[str]:
    """Every name, phases written out: of passes, of a request, and quality, where each is priced."""
    names = [f"{phase}.{metric}" for phase in phases for metric in METRICS]
    names += [f"{phase}.saved.{key}" for phase in phases for key in SAVED]
    names += ["params", "weight_bytes", "saved.params_pct", "saved.weight_bytes_pct"]
    if request:
        names += [f"request.{metric}" for metric in REQUEST_METRICS]
        names += [f"request.saved.{key}" for key in REQUEST_SAVED]
    return names + (["quality"] if quality else [])
