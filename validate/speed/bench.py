"""What a timing run measures on: the device of this process, or those of a cluster's workers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from validate.devices.device import Device
from validate.devices.facts import KnownDevice
from validate.plans.case import Case
from validate.speed.job import TimingJob
from validate.speed.records import Sample
from validate.speed.runner import Runner
from validate.speed.subject import Subject
from validate.speed.timing import TimingPlan


class Bench(Protocol):
    """Where samples are measured."""

    @property
    def device(self) -> KnownDevice:
        """The device; on a cluster that of every worker."""

    def profile(self) -> str:
        """The minimal profile of a CPU, measured on it, as a file's text."""

    def require(self, runtime: str) -> None:
        """Try what `--runtime compile` or `onnx` needs.

        Raises:
            InputError: when it is not there.
        """

    def measured(self, job: TimingJob, cases: Iterable[Case]) -> Iterator[Sample]:
        """The record of each case in the order of the cases, which are taken no earlier than they can be begun.

        Raises:
            CostModelError: when the run as a whole cannot go on.
        """


class LocalBench:
    """This process.

    Args:
        device: that it measures on.
    """

    def __init__(self, device: Device) -> None:
        self.device = device

    def profile(self) -> str:
        """See `Bench`."""
        from validate.devices.cpu_profile import profile_text

        return profile_text(self.device)

    def require(self, runtime: str) -> None:
        """See `Bench`."""
        from validate.runtimes.passes import require_runtime

        require_runtime(runtime, self.device.torch_device)

    def measured(self, job: TimingJob, cases: Iterable[Case]) -> Iterator[Sample]:
        """See `Bench`; the model is built at once."""
        return open_runner(job, self.device).measured(cases)


def open_runner(job: TimingJob, device: Device) -> Runner:
    """Build a job's dense model on a device."""
    subject = Subject(
        job.config, job.spec, device, job.dtype, seed=job.seed, weights=job.weights, artefact=job.artefact
    )
    return Runner(subject, job.predictor, TimingPlan(precision=job.precision, budget_s=job.budget_s))
