"""Items in, results out in the same order, while workers pull from them; an item whose worker dies goes to another."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic

from costmodel.errors import InputError
from validate.cluster.connection import Cluster
from validate.cluster.places import Kind, Place, kind_of_device, left_out, places
from validate.cluster.worker import C, R, Refused, Task, Worker, shared_variables
from validate.errors import RunError, reason_of
from validate.store.record_format import WORKER, Failure

TRIES = 3
"""Workers that may die over one item before it counts as failed, and while they open on one node before that node is
left out."""
AHEAD = 4
"""Results of later items that may wait for an earlier one, for each worker."""
LOOK_S = 2.0
"""Seconds between two looks at which nodes there are: one that joins gets workers too."""


@dataclass(slots=True, kw_only=True)
class _Errand(Generic[C]):
    """One item on its way. `deaths`: workers that died over it."""

    number: int
    item: C
    deaths: int = 0


@dataclass(slots=True, kw_only=True)
class _Seat(Generic[C]):
    """One worker. `awaits`: the reference of what it does, None while it is idle; without an errand it opens."""

    place: Place
    actor: Any
    awaits: Any
    errand: _Errand[C] | None = None


class Pool(Generic[C, R]):
    """The workers of a run.

    Args:
        cluster: where they are.
        task: what they do.
        lost: makes the result of an item over which TRIES workers died.
        device: auto, cpu or cuda.
        threads, alone: see `places`.
        most: workers that there is work for; None for all that there is room for.

    Raises:
        InputError: when devices of nodes are unlike, or none is of the kind that is asked for.
        RunError: when the cluster cannot be joined.
    """

    def __init__(
        self,
        cluster: Cluster,
        task: Task[C, R],
        lost: Callable[[C, Failure], R],
        *,
        device: str = "auto",
        threads: int | None = None,
        alone: bool = False,
        most: int | None = None,
    ) -> None:
        self._ray, self._task, self._lost = cluster.ray, task, lost
        self._threads, self._alone, self._most = threads, alone, most
        self._kind: Kind = kind_of_device(self._ray.nodes(), device)
        self._seats: list[_Seat[C]] = []
        self._stillborn: dict[str, int] = {}
        self._first: tuple[str, Mapping[str, Any]] | None = None
        self._looked, self._reason = -LOOK_S, ""
        self._note: Callable[[str], None] = lambda text: None

    def tell(self, note: Callable[[str], None]) -> None:
        """Where to say that a worker died; and now, which nodes get none."""
        self._note = note
        nodes = self._ray.nodes()
        if names := left_out(nodes, places(nodes, self._kind, threads=self._threads, alone=self._alone)):
            why = "without a GPU" if self._kind == "cuda" else "with too few processors"
            note(f"note: nodes {why} are left out: {', '.join(names)}")

    def environment(self, workers: int = 1) -> Mapping[str, Any]:
        """What the first worker measures with, once so many are open.

        Raises:
            InputError, RunError: as `results`.
        """
        while self._first is None or sum(seat.awaits is None for seat in self._seats) < workers:
            self._staff()
            self._wait({})
        return self._first[1]

    def results(self, items: Iterable[C]) -> Iterator[R]:
        """The result of every item, in their order; an item is taken when a worker is free.

        Raises:
            InputError, RunError: what a worker refused; or no worker is left, or two are not alike.
        """
        source, again = enumerate(items), list[_Errand[C]]()
        done: dict[int, R] = {}
        given, ended = 0, False
        try:
            while True:
                self._staff()
                for seat in [each for each in self._seats if each.awaits is None]:
                    errand = again.pop(0) if again else None
                    if errand is None and not ended and len(done) < AHEAD * len(self._seats):
                        pulled = next(source, None)
                        ended = pulled is None
                        errand = None if pulled is None else _Errand(number=pulled[0], item=pulled[1])
                    if errand is not None:
                        seat.errand, seat.awaits = errand, seat.actor.measure.remote(errand.item)
                if ended and not again and all(seat.errand is None for seat in self._seats):
                    return
                again += self._wait(done)
                while given in done:
                    yield done.pop(given)
                    given += 1
        finally:
            for seat in [each for each in self._seats if each.errand is not None]:
                self._dismiss(seat)

    def close(self) -> None:
        """End the workers."""
        for seat in list(self._seats):
            self._dismiss(seat)

    def _staff(self) -> None:
        """Start workers where there is room for them."""
        if time.monotonic() < self._looked + LOOK_S and self._seats:
            return
        self._looked = time.monotonic()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        room = places(self._ray.nodes(), self._kind, threads=self._threads, alone=self._alone)
        taken = {seat.place for seat in self._seats}
        free = [each for each in room if each not in taken and self._stillborn.get(each.node_id, 0) < TRIES]
        for place in sorted(free, key=lambda each: each.number):  # over the nodes before several on one
            if self._most is not None and len(self._seats) >= self._most:
                break
            strategy = NodeAffinitySchedulingStrategy(place.node_id, soft=False)
            made = self._ray.remote(Worker).options(
                num_cpus=place.cpus, num_gpus=place.gpus, scheduling_strategy=strategy, max_restarts=0
            )
            actor = made.remote(self._task, self._kind, place.node, os.getcwd(), shared_variables())
            self._seats.append(_Seat(place=place, actor=actor, awaits=actor.open.remote()))
        if not self._seats:
            raise RunError("no worker is left in the Ray cluster", hint=self._reason or "every node is gone")

    def _wait(self, done: dict[int, R]) -> list[_Errand[C]]:
        """Take what one worker has finished into `done`, and return the errand that is to be done again, if any."""
        waiting = {seat.awaits: seat for seat in self._seats if seat.awaits is not None}
        ready, _ = self._ray.wait(list(waiting), num_returns=1, timeout=LOOK_S)
        again = []
        for reference in ready:
            seat = waiting[reference]
            try:
                result = self._ray.get(reference)
            except self._ray.exceptions.RayTaskError as error:
                hint = reason_of(error.cause if isinstance(error.cause, BaseException) else error)
                raise RunError("a worker failed", value=seat.place.node, hint=hint) from error
            except self._ray.exceptions.RayError as error:
                again += self._mourn(seat, error, done)
                continue
            if isinstance(result, Refused):
                raise RunError(result.text) if result.failed else InputError(result.text)
            seat.awaits, errand = None, seat.errand
            if errand is None:
                self._stillborn.pop(seat.place.node_id, None)
                self._require_like(seat.place.node, result)
            else:
                seat.errand = None
                done[errand.number] = result
        return again

    def _mourn(self, seat: _Seat[C], error: Exception, done: dict[int, R]) -> list[_Errand[C]]:
        """Let go a worker that died; its errand, unless too many died over it: then it has failed."""
        self._dismiss(seat)
        self._looked = -LOOK_S
        self._reason = f"a worker on {seat.place.node} died: {reason_of(error, 200)}"
        errand = seat.errand
        if errand is None:
            self._stillborn[seat.place.node_id] = self._stillborn.get(seat.place.node_id, 0) + 1
            return []
        errand.deaths += 1
        if errand.deaths < TRIES:
            self._note(f"a worker on {seat.place.node} died; what it measured is measured again")
            return [errand]
        short = isinstance(error, self._ray.exceptions.OutOfMemoryError)
        kind = "out-of-memory" if short else "worker-died"
        reason = f"{TRIES} workers died over it, the last on {seat.place.node}"
        done[errand.number] = self._lost(errand.item, Failure(stage=WORKER, kind=kind, reason=reason))
        return []

    def _dismiss(self, seat: _Seat[C]) -> None:
        self._seats.remove(seat)
        self._ray.kill(seat.actor, no_restart=True)

    def _require_like(self, node: str, environment: Mapping[str, Any]) -> None:
        """All workers measure with devices and versions of the same names, or their numbers are not of one run."""
        if self._first is None:
            self._first = (node, environment)
        first, before = self._first
        mine, theirs = _compared(environment), _compared(before)
        for name in sorted(mine | theirs):
            if mine.get(name) != theirs.get(name):
                value = f"{mine.get(name)} on {node}, {theirs.get(name)} on {first}"
                raise RunError(f"workers are unlike: {name}", value=value, hint="use nodes that are alike")


def _compared(environment: Mapping[str, Any]) -> dict[str, object]:
    """What of an environment must be the same on every node."""
    device, versions = environment.get("device", {}), environment.get("versions", {})
    about = {name: environment.get(name) for name in ("costmodel", "threads", "cpu_capability")}
    return {**versions, **about, "kind of device": device.get("kind"), "device": device.get("name")}
