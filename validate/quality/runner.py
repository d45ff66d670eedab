"""From cases to records: the dense model first, then what has no record yet; one failure never stops the run."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from validate.errors import RunError
from validate.journal import RecordJournal
from validate.quality.case import DENSE, QualityCase
from validate.quality.evaluator import Evaluator
from validate.quality.records import QualityRecord

TOLERANCE = 1e-3
"""Nats per token by which a dense model measured again may differ: roundings of another machine, not another model."""


class QualityRunner:
    """Measures cases and appends a record for each.

    Args:
        evaluator: measures one.
        journal: where records go; cases that it holds are skipped.
    """

    def __init__(self, evaluator: Evaluator, journal: RecordJournal[QualityRecord]) -> None:
        self._evaluator, self._journal = evaluator, journal

    def run(
        self, cases: Iterable[QualityCase], progress: Callable[[QualityRecord], None], deadline: float = math.inf
    ) -> None:
        """Measure the dense model and every case that has no record yet, until `deadline` by the monotonic clock.

        Raises:
            RunError: when a record cannot be written, the dense model cannot be measured, or it is no longer the one
                that the records are of.
            KeyboardInterrupt: passed on; what was recorded is safe.
        """
        done = {record.id: record for record in self._journal.records}
        dense = done.get(self._evaluator.id(DENSE))
        if dense is None:
            dense = self._measure(DENSE, progress)
        if dense.failure is not None:
            raise RunError("the dense model cannot be measured", hint=dense.failure.reason)
        self._require_same(dense)
        for case in cases:
            identity = self._evaluator.id(case)
            if identity not in done and not case.is_dense and time.monotonic() < deadline:
                done[identity] = self._measure(case, progress)

    def _measure(self, case: QualityCase, progress: Callable[[QualityRecord], None]) -> QualityRecord:
        record = self._evaluator.measure(case, len(self._journal.records))
        self._journal.append(record)
        progress(record)
        return record

    def _require_same(self, dense: QualityRecord) -> None:
        """Compute what candidates are compared with, before anything is replaced."""
        now = self._evaluator.dense_text()
        if dense.text is None or now is None:
            return
        difference = abs(sum(now.nll) - sum(dense.text.nll)) / sum(now.tokens)
        if difference > TOLERANCE:
            raise RunError("the dense model's loss is no longer the recorded one", value=round(difference, 6),
                           allowed=f"up to {TOLERANCE:g} nats per token", hint="choose another --out")  # fmt: skip
