"""Times bare operations on a device, in passes over a shuffled plan, so that drift hits all alike."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F

from costmodel.calibration_form import FormKind
from costmodel.units import DType
from costmodel.workload import Runtime
from validate.build import TORCH_DTYPES
from validate.device import Device, Work
from validate.fit_streams import StreamTable
from validate.fit_tables import OpTable
from validate.probe_plan import Attention, Gemm, ProbePlan, Stream

PASSES = 4
QUIET = 0.1
"""Quantile of a point's times over all passes: load only ever adds time."""
_CALL_S = 0.012
"""Seconds spent on a point in one pass."""
_COLD = 2
"""Caches' worth of other weights that are read before the same one is read again."""
_MAX_CALLS = 200
_GRAPH_CALLS = 16
_VOCABULARY = 32_000
_PATTERN = 1 << 16

Progress = Callable[[int], None]


class Microbench:
    """Times operations of one type under one runtime.

    Every call takes the next weight from a stretch of memory twice as large as the last cache, so that no weight is
    cached, however small: a factor of low rank is read from memory in a model too. Activations stay where they are.
    """

    def __init__(self, device: Device, dtype: DType, runtime: Runtime, seed: int = 0) -> None:
        self.device, self.dtype, self.runtime = device, dtype, runtime
        self._rng = random.Random(seed)
        self._torch_dtype = TORCH_DTYPES[dtype]
        self._generator = torch.Generator().manual_seed(seed)
        self._weights = self._random(_COLD * device.cache_bytes * 8 // dtype.bits)
        self._next = 0

    def measure(self, plan: ProbePlan, progress: Progress = lambda done: None, passes: int = PASSES) -> list[float]:
        """Seconds of every operation of the plan: GEMMs, then attention, then streams."""
        makers: list[Callable[[], list[Work]]] = [lambda shape=shape: self.gemm(shape) for shape in plan.gemms]
        makers += [lambda shape=shape: self.attention(shape) for shape in plan.attention]
        makers += [lambda shape=shape: self.stream(shape) for shape in plan.streams]
        times: list[list[float]] = [[] for _ in makers]
        order = list(range(len(makers)))
        done = 0
        with torch.inference_mode():
            for _ in range(passes):
                self._rng.shuffle(order)
                for index in order:
                    times[index] += self._time(makers[index]())
                    done += 1
                    progress(done)
        return [float(np.quantile(each, QUIET)) for each in times]

    def gemm(self, shape: Gemm) -> list[Work]:
        """(m, k) @ (k, n) as a linear layer does it, over weights that are not cached."""
        m, n, k = shape
        x = self._random(m, k)
        weights = [each.view(n, k) for each in self._cold(n * k)]
        return [lambda weight=weight: F.linear(x, weight) for weight in weights]

    def attention(self, shape: Attention) -> list[Work]:
        """Causal scaled-dot-product attention; with one query nothing is masked."""
        batch, q_len, kv_len, heads, kv_heads, head_dim = shape
        query = self._random(batch, heads, q_len, head_dim)
        cached = (batch, kv_heads, kv_len, head_dim)
        pairs = [each.view(2, *cached).unbind() for each in self._cold(2 * math.prod(cached))]
        grouped, causal = kv_heads != heads, q_len > 1
        return [
            lambda key=key, value=value: F.scaled_dot_product_attention(
                query, key, value, is_causal=causal, enable_gqa=grouped
            )
            for key, value in pairs
        ]

    def stream(self, shape: Stream) -> list[Work]:
        """One kernel that moves data: an addition, a layer norm, a SiLU, a look-up."""
        kind, rows, columns = shape
        x = self._random(rows, columns)
        if kind == "elementwise":
            other = self._random(rows, columns)
            return [lambda: x + other]
        if kind == "norm":
            weight, bias = self._random(columns), self._random(columns)
            return [lambda: F.layer_norm(x, (columns,), weight, bias)]
        if kind == "activation":
            return [lambda: F.silu(x)]
        table = self._random(min(_VOCABULARY, max(rows, 1 << 24 // columns)), columns)
        tokens = torch.randint(0, len(table), (rows,), generator=self._generator).to(self.device.torch_device)
        return [lambda: F.embedding(tokens, table)]

    def host_launch_seconds(self, count: int = 2000) -> float:
        """Host time per kernel where the host runs ahead: many small kernels queued, the device left behind or not."""
        one = self._random(1)
        with torch.inference_mode():
            for _ in range(100):
                one + one
            self.device.synchronize()
            start = time.perf_counter()
            for _ in range(count):
                one + one
            return (time.perf_counter() - start) / count

    def _time(self, works: list[Work]) -> list[float]:
        """Seconds of single calls; on a device that runs behind its host, shares of graphs of many calls, since the gap
        between two replays would count as the time of a short kernel."""
        together = 1
        if self.device.kind == "cuda":
            rounds = math.ceil(_GRAPH_CALLS / len(works))
            together, single = rounds * len(works), works

            def group() -> None:
                for _ in range(rounds):
                    for work in single:
                        work()

            works = [group]
        prepared = [self.device.prepare(work, self.runtime) for work in works]
        first = self.device.time(prepared[:1] * 2, self.runtime)[-1]
        calls = max(3, min(_MAX_CALLS, math.ceil(_CALL_S / max(first, 1e-7))))
        turn = [prepared[index % len(prepared)] for index in range(calls + 1)]
        return [seconds / together for seconds in self.device.time(turn, self.runtime)[1:]]

    def _cold(self, elements: int) -> list[torch.Tensor]:
        """Flat stretches of so many elements, as many as one pass can use; none was read lately."""
        room = len(self._weights)
        if elements > room:
            return [self._random(elements)]
        found = []
        for _ in range(min(_MAX_CALLS + 1, max(1, room // elements))):
            start = self._next if self._next + elements <= room else 0
            found.append(self._weights[start : start + elements])
            self._next = start + elements
        return found

    def _random(self, *shape: int) -> torch.Tensor:
        """Random numbers, repeated after a while: making hundreds of megabytes takes longer than timing them."""
        values = torch.randn(_PATTERN, generator=self._generator)
        values = values.to(dtype=self._torch_dtype, device=self.device.torch_device)
        count = math.prod(shape)
        return values.repeat(-(-count // _PATTERN))[:count].reshape(shape)


def tables_from(
    plan: ProbePlan, seconds: Sequence[float], element_bytes: int
) -> tuple[dict[FormKind, OpTable], list[StreamTable]]:
    """The measured plan as tables, by kind of shape and by class of stream."""
    times = np.asarray(seconds, dtype=np.float64)
    first, second = len(plan.gemms), len(plan.gemms) + len(plan.attention)
    tables: dict[FormKind, OpTable] = {}
    if plan.gemms:
        tables["gemm"] = OpTable(kind="gemm", shape=np.array(plan.gemms, dtype=np.float64).T, seconds=times[:first])
    if plan.attention:
        shape, taken = np.array(plan.attention, dtype=np.float64).T, times[first:second]
        one = shape[1] == 1
        halves: list[tuple[FormKind, np.ndarray]] = [("prefill", ~one), ("decode", one)]
        for form, rows in halves:
            if rows.any():
                tables[form] = OpTable(kind=form, shape=shape[:, rows], seconds=taken[rows])
    streams = []
    for kind in dict.fromkeys(name for name, _, _ in plan.streams):
        places = [index for index, each in enumerate(plan.streams) if each[0] == kind]
        moved = [_stream_bytes(plan.streams[index], element_bytes) for index in places]
        streams.append(StreamTable(kind=kind, moved=np.array(moved, dtype=np.float64), seconds=times[second:][places]))
    return tables, streams


def _stream_bytes(shape: Stream, element_bytes: int) -> int:
    """What the cost model counts: see costmodel.cost.PROGRAMS and embedding."""
    kind, rows, columns = shape
    size = rows * columns * element_bytes
    if kind == "elementwise":
        return 3 * size
    if kind == "norm":
        return 2 * size + 2 * columns * element_bytes
    return 2 * size + (8 * rows if kind == "embedding" else 0)
