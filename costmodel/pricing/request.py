"""A whole request: a prefill, which yields the first token, and decode steps over a growing KV cache for the others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

import numpy as np

from costmodel.arrays import Bools, Floats, Ints
from costmodel.decomposition.factors import Decomposition
from costmodel.errors import InputError
from costmodel.forward.frame import layer_ops, position_ops
from costmodel.forward.ops import Op
from costmodel.forward.workload import MAX_NEW_TOKENS, Latent, Phase, Workload
from costmodel.model import ModelSpec
from costmodel.pricing.configurations import Configurations
from costmodel.pricing.pricer import PhasePricer
from costmodel.pricing.saving import saved_pct
from costmodel.timing.columns import OpColumns


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestCosts:
    """Latency, energy and memory of a request; energy None where no power figure is known.

    `ttft_s` is the prefill, which yields the first token; `tpot_s` the mean of the decode steps, which yield the
    others, None where there is no other; `latency_s` all of them. `peak_memory_bytes` is the most that any pass needs:
    of the prefill, or of the last step, whose KV cache is the longest; `fits` whether the device has that much.
    """

    ttft_s: float
    tpot_s: float | None
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


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTimes:
    """Seconds of decode steps on the device, and the part of them in which it is busy; arrays of one shape."""

    device_s: Floats
    busy_s: Floats


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DecodeSteps:
    """Decode steps after a prefill, for any configuration of the model.

    Attributes:
        first: pricer of the first step, which is there to grow from even where there are no steps.
        last: pricer of the last step, for its memory; None where there are no steps.
        layer_growth: (steps, variants): by how much the attention of one layer of each kind and sliding window takes
            longer at a step than at the first.
        outer_growth: (steps,): the same of positions and masks; nothing else depends on the KV length.
    """

    first: PhasePricer
    last: PhasePricer | None
    layer_growth: StepTimes
    outer_growth: StepTimes

    def growth(self, kept: Bools) -> StepTimes:
        """By how much each step takes longer than the first with these layers kept, bool (layers,); (steps,)."""
        variants = self.layer_growth.device_s.shape[1]
        layers = np.bincount(self.first.variant_of_layer[kept], minlength=variants).astype(np.float64)
        return StepTimes(
            device_s=self.outer_growth.device_s + np.einsum("sw,w->s", self.layer_growth.device_s, layers),
            busy_s=self.outer_growth.busy_s + np.einsum("sw,w->s", self.layer_growth.busy_s, layers),
        )

    def times(self, decomposition: Decomposition) -> tuple[Floats, Floats]:
        """Latency of each step in seconds, float64 (steps,), and its busy part."""
        configuration = Configurations.of(self.first.model, decomposition)
        additive, _ = self.first.additive(configuration)
        grown = self.growth(configuration.kept)
        device_s, host_s = additive.time("device_s") + grown.device_s, self.first.host_seconds(additive)
        latency = np.maximum(device_s, host_s) + self.first.time_model.step_s
        return latency, additive.time("busy_s") + grown.busy_s


@functools.lru_cache(maxsize=16)
def decode_steps(prefill: PhasePricer, new_tokens: int) -> DecodeSteps:
    """The new_tokens - 1 decode steps after a prefill, which yields the first new token itself; step i, counted from 0,
    attends to kv_len + 1 + i tokens, its own included.

    Raises:
        InputError: when `new_tokens` is not between 1 and MAX_NEW_TOKENS, or the pass is no prefill of a decoder.
    """
    model, work = prefill.rank, prefill.work
    if not 1 <= new_tokens <= MAX_NEW_TOKENS:
        raise InputError("new tokens out of range", value=new_tokens, allowed=f"1 to {MAX_NEW_TOKENS}")
    if not model.generates or work.phase is not Phase.PREFILL:
        raise InputError(
            "a request needs the prefill of a decoder model",
            value=f"{work.phase.value} of {model.name}",
            hint="leave out --new-tokens, or ask for --phase prefill or both",
        )
    first = replace(work, phase=Phase.DECODE, q_len=1, kv_len=work.kv_len + 1)
    count = new_tokens - 1
    last = replace(first, kv_len=work.kv_len + max(1, count))
    windows = list(dict.fromkeys(model.sliding_windows))

    def growth(ops_at: Callable[[Workload], list[Op]]) -> StepTimes:
        device, busy = [], []
        for start, stop in _runs(first.kv_len, last.kv_len, windows):
            one, two = (OpColumns.of(ops_at(replace(first.of_device, kv_len=min(start + i, stop)))) for i in (0, 1))
            timings = prefill.time_model.times(_along(one, two, stop - start + 1))
            device.append(timings.latency_s.sum(axis=1))
            busy.append(timings.busy_s.sum(axis=1))
        device_s, busy_s = np.concatenate(device), np.concatenate(busy)
        return StepTimes(device_s=(device_s - device_s[0])[:count], busy_s=(busy_s - busy_s[0])[:count])

    layers = [growth(functools.partial(_attention, kind, window=window)) for kind, window in prefill.variants]
    ends = [PhasePricer(prefill.model, work, prefill.hardware, prefill.time_model) for work in (first, last)]
    return DecodeSteps(
        first=ends[0],
        last=ends[1] if count else None,
        layer_growth=StepTimes(
            device_s=np.stack([layer.device_s for layer in layers], axis=1),
            busy_s=np.stack([layer.busy_s for layer in layers], axis=1),
        ),
        outer_growth=growth(functools.partial(position_ops, model)),
    )


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
    """Price a request for `new_tokens` tokens, dense and decomposed.

    Raises:
        InputError: as `decode_steps` does.
    """
    if prefill.work.microbatches > 1:
        raise InputError(
            "a request of microbatches is not priced", value=prefill.work.microbatches, hint="leave --microbatches out"
        )
    steps = decode_steps(prefill, new_tokens)
    dense, decomposed = (_costs(prefill, steps, each) for each in (Decomposition(), decomposition))
    return Request(prompt_tokens=prefill.work.q_len, new_tokens=new_tokens, dense=dense, decomposed=decomposed)


def _costs(prefill: PhasePricer, steps: DecodeSteps, decomposition: Decomposition) -> RequestCosts:
    configuration = Configurations.of(prefill.model, decomposition)
    whole = prefill.costs(configuration)
    ttft, peak = float(whole.latency_s), int(whole.peak_memory_bytes)
    if steps.last is not None:
        peak = max(peak, int(steps.last.costs(configuration).peak_memory_bytes))
    latency, busy = steps.times(decomposition)
    decode_energy = prefill.energy_j(latency, busy)
    energy = None
    if whole.energy_j is not None and decode_energy is not None:
        energy = float(whole.energy_j) + float(decode_energy.sum())
    return RequestCosts(
        ttft_s=ttft,
        tpot_s=float(latency.mean()) if len(latency) else None,
        latency_s=ttft + float(latency.sum()),
        energy_j=energy,
        peak_memory_bytes=peak,
        fits=peak <= prefill.hardware.memory_bytes,
    )


def _attention(kind: ModelSpec, work: Workload, *, window: int | None) -> list[Op]:
    """What of a layer depends on the KV length; of a linear over the whole cache the dense one."""
    over_cache = [tensor.name for tensor in kind.tensors if tensor.over_cache and work.latent is Latent.PLAIN]
    return [op for op in layer_ops(kind, work, window) if op.kind in ("attention", "kv_cache") or op.site in over_cache]
