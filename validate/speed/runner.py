"""From cases to records: build, check, measure; one failure never stops the run."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from costmodel.decomposition.factors import Decomposition
from validate.devices.device import Device
from validate.devices.environment import environment
from validate.errors import MeasurementError, RunError, kind_of, reason_of
from validate.models.passes import Pass
from validate.plans.case import Case
from validate.speed.energy import measure_energy
from validate.speed.identity import identities, require_equal
from validate.speed.memory import measure_memory
from validate.speed.predictions import Predictor
from validate.speed.records import Identity, Memory, Outputs, Prediction, Sample, Timing
from validate.speed.subject import Pair, Subject
from validate.speed.timing import TimingPlan, compare
from validate.store.record_format import Failure


@dataclass(slots=True)
class _Attempt:
    """What a sample has gathered when it succeeds or fails."""

    stage: str = "predict"
    predicted: list[Prediction] | None = None
    identity: list[Identity] | None = None
    outputs: Outputs | None = None
    memory: Memory | None = None
    timing: Timing | None = None
    repeat: Timing | None = None
    energy: Any = None


class Runner:
    """Measures cases on a device.

    Args:
        subject: the dense model.
        predictor: prices each case beforehand.
        plan: precision and budget of each comparison.
    """

    def __init__(self, subject: Subject, predictor: Predictor, plan: TimingPlan) -> None:
        self._subject, self._predictor, self._plan = subject, predictor, plan
        self._device: Device = subject.device
        self._environment = environment(self._device)

    def measured(self, cases: Iterable[Case]) -> Iterator[Sample]:
        """The record of each case, in their order; one is begun when it is asked for."""
        return map(self.measure, cases)

    def measure(self, case: Case) -> Sample:
        """The record of one case, failed or not."""
        started = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        start, attempt, failure = time.monotonic(), _Attempt(), None
        try:
            with torch.inference_mode():
                self._attempt(case, attempt)
        except RunError:
            raise
        except Exception as error:  # whatever goes wrong with one sample is its record, and the run goes on
            failure = Failure(stage=attempt.stage, kind=kind_of(error), reason=reason_of(error))
        self._device.release()
        return Sample(
            id=case.id,
            index=case.index,
            status="failed" if failure else "ok",
            failure=failure,
            model=self._subject.record,
            config=case.decomposition.to_json(),
            workload=case.work.to_json(),
            strata=case.strata,
            hardware=self._predictor.hardware.name,
            predicted=attempt.predicted or [],
            identity=attempt.identity or [],
            outputs=attempt.outputs,
            timing=attempt.timing,
            repeat=attempt.repeat,
            memory=attempt.memory,
            energy=attempt.energy,
            environment=self._environment,
            started=started,
            elapsed_s=round(time.monotonic() - start, 3),
        )

    def _attempt(self, case: Case, attempt: _Attempt) -> None:
        attempt.predicted = self._predictor.predictions(case.spec, case.decomposition, case.work)
        counts = self._predictor.counts(case.spec, case.decomposition, case.work)
        attempt.stage = "build"
        candidate = self._subject.candidate(case.decomposition)
        attempt.stage = "identity"
        attempt.identity = identities(candidate, case.spec, case.decomposition, case.work, counts)
        require_equal(attempt.identity)
        attempt.stage = "memory"
        run = self._subject.run(candidate, case.decomposition, case.work)
        require_finite(run())
        if case.work.stack is None:  # of a stack's own allocator torch knows nothing
            attempt.memory = measure_memory(
                self._device,
                candidate,
                self._subject.model,
                run,
                case.work,
                counts["kv_cache_bytes"],
                self._subject.remake,
            )
        attempt.timing, attempt.energy = self._time(case, candidate, attempt)
        if case.repeat:
            attempt.stage = "build"
            candidate = self._subject.candidate(case.decomposition)
            attempt.repeat, _ = self._time(case, candidate, attempt, energy=False)

    def _time(self, case: Case, candidate: nn.Module, attempt: _Attempt, energy: bool = True) -> tuple[Timing, Any]:
        attempt.stage = "timing"
        pair = self._subject.pair(case, candidate)
        if case.work.stack is not None:
            candidates, references, attempt.outputs = self._by_stack(pair, case)
        else:
            candidates = self._prepared(pair.candidates, case.decomposition, case)
            references = self._prepared(pair.references, Decomposition(), case)
        for work in (*candidates, *references):
            require_finite(work())
        timing = compare(self._device, candidates, references, self._plan, case.work.runtime)
        for work in (candidates[0], references[0]):
            require_finite(work())
        if not energy:
            return timing, None
        attempt.stage = "energy"
        return timing, measure_energy(self._device, candidates[0], references[0])

    def _prepared(self, trees: list[nn.Module], decomposition: Decomposition, case: Case) -> list[Pass]:
        runs = [self._subject.run(tree, decomposition, case.work) for tree in trees]
        return [self._device.prepare(run, case.work.runtime) for run in runs]  # type: ignore[misc]

    def _by_stack(self, pair: Pair, case: Case) -> tuple[list[Pass], list[Pass], Outputs]:
        """Candidates and references as the workload's stack runs them, and how far their outputs are from PyTorch's."""
        passes = self._subject.stack_passes
        passes.forget()
        candidates = [passes.make(tree, case.decomposition, case.work) for tree in pair.candidates]
        references = [passes.make(tree, Decomposition(), case.work) for tree in pair.references]
        outputs = Outputs(
            candidate=max(each.difference for each in candidates),
            dense=max(each.difference for each in references),
            tolerance=references[0].tolerance,
        )
        ready = [
            [self._device.prepare(each.run, case.work.runtime) for each in both] for both in (candidates, references)
        ]
        return ready[0], ready[1], outputs  # type: ignore[return-value]


def require_finite(output: torch.Tensor) -> None:
    """Raise MeasurementError when an output holds NaN or infinity."""
    bad = int((~torch.isfinite(output)).sum())
    if bad:
        raise MeasurementError("non-finite", f"{bad:,} of {output.numel():,} outputs are NaN or infinite")
