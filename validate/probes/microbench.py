"""Times bare operations on a device, their weights never cached."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import partial
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F

from costmodel.forward.work import AttentionShape
from costmodel.forward.workload import Runtime
from costmodel.timing.calibration.shaped import DIMENSIONS, FormKind
from costmodel.units import DType
from validate.calibration.streams import StreamTable
from validate.calibration.tables import OpTable
from validate.devices.device import Device, Work
from validate.models.build import TORCH_DTYPES
from validate.probes.plan import Gemm, Op, Stream

_CALL_S = 0.012
"""Seconds spent on a point in one pass."""
_COLD = 2
"""Caches' worth of other weights that are read before the same one is read again."""
_MAX_CALLS = 200
_GRAPH_CALLS = 16
_VOCABULARY = 32_000
_PATTERN = 1 << 16


class Microbench:
    """Times operations of one type under one runtime.

    Every call takes the next weight from a stretch of memory twice as large as the last cache, so that no weight is
    cached, however small: a factor of low rank is read from memory in a model too. Activations stay where they are.
    """

    def __init__(self, device: Device, dtype: DType, runtime: Runtime, seed: int = 0) -> None:
        self.device, self.dtype, self.runtime = device, dtype, runtime
        self._torch_dtype = TORCH_DTYPES[dtype]
        self._generator = torch.Generator().manual_seed(seed)
        self._weights = self._random(_COLD * device.cache_bytes * 8 // dtype.bits)
        self._next = 0

    def times(self, op: Op) -> list[float]:
        """Seconds of some calls of an operation, as many as take about the same time for each."""
        kind, shape = op
        with torch.inference_mode():
            if kind == "gemm":
                return self._time(self.gemm(cast(Gemm, shape)))
            if kind == "attention":
                return self._time(self.attention(AttentionShape(*shape)))
            return self._time(self.stream((kind, *cast(tuple[int, int], shape))))

    def gemm(self, shape: Gemm) -> list[Work]:
        """(m, k) @ (k, n) as a linear layer does it, over weights that are not cached."""
        m, n, k = shape
        x = self._random(m, k)
        weights = [each.view(n, k) for each in self._cold(n * k)]
        return [partial(F.linear, x, weight) for weight in weights]

    def attention(self, shape: AttentionShape[int]) -> list[Work]:
        """Causal scaled-dot-product attention; with one query nothing is masked."""
        batch, q_len, kv_len, heads, kv_heads, head_dim = shape
        query = self._random(batch, heads, q_len, head_dim)
        cached = (batch, kv_heads, kv_len, head_dim)
        pairs = [each.view(2, *cached).unbind() for each in self._cold(2 * math.prod(cached))]
        grouped, causal = kv_heads != heads, q_len > 1
        return [
            partial(F.scaled_dot_product_attention, query, key, value, is_causal=causal, enable_gqa=grouped)
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


def host_launch_seconds(device: Device, count: int = 2000) -> float:
    """Host time per kernel where the host runs ahead: many small kernels queued, the device left behind or not."""
    one = torch.ones(1, device=device.torch_device)
    with torch.inference_mode():
        for _ in range(100):
            one + one
        device.synchronize()
        start = time.perf_counter()
        for _ in range(count):
            one + one
        return (time.perf_counter() - start) / count


def tables_from(seconds: Mapping[Op, float], element_bytes: int) -> tuple[dict[FormKind, OpTable], list[StreamTable]]:
    """Measured operations as tables, by kind of shape and by class of stream."""
    tables: dict[FormKind, OpTable] = {}
    of_kind: dict[str, list[tuple[tuple[int, ...], float]]] = {}
    for (kind, shape), taken in seconds.items():
        form = kind if kind != "attention" else "decode" if AttentionShape(*shape).q_len == 1 else "prefill"
        of_kind.setdefault(form, []).append((shape, taken))
    streams = []
    for kind, rows in of_kind.items():
        shapes, times = np.array([shape for shape, _ in rows], dtype=np.float64).T, np.array([each for _, each in rows])
        if kind in DIMENSIONS:
            tables[kind] = OpTable(kind=kind, shape=shapes, seconds=times)
        else:
            moved = [float(_stream_bytes((kind, shape[0], shape[1]), element_bytes)) for shape, _ in rows]
            streams.append(StreamTable(kind=kind, moved=np.array(moved), seconds=times))
    return tables, streams


def _stream_bytes(shape: Stream, element_bytes: int) -> int:
    """What the cost model counts: see costmodel.forward.cost.PROGRAMS and embedding."""
    kind, rows, columns = shape
    size = rows * columns * element_bytes
    if kind == "elementwise":
        return 3 * size
    if kind == "norm":
        return 2 * size + 2 * columns * element_bytes
    return 2 * size + (8 * rows if kind == "embedding" else 0)
