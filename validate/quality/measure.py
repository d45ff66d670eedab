"""Measuring what a quality job still lacks: for `validate quality`, `validate choose` and studies."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from validate.quality.case import DENSE, QualityCase
from validate.quality.job import Job
from validate.quality.records import QualityRecord
from validate.store.journal import Journal

if TYPE_CHECKING:  # the reading commands import this module where there is no torch
    from validate.cluster.connection import Cluster
    from validate.quality.clustered import ClusterEvaluator
    from validate.quality.evaluator import Evaluator


class Progress(Protocol):
    """Told how far a run is."""

    def status(self, text: str) -> None:
        """What is being done."""

    def start(self, total: int, done: int) -> None:
        """Records are counted to `total`, from those that are there."""

    def advance(self, record: QualityRecord) -> None:
        """One more record."""

    def note(self, text: str) -> None:
        """A line to keep."""


ShowProgress = Callable[[], AbstractContextManager[Progress]]
"""Opens what shows progress, while something is measured; `contextlib.nullcontext` of a `Progress` will do."""


def measure_missing(
    job: Job,
    journal: Journal[QualityRecord],
    show: ShowProgress,
    deadline: float = math.inf,
    *,
    evaluator: Evaluator | ClusterEvaluator | None = None,
    more_to_come: bool = False,
    cluster: Cluster | None = None,
) -> Evaluator | ClusterEvaluator | None:
    """Measure the dense model and every configuration that has no final record yet; without torch where none lacks one.

    Records are the same, and in the same order, in this process and on a cluster.

    Args:
        show: opens what is told how far it is.
        deadline: by the monotonic clock; none is begun after it.
        evaluator: what an earlier call returned, to go on with; None opens the model.
        more_to_come: the evaluator will measure other configurations too, so it is prepared for any layer.
        cluster: whose workers measure; None for this process.

    Returns:
        The evaluator for the next call, to be closed after the last; None where none was needed yet.

    Raises:
        RunError: when a record cannot be written or the dense model cannot be measured; see `QualityRunner`.
        KeyboardInterrupt: passed on; what was recorded is safe.
    """
    done = {record.id for record in journal.records if record.is_final}
    wanted = {case.id(job.spec, job.model.sha256) for case in (DENSE, *job.cases)}
    if wanted <= done:
        return evaluator
    if job.is_local:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
            os.environ.setdefault(name, "1")
    missing = tuple(case for case in job.cases if case.id(job.spec, job.model.sha256) not in done)
    with show() as progress:
        if evaluator is None:
            prepared = None if more_to_come else missing
            evaluator = (
                _opened(job, prepared, progress) if cluster is None else _joined(cluster, job, prepared, progress)
            )
        from validate.quality.runner import QualityRunner

        progress.start(len(wanted), len(wanted & done))
        try:
            QualityRunner(evaluator, journal).run(job.cases, progress.advance, deadline)
        except BaseException:
            evaluator.close()
            raise
    return evaluator


def _opened(job: Job, cases: Sequence[QualityCase] | None, progress: Progress) -> Evaluator:
    progress.status("loading torch and transformers")
    from transformers.utils import logging

    from validate.quality.opening import open_evaluator

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    return open_evaluator(job, progress.status, cases=cases)


def _joined(cluster: Cluster, job: Job, cases: tuple[QualityCase, ...] | None, progress: Progress) -> ClusterEvaluator:
    progress.status("joining the Ray cluster")
    from validate.quality.clustered import ClusterEvaluator

    evaluator = ClusterEvaluator(cluster, job, cases)
    evaluator.tell(progress.note)
    return evaluator
