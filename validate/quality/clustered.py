"""A quality job on the workers of a Ray cluster, each with the checkpoint open. No torch where the command runs."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from validate.cluster.checkpoint import require_checkpoint
from validate.cluster.connection import Cluster
from validate.cluster.places import Kind
from validate.cluster.pool import Pool
from validate.errors import RunError
from validate.quality.case import QualityCase
from validate.quality.job import Job
from validate.quality.records import QualityRecord, unmeasured
from validate.quality.same import require_same
from validate.store.record_format import Failure

if TYPE_CHECKING:  # loads torch, which only workers need
    from validate.quality.evaluator import Evaluator


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One case, and the dense record that its own dense model must agree with; None where the case is that."""

    case: QualityCase
    dense: QualityRecord | None


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityTask:
    """What a worker opens.

    Attributes:
        job: with its texts; the checkpoint and the files of tasks are read on the worker's own node.
        fixed: `Job.fixed` as the command sees it.
        cases: all that will be measured; None for any.
    """

    job: Job
    fixed: Mapping[str, Any]
    cases: tuple[QualityCase, ...] | None

    def open(self, kind: Kind, node: str) -> QualityBench:
        """The checkpoint, once it is known to be the command's.

        Raises:
            RunError: naming the node, where its weights or tasks are others.
            CostModelError: as `open_evaluator`.
        """
        require_checkpoint(self.job.folder, self.job.model.sha256, node)
        if self.job.artefact is not None:
            require_checkpoint(self.job.artefact.folder, self.job.artefact.source.sha256, node)
        job = replace(self.job, settings=replace(self.job.settings, device=kind))
        if job.fixed["tasks"] != self.fixed["tasks"]:
            raise RunError(f"node {node} has other files of tasks", value=job.fixed["tasks"])
        from transformers.utils import logging

        from validate.quality.opening import open_evaluator

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        return QualityBench(open_evaluator(job, lambda text: None, cases=self.cases))


class QualityBench:
    """An evaluator on a worker."""

    def __init__(self, evaluator: Evaluator) -> None:
        self._evaluator, self._compared = evaluator, False

    @property
    def environment(self) -> Mapping[str, Any]:
        """As records have it."""
        return self._evaluator.environment

    def measure(self, item: Errand) -> QualityRecord:
        """The record of a case; of the first one only after the dense model is found to be that of the records.

        Raises:
            RunError: where it is not.
        """
        if item.dense is not None and not self._compared:
            require_same(self._evaluator, item.dense)
            self._compared = True
        return self._evaluator.measure(item.case)


class ClusterEvaluator:
    """Measures cases on a cluster's workers, in the order of the cases.

    Args:
        cluster: where.
        job: what.
        cases: all that will be measured; None for any, on as many workers as there is room for.

    Raises:
        InputError: when the cluster has no device of the kind asked for, or unlike ones.
        RunError: when it cannot be joined.
    """

    def __init__(self, cluster: Cluster, job: Job, cases: tuple[QualityCase, ...] | None) -> None:
        own = job.artefact and replace(job.artefact, folder=job.artefact.folder.resolve())
        self._job = replace(job, folder=Path(job.folder).resolve(), artefact=own)
        task = QualityTask(job=self._job, fixed=job.fixed, cases=cases)
        settings = job.settings
        most = None if cases is None else max(1, len(cases))
        self._pool: Pool[Errand, QualityRecord] = Pool(
            cluster, task, self._lost, device=settings.device, threads=settings.threads, most=most
        )
        self._same: QualityRecord | None = None

    def id(self, case: QualityCase) -> str:
        """The id that the record of a case has."""
        return case.id(self._job.spec, self._job.model.sha256)

    def require_same(self, dense: QualityRecord) -> None:
        """Have every worker compare its dense model with this record before its next case."""
        self._same = dense

    def measured(self, cases: Iterable[QualityCase]) -> Iterator[QualityRecord]:
        """The record of each case, in their order.

        Raises:
            CostModelError: see `Pool.results`.
        """
        return self._pool.results(Errand(case=case, dense=self._same) for case in cases)

    def tell(self, note: Callable[[str], None]) -> None:
        """Where to say that a worker died."""
        self._pool.tell(note)

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    def _lost(self, item: Errand, failure: Failure) -> QualityRecord:
        calibration = self._job.calibration.source if self._job.calibration else None
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        return unmeasured(
            item.case, self._job.spec, self._job.model, calibration=calibration, failure=failure, started=started
        )
