"""One configuration to one record: replace, measure text and tasks, take back."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import msgspec

from validate.errors import RunError, kind_of, reason_of
from validate.factors.replace import Replacement, StageMaker
from validate.factors.sequential import SequentialFactors
from validate.models.exchange import exchanged
from validate.models.pretrained import Pretrained
from validate.quality.case import QualityCase
from validate.quality.records import (
    CalibrationSource,
    CheckpointRecord,
    QualityRecord,
    TaskRecord,
    TextRecord,
    unmeasured,
)
from validate.quality.same import require_same
from validate.quality.tasks import TaskMeasure
from validate.quality.text import TextMeasure
from validate.store.record_format import Failure


class Evaluator:
    """Measures configurations of one checkpoint, which is factored in place and restored for each.

    Args:
        pretrained: the checkpoint, dense.
        model: what records call it.
        makers: where factors come from, by kind; each factorises a tensor once for all ranks, or a
            configuration at a time.
        text: what to predict, if anything.
        tasks: what to ask, if anything.
        calibration: the text of factors that are fitted to one.
        environment: what the measurement is made with.
        artefact: a factored folder as it runs, for the cases that are of one.
        params: of a checkpoint that is factored already and measured as it is; None where the structure says.
    """

    def __init__(
        self,
        pretrained: Pretrained,
        model: CheckpointRecord,
        makers: Mapping[str, StageMaker | SequentialFactors],
        *,
        text: TextMeasure | None = None,
        tasks: Sequence[TaskMeasure] = (),
        calibration: CalibrationSource | None = None,
        environment: Mapping[str, Any] | None = None,
        artefact: Pretrained | None = None,
        params: int | None = None,
    ) -> None:
        self._pretrained, self._model, self._makers = pretrained, model, makers
        self._text, self._tasks, self._calibration = text, tasks, calibration
        self._artefact, self._params = artefact, params
        self.environment: Mapping[str, Any] = dict(environment or {})
        """What measurements are made with."""

    def dense_text(self) -> TextRecord | None:
        """The dense model's measurement that candidates are compared with; the first call computes it."""
        return self._text.dense if self._text is not None else None

    def id(self, case: QualityCase) -> str:
        """The id that the record of a case has."""
        return case.id(self._pretrained.spec, self._model.sha256)

    def measure(self, case: QualityCase, index: int = 0) -> QualityRecord:
        """The record of one case, failed or not.

        Args:
            index: its place among the run's records.

        Raises:
            RunError: when the run as a whole cannot go on.
        """
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        attempt = _Attempt()
        failure = None
        try:
            self._attempt(case, attempt)
        except RunError:
            raise
        except Exception as error:  # whatever goes wrong with one configuration is its record, and the run goes on
            failure = Failure(stage=attempt.stage, kind=kind_of(error), reason=reason_of(error))
        bare = unmeasured(
            case, self._pretrained.spec, self._model, calibration=self._calibration, failure=failure, started=started
        )
        return msgspec.structs.replace(
            bare,
            index=index,
            params=bare.params if self._params is None else self._params,
            text=None if failure else attempt.text,
            tasks=() if failure else tuple(attempt.tasks),
            seconds=attempt.seconds,
            environment=self.environment,
        )

    def measured(self, cases: Iterable[QualityCase]) -> Iterator[QualityRecord]:
        """The record of each case, one after the other."""
        return (self.measure(case) for case in cases)

    def require_same(self, dense: QualityRecord) -> None:
        """See `validate.quality.same.require_same`."""
        require_same(self, dense)

    def close(self) -> None:
        """Nothing to end: what is open goes with this process."""

    def _attempt(self, case: QualityCase, attempt: _Attempt) -> None:
        with attempt.timed("factors"):
            replacement = self._exchange(case)
        with replacement:
            if self._text is not None:
                with attempt.timed("text"):
                    attempt.text = self._text.dense if case.is_dense else self._text.measure(_first_changed(case))
            with attempt.timed("tasks"):
                for task in self._tasks:
                    attempt.tasks += task.measure()

    def _exchange(self, case: QualityCase) -> AbstractContextManager[object]:
        """What makes the model that of a case, and takes it back."""
        pretrained = self._pretrained
        if case.artefact is not None:
            if self._artefact is None:
                raise RunError("no factored folder was opened", value=case.artefact.name)
            return exchanged(pretrained, self._artefact)
        make = self._makers.get(case.kind, _none)
        if isinstance(make, SequentialFactors):
            make = make.fitted(case.decomposition)
        return Replacement(pretrained.body, pretrained.spec, case.decomposition, make)


def _first_changed(case: QualityCase) -> int:
    """Number of the first layer that is not the dense one; a folder's own layers all count as others."""
    if case.artefact is not None:
        return 0
    return min({site.layer for site in case.decomposition.factors} | case.decomposition.dropped)


class _Attempt:
    """What a case has gathered when it succeeds or fails."""

    def __init__(self) -> None:
        self.stage = ""
        self.text: TextRecord | None = None
        self.tasks: list[TaskRecord] = []
        self.seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        self.stage = stage
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = round(time.perf_counter() - start, 3)


def _none(*_: object) -> Any:
    raise RunError("no source of factors of this kind")
