"""Quality of configurations on one half of the text, in a folder of records of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from costmodel.decomposition.factors import Decomposition
from validate.choose.settings import Settings
from validate.cluster.connection import Cluster
from validate.errors import RunError
from validate.quality.case import QualityCase
from validate.quality.clustered import ClusterEvaluator
from validate.quality.evaluator import Evaluator
from validate.quality.job import Job
from validate.quality.measure import ShowProgress, measure_missing
from validate.quality.records import QUALITY, QualityRecord
from validate.quality.settings import QualitySettings
from validate.store.journal import Journal


class TextQuality:
    """Measures configurations on one text; what has a record is not measured again.

    Args:
        settings: of the loop.
        text: the file to predict.
        folder: where quality.jsonl is kept.
        progress: shows how far measuring is.
        cluster: whose workers measure; None for this process.

    Raises:
        InputError: when checkpoint or text cannot be read.
    """

    def __init__(
        self, settings: Settings, text: Path, folder: Path, progress: ShowProgress, cluster: Cluster | None = None
    ) -> None:
        self._settings = QualitySettings(
            model=settings.model,
            text=str(text),
            calibration_text=settings.calibration_text,
            calibration_blocks=settings.calibration_blocks,
            factors=settings.factors,
            blocks=settings.blocks,
            length=settings.length,
            batch=settings.batch,
            threads=settings.threads,
            device=settings.device,
            seed=settings.seed,
        )
        self._folder, self._progress, self._cluster = folder, progress, cluster
        self.job = Job.read(self._settings)
        self._evaluator: Evaluator | ClusterEvaluator | None = None

    def close(self) -> None:
        """End the workers of a cluster that the model is open on."""
        if self._evaluator is not None:
            self._evaluator.close()

    def sampled(self, count: int) -> list[QualityRecord]:
        """Records of a seeded sample of the space, failed ones included."""
        cases = Job.read(replace(self._settings, samples=count)).cases
        return self._records(cases)

    def measure(self, configs: Sequence[Decomposition]) -> list[QualityRecord]:
        """Records of configurations, in their order; the dense model is measured too.

        Raises:
            RunError: when one could not be measured.
        """
        cases = [QualityCase(decomposition=each, factors=self._settings.factors) for each in configs]
        found = self._records(cases)
        failed = [record for record in found if record.failure is not None]
        if failed and failed[0].failure is not None:
            raise RunError(
                f"{len(failed)} of {len(found)} configurations could not be measured", hint=failed[0].failure.reason
            )
        return found

    def _records(self, cases: Sequence[QualityCase]) -> list[QualityRecord]:
        with Journal(self._folder, QUALITY, resume=True) as journal:
            self.job.keep(journal)
            job = replace(self.job, cases=list(cases))
            self._evaluator = measure_missing(
                job,
                journal,
                self._progress,
                evaluator=self._evaluator,
                more_to_come=True,
                cluster=self._cluster,
            )
            found = {record.id: record for record in journal.records}
        return [found[self._id(case)] for case in cases]

    def _id(self, case: QualityCase) -> str:
        return case.id(self.job.spec, self.job.model.sha256)
