"""A whole request: one prefill, then decode steps over a growing KV cache."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

import numpy as np

from costmodel.arrays import Floats, Ints
from costmodel.decomposition.factors import Decomposition
from costmodel.errors import InputError
from costmodel.forward.attention import add_attention
from costmodel.forward.frame import position_ops
from costmodel.forward.ops import Builder, Op
from costmodel.forward.workload import Phase, Workload
from costmodel.model import ModelSpec
from costmodel.pricing.pricer import COUNTS, TIMES, Configurations, PhasePricer
from costmodel.timing.columns import OpColumns
from costmodel.timing.datasheet import energy_joules

MAX_NEW_TOKENS = 1 << 17


def saved_pct(before: float | None, after: float | None) -> float | None:
    """100 (before - after) / before; None where one of them is unknown or there is nothing to save."""
    return 100 * (before - after) / before if before and after is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCosts:
    """Latency, energy and memory of a request; energy None where no power figure is known.

    `ttft_s` is the prefill, which yields the first token; `tpot_s` the mean decode step; `latency_s` all of them.
    `peak_memory_bytes` is the most that any pass needs: of the prefill, or of the last step, whose KV cache is the
    longest; `fits` whether the device has that much.
    """

    ttft_s: float
    tpot_s: float
    latency_s: float
    energy_j: float | None
    peak_memory_bytes: int
    fits: bool

    def to_json(self) -> dict[str, object]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request with the dense model and with the decomposed one."""

    prompt_tokens: int
    new_tokens: int
    dense: RequestCosts
    decomposed: RequestCosts

    def to_json(self) -> dict[str, object]:
        before, after = self.dense, self.decomposed
        saved = {
            "latency_pct": saved_pct(before.latency_s, after.latency_s),
            "energy_pct": saved_pct(before.energy_j, after.energy_j),
            "speedup": before.latency_s / after.latency_s,
        }
        return {
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "dense": self.dense.to_json(),
            "decomposed": self.decomposed.to_json(),
            "saved": saved,
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodeSteps:
    """Decode steps after a prefill, for any configuration of the model.

    Attributes:
        first: pricer of the first step.
        last: pricer of the last step, for its memory.
        growth: float64 (steps, windows, 2): device and busy seconds by which the attention of one layer of each
            sliding window takes longer at a step than at the first.
        outer_growth: float64 (steps, 2): the same of positions and masks; nothing else depends on the KV length.
    """

    first: PhasePricer
    last: PhasePricer
    growth: Floats
    outer_growth: Floats

    def times(self, decomposition: Decomposition) -> tuple[Floats, Floats]:
        """Latency of each step in seconds, float64 (steps,), and its busy part."""
        configuration = Configurations.of(self.first.model, decomposition)
        additive, _ = self.first.additive(configuration)
        layers = np.bincount(self.first.window_of_layer[configuration.kept], minlength=self.growth.shape[1])
        grown = self.outer_growth + np.einsum("swt,w->st", self.growth, layers.astype(np.float64))
        device = additive.times[TIMES.index("device_s")] + grown[:, 0]
        host = self.first.time_model.host_launch_s * additive.counts[COUNTS.index("kernels")]
        return np.maximum(device, host), additive.times[TIMES.index("busy_s")] + grown[:, 1]


@functools.lru_cache(maxsize=16)
def decode_steps(prefill: PhasePricer, new_tokens: int) -> DecodeSteps:
    """The decode steps that follow a prefill; step i attends to kv_len + 1 + i tokens, itself included.

    Raises:
        InputError: when `new_tokens` is not between 1 and MAX_NEW_TOKENS, or the pass is no prefill of a decoder.
    """
    model, work = prefill.model, prefill.work
    if not 1 <= new_tokens <= MAX_NEW_TOKENS:
        raise InputError("new tokens out of range", value=new_tokens, allowed=f"1 to {MAX_NEW_TOKENS}")
    if model.is_encoder or work.phase is not Phase.PREFILL:
        raise InputError(
            "a request needs the prefill of a decoder model",
            value=f"{work.phase.value} of {model.name}",
            hint="leave out --new-tokens, or ask for --phase prefill or both",
        )
    first = replace(work, phase=Phase.DECODE, q_len=1, kv_len=work.kv_len + 1)
    last = replace(first, kv_len=work.kv_len + new_tokens)
    windows = list(dict.fromkeys(model.sliding_windows))

    def times(ops_at: Callable[[Workload], list[Op]]) -> Floats:
        both = []
        for start, stop in _runs(first.kv_len, last.kv_len, windows):
            one, two = (OpColumns.of(ops_at(replace(first, kv_len=min(start + i, stop)))) for i in (0, 1))
            timings = prefill.time_model.times(_along(one, two, stop - start + 1))
            both.append(np.stack([timings.latency_s.sum(axis=1), timings.busy_s.sum(axis=1)], axis=-1))
        return np.concatenate(both)

    layer = np.stack([times(functools.partial(_attention, model, window=each)) for each in windows], axis=1)
    outer = times(functools.partial(position_ops, model))
    ends = [PhasePricer(model, each, prefill.hardware, prefill.time_model) for each in (first, last)]
    return DecodeSteps(first=ends[0], last=ends[1], growth=layer - layer[0], outer_growth=outer - outer[0])


def _runs(first: int, last: int, windows: Iterable[int | None]) -> list[tuple[int, int]]:
    """The KV lengths from `first` to `last` as runs (first, last) within which no window fills up."""
    ends = sorted({each for each in windows if each is not None and first <= each < last} | {last})
    return list(zip([first, *[each + 1 for each in ends]], ends, strict=False))


def _along(one: OpColumns, two: OpColumns, steps: int) -> OpColumns:
    """Columns of shape (steps, operations): from `one` on, growing at each step as from `one` to `two`. Exact, since
    all counts of a decode step's attention and masks are linear in the keys."""
    step = np.arange(steps)

    def grown(name: str) -> Ints | None:
        start, then = getattr(one, name), getattr(two, name)
        return None if start is None else start + np.multiply.outer(step, then - start)

    columns = {field.name: grown(field.name) for field in fields(OpColumns) if field.name != "kind"}
    kind = np.broadcast_to(one.kind, (steps, len(one.kind)))
    return OpColumns(kind=kind, **columns)  # type: ignore[arg-type]


def request_of(prefill: PhasePricer, decomposition: Decomposition, new_tokens: int) -> Request:
    """Price a request: the prefill and `new_tokens` decode steps, dense and decomposed.

    Raises:
        InputError: as `decode_steps` does.
    """
    steps = decode_steps(prefill, new_tokens)
    dense, decomposed = (_costs(prefill, steps, each) for each in (Decomposition(), decomposition))
    return Request(prompt_tokens=prefill.work.q_len, new_tokens=new_tokens, dense=dense, decomposed=decomposed)


def _costs(prefill: PhasePricer, steps: DecodeSteps, decomposition: Decomposition) -> RequestCosts:
    configuration = Configurations.of(prefill.model, decomposition)
    whole, end = prefill.costs(configuration), steps.last.costs(configuration)
    ttft, prefill_energy = float(whole["latency_s"]), whole["energy_j"]  # type: ignore[arg-type]
    peak = max(int(each["peak_memory_bytes"]) for each in (whole, end))  # type: ignore[arg-type]
    latency, busy = steps.times(decomposition)
    decode_energy = energy_joules(prefill.hardware, latency, busy)
    energy = None
    if prefill_energy is not None and decode_energy is not None:
        energy = float(prefill_energy) + float(decode_energy.sum())
    return RequestCosts(
        ttft_s=ttft,
        tpot_s=float(latency.mean()),
        latency_s=ttft + float(latency.sum()),
        energy_j=energy,
        peak_memory_bytes=peak,
        fits=peak <= prefill.hardware.memory_bytes,
    )


def _attention(model: ModelSpec, work: Workload, *, window: int | None) -> list[Op]:
    builder = Builder(model, work)
    add_attention(builder, "attention", "query", ["key", "value"], window)
    return [op for op in builder.ops if op.kind == "attention"]
