"""From cases to records: the dense model first, then what has no record yet; one failure never stops the run, but
several in a row that are the machine's do."""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

import msgspec

from validate.errors import RunError
from validate.quality.case import DENSE, QualityCase
from validate.quality.records import QualityRecord
from validate.store.journal import Journal

ALIKE = 3
"""Failures in a row, of one kind that is no verdict on the configurations, that end a run: a device that has failed
once fails for all that follow, in no time."""


class Measurer(Protocol):
    """From cases to records: one after the other in this process, or several at a time elsewhere."""

    def id(self, case: QualityCase) -> str:
        """The id that the record of a case has."""

    def require_same(self, dense: QualityRecord) -> None:
        """Make sure that the dense model is the one that a record is of, before anything else is measured.

        Raises:
            RunError: when it is not; where models are opened elsewhere, `measured` raises it.
        """

    def measured(self, cases: Iterable[QualityCase]) -> Iterator[QualityRecord]:
        """The record of each case in the order of the cases, which are taken no earlier than they can be begun.

        Raises:
            CostModelError: when the run as a whole cannot go on.
        """


class QualityRunner:
    """Measures cases and appends a record for each, in their order.

    Args:
        measurer: measures them.
        journal: where records go; cases that it holds are skipped.
    """

    def __init__(self, measurer: Measurer, journal: Journal[QualityRecord]) -> None:
        self._measurer, self._journal = measurer, journal

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
        dense = known.get(self._measurer.id(DENSE))
        if dense is None or not dense.is_final:
            (measured,) = self._measurer.measured([DENSE])
            dense = self._keep(measured, progress)
        if dense.failure is not None:
            raise RunError("the dense model cannot be measured", hint=dense.failure.reason)
        self._measurer.require_same(dense)
        wanted = {self._measurer.id(case): case for case in cases if not case.is_dense}
        new = [case for identity, case in wanted.items() if identity not in known]
        again = [case for identity, case in wanted.items() if identity in known and not known[identity].is_final]
        failed: list[str] = []
        begun = itertools.takewhile(lambda case: time.monotonic() < deadline, (*new, *again))
        for measured in self._measurer.measured(begun):
            record = self._keep(measured, progress)
            if record.failure is None or record.is_final:
                failed.clear()
                continue
            failed.append(record.failure.kind)
            if failed[-ALIKE:] == [record.failure.kind] * ALIKE:
                hint = f"{record.failure.reason}; --resume measures them again"
                raise RunError(f"{ALIKE} configurations in a row failed alike", value=record.failure.kind, hint=hint)

    def _keep(self, record: QualityRecord, progress: Callable[[QualityRecord], None]) -> QualityRecord:
        """Append a record in the place of its case among the run's records."""
        places = {known.id: known.index for known in self._journal.records}
        placed = msgspec.structs.replace(record, index=places.get(record.id, len(places)))
        self._journal.append(placed)
        progress(placed)
        return placed
