"""Goes through a plan of operations in passes, each in an order of its own, and records every turn as it is taken."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from validate.devices.cgroup import throttling
from validate.errors import RunError, kind_of, reason_of
from validate.probes.plan import Op, ProbePlan
from validate.probes.records import OpRecord, id_of
from validate.store.journal import Journal
from validate.store.record_format import Failure

if TYPE_CHECKING:
    from validate.probes.microbench import Microbench

_FAILURES = 8
"""So many failures one after the other are the device's, not the operations'."""


def turns(plan: ProbePlan, passes: int, seed: int) -> list[tuple[int, Op]]:
    """Every operation in every pass, each pass shuffled, so that drift hits all alike; the same for the same seed."""
    found: list[tuple[int, Op]] = []
    for turn in range(passes):
        ops = list(plan.ops)
        random.Random(f"probe {seed} pass {turn}").shuffle(ops)
        found += [(turn, op) for op in ops]
    return found


def run_probe(
    bench: Microbench,
    plan: list[tuple[int, Op]],
    journal: Journal[OpRecord],
    progress: Callable[[int], None] = lambda done: None,
    deadline: float = math.inf,
) -> bool:
    """Time what has no record yet; an operation that fails is recorded with its reason, and the others go on.

    Args:
        plan: see `turns`.
        progress: told how many turns have been taken, those of earlier calls included.
        deadline: by the monotonic clock; no turn begins after it.

    Returns:
        Whether every turn has been taken.

    Raises:
        RunError: when a record cannot be written, or the device fails again and again.
        KeyboardInterrupt: passed on; what was recorded is safe.
    """
    known = {record.id for record in journal.records if record.status == "ok"}
    missing = [(turn, op) for turn, op in plan if id_of(turn, op) not in known]
    done, failed = len(plan) - len(missing), 0
    progress(done)
    for turn, op in missing:
        if time.monotonic() > deadline:
            return False
        record = _take(bench, turn, op)
        journal.append(record)
        failed = failed + 1 if record.failure else 0
        if record.failure and failed >= _FAILURES:
            reason = record.failure.reason
            raise RunError(f"{failed} operations failed one after the other", hint=f"the last one: {reason}")
        done += 1
        progress(done)
    return True


def _take(bench: Microbench, turn: int, op: Op) -> OpRecord:
    kind, shape = op
    name, before = id_of(turn, op), throttling()
    try:
        times = bench.times(op)
    except Exception as error:  # torch raises many kinds for memory that is short and kernels that do not exist
        bench.device.release()
        failure = Failure(stage="timing", kind=kind_of(error), reason=reason_of(error))
        return OpRecord(id=name, status="failed", failure=failure, turn=turn, kind=kind, shape=shape)
    nanoseconds = tuple(max(1, round(1e9 * each)) for each in times)
    after = throttling()
    stops = after.periods - before.periods if before and after else 0
    return OpRecord(
        id=name, status="ok", turn=turn, kind=kind, shape=shape, times_ns=nanoseconds, quota_stops=max(0, stops)
    )
