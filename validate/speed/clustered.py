"""A timing run on the workers of a Ray cluster: one on each GPU, or one on each node's processors."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from validate.cluster.checkpoint import require_checkpoint
from validate.cluster.connection import Cluster
from validate.cluster.places import Kind
from validate.cluster.pool import Pool
from validate.devices.facts import DeviceFacts
from validate.devices.threads import pin_threads
from validate.plans.case import Case
from validate.runtimes.stacks import COMPILE, ONNX
from validate.speed.job import TimingJob
from validate.speed.records import Sample
from validate.store.record_format import Failure

if TYPE_CHECKING:  # loads torch, which a worker does only after it has bound its threads
    from validate.devices.device import Device
    from validate.speed.runner import Runner

_PROFILE = "profile"
"""What a worker tells beside its environment: the minimal profile of its CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Errand:
    """One case, and what it is measured with."""

    job: TimingJob
    case: Case


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingTask:
    """What a worker opens: its device alone, since the plan depends on what that is.

    Attributes:
        threads: of a CPU; None for all of its cores.
        runtime: that `--runtime` asks for.
        wants_profile: whether the profile of a CPU is to be measured.
    """

    threads: int | None
    runtime: str
    wants_profile: bool

    def open(self, kind: Kind, node: str) -> TimingBench:
        """The device.

        Raises:
            InputError: when the node lacks it, or what the runtime needs.
        """
        threads = pin_threads(self.threads)
        from transformers.utils import logging

        from validate.devices.opening import open_device

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        device = open_device(kind, threads)
        if self.runtime in (COMPILE, ONNX):
            from validate.runtimes.passes import require_runtime

            require_runtime(self.runtime, device.torch_device)
        return TimingBench(device, node, self.wants_profile)


class TimingBench:
    """A device on a worker, and from the first case on the dense model on it."""

    def __init__(self, device: Device, node: str, wants_profile: bool) -> None:
        from validate.devices.environment import environment

        self._device, self._node = device, node
        self._runner: Runner | None = None
        self.environment: Mapping[str, Any] = environment(device)
        if wants_profile and device.kind == "cpu":
            from validate.devices.cpu_profile import profile_text

            self.environment = {**self.environment, _PROFILE: profile_text(device)}

    def measure(self, item: Errand) -> Sample:
        """The record of a case.

        Raises:
            RunError: where the weights are not those of the command.
        """
        if self._runner is None:
            from validate.speed.bench import open_runner

            job = item.job
            if job.folder is not None and job.sha256 is not None:
                require_checkpoint(job.folder, job.sha256, self._node)
            self._runner = open_runner(job, self._device)
        return self._runner.measure(item.case)


class ClusterBench:
    """Times cases on a cluster's workers.

    Args:
        cluster: where.
        device: auto, cpu or cuda.
        threads, runtime, wants_profile: see `TimingTask`.
        most: workers that there is work for; None for all that there is room for.
        note: told of workers that died, and of nodes that get none.

    Attributes:
        device: of every worker.

    Raises:
        InputError: when the cluster has no device of the kind asked for, or unlike ones; what a worker refused.
        RunError: when the cluster cannot be joined, or no worker is left.
    """

    def __init__(
        self,
        cluster: Cluster,
        *,
        device: str,
        threads: int | None,
        runtime: str,
        wants_profile: bool,
        most: int | None,
        note: Callable[[str], None],
    ) -> None:
        task = TimingTask(threads=threads, runtime=runtime, wants_profile=wants_profile)
        self._pool: Pool[Errand, Sample] = Pool(
            cluster, task, self._lost, device=device, threads=threads, alone=True, most=most
        )
        self._pool.tell(note)
        told = dict(self._pool.environment())
        self._profile = str(told.pop(_PROFILE, ""))
        self._environment = told
        self.device = DeviceFacts.of(told)

    def profile(self) -> str:
        """The minimal profile of the first worker's CPU."""
        return self._profile

    def require(self, runtime: str) -> None:
        """Nothing is left to try: workers did when they opened."""

    def measured(self, job: TimingJob, cases: Iterable[Case]) -> Iterator[Sample]:
        """The record of each case, in their order.

        Raises:
            CostModelError: see `Pool.results`.
        """
        here = replace(
            job,
            weights=job.weights.resolve() if job.weights else None,
            artefact=job.artefact.resolve() if job.artefact else None,
        )
        return self._pool.results(Errand(job=here, case=case) for case in cases)

    def _lost(self, item: Errand, failure: Failure) -> Sample:
        case, job = item.case, item.job
        return Sample(
            id=case.id,
            index=case.index,
            status="failed",
            failure=failure,
            model=job.model,
            config=case.decomposition.to_json(),
            workload=case.work.to_json(),
            strata=case.strata,
            hardware=job.predictor.hardware.name,
            environment=self._environment,
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            elapsed_s=0.0,
        )
