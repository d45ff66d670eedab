"""From cases to records: the dense model first, then what has no record yet; one failure never stops the run, but
several in a row that are the machine's do."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable

from validate.errors import RunError, reason_of
from validate.quality.case import DENSE, QualityCase
from validate.quality.evaluator import Evaluator
from validate.quality.records import QualityRecord
from validate.store.journal import Journal

ALIKE = 3
"""Failures in a row, of one kind that is no verdict on the configurations, that end a run: a device that has failed
once fails for all that follow, in no time."""
TOLERANCE = 1e-3
"""Nats per token by which a dense model measured again may differ: roundings of another machine, not another model."""


class QualityRunner:
    """Measures cases and appends a record for each.

    Args:
        evaluator: measures one.
        journal: where records go; cases that it holds are skipped.
    """

    def __init__(self, evaluator: Evaluator, journal: Journal[QualityRecord]) -> None:
        self._evaluator, self._journal = evaluator, journal

    def run(
        self, cases: Iterable[QualityCase], progress: Callable[[QualityRecord], None], deadline: float = math.inf
    ) -> None:
        """Measure the dense model and every case that has no final record yet, until `deadline` by the monotonic clock.

        Cases that failed for want of memory and the like come last, so that they do not hold up others for ever.

        Raises:
            RunError: when a record cannot be written, the dense model cannot be measured, or it is no longer the one
                that the records are of; when ALIKE cases in a row fail in a way that is not their own.
            KeyboardInterrupt: passed on; what was recorded is safe.
        """
        known = {record.id: record for record in self._journal.records}
        dense = known.get(self._evaluator.id(DENSE))
        if dense is None or not dense.is_final:
            dense = self._measure(DENSE, progress)
        if dense.failure is not None:
            raise RunError("the dense model cannot be measured", hint=dense.failure.reason)
        self._require_same(dense)
        wanted = {self._evaluator.id(case): case for case in cases if not case.is_dense}
        new = [case for identity, case in wanted.items() if identity not in known]
        again = [case for identity, case in wanted.items() if identity in known and not known[identity].is_final]
        failed: list[str] = []
        for case in (*new, *again):
            if time.monotonic() >= deadline:
                break
            record = self._measure(case, progress)
            if record.failure is None or record.is_final:
                failed.clear()
                continue
            failed.append(record.failure.kind)
            if failed[-ALIKE:] == [record.failure.kind] * ALIKE:
                hint = f"{record.failure.reason}; --resume measures them again"
                raise RunError(f"{ALIKE} configurations in a row failed alike", value=record.failure.kind, hint=hint)

    def _measure(self, case: QualityCase, progress: Callable[[QualityRecord], None]) -> QualityRecord:
        places = {record.id: record.index for record in self._journal.records}
        index = places.get(self._evaluator.id(case), len(places))
        record = self._evaluator.measure(case, index)
        self._journal.append(record)
        progress(record)
        return record

    def _require_same(self, dense: QualityRecord) -> None:
        """Compute what candidates are compared with, before anything is replaced."""
        try:
            now = self._evaluator.dense_text()
        except Exception as error:  # of many kinds, as when a case is measured
            raise RunError("the dense model cannot be measured", hint=reason_of(error)) from error
        if dense.text is None or now is None:
            return
        difference = abs(sum(now.nll) - sum(dense.text.nll)) / sum(now.tokens)
        if difference > TOLERANCE:
            raise RunError(
                "the dense model's loss is no longer the recorded one",
                value=round(difference, 6),
                allowed=f"up to {TOLERANCE:g} nats per token",
                hint="choose another --out",
            )
