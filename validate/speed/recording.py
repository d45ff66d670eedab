"""From a plan to a file of records: what has no record yet is measured and appended, in the order of the plan."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from validate.plans.case import Case
from validate.speed.job import Measured
from validate.speed.records import Sample
from validate.store.journal import Journal
from validate.store.record_format import WORKER


def recorded(samples: Iterable[Sample]) -> set[str]:
    """The ids of the samples that are not to be measured again: all but those whose workers died."""
    return {sample.id for sample in samples if sample.failure is None or sample.failure.stage != WORKER}


def record_missing(
    measured: Measured,
    cases: Iterable[Case],
    journal: Journal[Sample],
    progress: Callable[[Sample], None],
    deadline: float = math.inf,
) -> None:
    """Measure every case that has no record yet; none is begun after `deadline` by the monotonic clock.

    Raises:
        RunError: when a record cannot be written.
        KeyboardInterrupt: passed on; what was recorded is safe.
    """
    done = recorded(journal.records)
    missing = (case for case in cases if case.id not in done and time.monotonic() < deadline)
    for sample in measured(missing):
        journal.append(sample)
        progress(sample)
