"""What probing leaves behind: one JSON object per operation and pass, with every time taken. No torch.

docs/validate.md describes each key.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from costmodel.hardware.here import TURNS
from validate.errors import RecordError
from validate.probes.plan import Op
from validate.probes.settings import NAME
from validate.store.decode import Count, PositiveCount
from validate.store.record_format import Failure, Record, RecordFormat

SCHEMA = 1
"""Version of the line format; raise it when a key is renamed, dropped or changes its meaning."""
QUIET = 0.1
"""Quantile of an operation's times over all passes: load only ever adds time."""


class OpRecord(Record, frozen=True, kw_only=True):
    """One line of ops.jsonl: an operation's turn in one pass over the plan."""

    schema: int = SCHEMA
    id: str
    """Pass, kind and sizes: see `id_of`."""
    status: Literal["ok", "failed"]
    failure: Failure | None = None
    turn: Count
    """The pass, from 0."""
    kind: str
    """gemm, attention, or the class of a kernel that moves data."""
    shape: tuple[PositiveCount, ...]
    """m, n, k; batch, q_len, kv_len, num_heads, num_kv_heads, head_dim; or rows, columns."""
    times_ns: tuple[PositiveCount, ...] = ()
    """Of each call, or of a call's share where a graph holds several."""
    quota_stops: Count = 0
    """Periods of the container's CPU quota in which the process was stopped meanwhile; 0 in records from before."""

    @property
    def op(self) -> Op:
        """What was timed."""
        return self.kind, self.shape


_SIZES = {"gemm": 3, "attention": 6}
"""Numbers of a shape by kind; two for kernels that move data."""


def check_op(record: OpRecord) -> None:
    """Raise RecordError where a shape is none of its kind, or the turn succeeded without a time."""
    if len(record.shape) != (wanted := _SIZES.get(record.kind, 2)):
        raise RecordError(f"shape of {record.kind}", value=record.shape, allowed=f"{wanted} numbers")
    if record.kind == "attention" and record.shape[3] % record.shape[4]:
        raise RecordError("heads of attention", value=record.shape, allowed="a multiple of the heads of keys")
    if record.status == "ok" and not record.times_ns:
        raise RecordError("status without times", value=record.status)


OPS = RecordFormat(
    kind=OpRecord,
    schema=SCHEMA,
    file=TURNS,
    settings=NAME,
    noun="record",
    manual="docs/validate.md",
    check=check_op,
)
"""The records of a probe."""


def id_of(turn: int, op: Op) -> str:
    """The same for the same operation in the same pass of every run."""
    kind, shape = op
    return f"{turn} {kind} {'x'.join(map(str, shape))}"


def quiet_seconds(records: Iterable[OpRecord]) -> dict[Op, float]:
    """The time of each operation that was timed at all, in the order in which they first were."""
    times: dict[Op, list[int]] = {}
    for record in records:
        if record.times_ns:
            times.setdefault(record.op, []).extend(record.times_ns)
    return {op: float(np.quantile(each, QUIET)) * 1e-9 for op, each in times.items()}
