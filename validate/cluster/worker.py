"""What runs on a node: a process that opens a model once and then measures what it is sent."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from costmodel.errors import CostModelError
from validate.cluster.places import Kind
from validate.errors import MeasurementError, RunError

C = TypeVar("C")
R = TypeVar("R")
C_contra = TypeVar("C_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)

_SHARED = (
    *("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_PROC_BIND", "OMP_PLACES", "OMP_WAIT_POLICY"),
    *("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TOKENIZERS_PARALLELISM"),
)
"""Variables that a worker has as the command has them: Ray sets the number of threads to another."""


class Bench(Protocol[C_contra, R_co]):
    """What a worker has opened."""

    @property
    def environment(self) -> Mapping[str, Any]:
        """What measurements are made with, as records have it."""

    def measure(self, item: C_contra) -> R_co:
        """The result of one item, failed or not."""


class Task(Protocol[C_contra, R_co]):
    """What workers are to do; it is sent to each, so it holds no open file and no tensor."""

    def open(self, kind: Kind, node: str) -> Bench[C_contra, R_co]:
        """Make ready to measure, on the worker.

        Args:
            kind: of device, cpu or cuda.
            node: address of the worker's node, for messages.

        Raises:
            CostModelError: when the run cannot be done, or not on this node.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """An error that ends the run, as a worker reports it.

    Attributes:
        text: the line.
        failed: whether the run failed, rather than that what was asked cannot be.
    """

    text: str
    failed: bool

    @classmethod
    def of(cls, error: CostModelError) -> Refused:
        """What is sent instead of the exception."""
        return cls(text=str(error), failed=isinstance(error, RunError | MeasurementError))


def shared_variables() -> dict[str, str | None]:
    """The variables of this process that workers take over; None where one is not set."""
    return {name: os.environ.get(name) for name in _SHARED}


class Worker(Generic[C, R]):
    """The actor.

    Args:
        task: what to do.
        kind: of device.
        node: address of its node.
        folder: that the command runs in; relative paths count from it where the node has it.
        variables: see `shared_variables`.
    """

    def __init__(
        self, task: Task[C, R], kind: Kind, node: str, folder: str, variables: Mapping[str, str | None]
    ) -> None:
        self._task, self._kind, self._node = task, kind, node
        self._bench: Bench[C, R] | None = None
        for name, value in variables.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
        with contextlib.suppress(OSError):
            os.chdir(folder)

    def open(self) -> Mapping[str, Any] | Refused:
        """Open what the task needs; what it measures with."""
        try:
            self._bench = self._task.open(self._kind, self._node)
        except CostModelError as error:
            return Refused.of(error)
        return self._bench.environment

    def measure(self, item: C) -> R | Refused:
        """The result of one item."""
        if self._bench is None:
            raise AssertionError("asked to measure before it was opened")
        try:
            return self._bench.measure(item)
        except CostModelError as error:
            return Refused.of(error)
