"""Errands and workers that die, refuse or are unlike, over a Ray of one process: no cluster, no torch."""

from __future__ import annotations

import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from one_process_ray import DiedError, KilledForMemoryError, OneProcessRay, pretend

from costmodel.errors import InputError
from validate.cluster.checkpoint import require_checkpoint
from validate.cluster.pool import TRIES, Pool
from validate.errors import RunError
from validate.store.digests import checkpoint_sha256
from validate.store.record_format import WORKER, Failure


@dataclass
class Bench:
    """Measures a number as itself and its node; some numbers kill."""

    node: str
    task: Task

    @property
    def environment(self) -> dict[str, Any]:
        return {"device": {"kind": "cpu", "name": self.task.devices.get(self.node, "one")}, "threads": 1}

    def measure(self, item: int) -> tuple[int, str]:
        if item in self.task.deadly:
            raise self.task.deadly[item](f"killed over {item}")
        if item in self.task.refused:
            raise InputError("no such number", value=item)
        return item, self.node


@dataclass
class Task:
    """Deaths by item and by node on which they open, refusals, and what devices are called."""

    deadly: dict[int, type[Exception]] = field(default_factory=dict)
    stillborn: tuple[str, ...] = ()
    refused: tuple[int, ...] = ()
    devices: dict[str, str] = field(default_factory=dict)

    def open(self, kind: str, node: str) -> Bench:
        if node in self.stillborn:
            raise DiedError("while it opened")
        return Bench(node, self)


@pytest.fixture(autouse=True)
def _without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)


def pool(task: Task, ray: OneProcessRay | None = None) -> Pool[int, Any]:
    cluster: Any = types.SimpleNamespace(ray=ray or OneProcessRay())
    return Pool(cluster, task, lambda item, failure: (item, failure), device="cpu")  # type: ignore[arg-type]


def test_results_come_in_the_order_of_the_items_from_all_workers() -> None:
    made = pool(Task())
    assert made.environment()["threads"] == 1
    found = list(made.results(range(20)))
    assert [item for item, _ in found] == list(range(20))
    assert {node for _, node in found} == {"a", "b"}  # whichever is ready first


@pytest.mark.parametrize(("death", "kind"), [(DiedError, "worker-died"), (KilledForMemoryError, "out-of-memory")])
def test_an_item_over_which_workers_keep_dying_has_failed_and_the_others_are_measured(
    death: type[Exception], kind: str
) -> None:
    ray, notes = OneProcessRay(), list[str]()
    made = pool(Task(deadly={3: death}), ray)
    made.tell(notes.append)
    found = list(made.results(range(6)))
    assert [item for item, _ in found] == list(range(6))
    failure = found[3][1]
    assert isinstance(failure, Failure)
    assert (failure.stage, failure.kind) == (WORKER, kind)
    assert failure.reason.startswith(f"{TRIES} workers died over it")
    assert len(notes) == TRIES - 1
    assert len(ray.started) >= TRIES + 1


def test_a_node_on_which_workers_die_while_they_open_is_left_out() -> None:
    ray = OneProcessRay()
    found = list(pool(Task(stillborn=("b",)), ray).results(range(4)))
    assert found == [(item, "a") for item in range(4)]
    assert ray.started.count("b") == TRIES
    with pytest.raises(RunError, match=r"no worker is left in the Ray cluster; a worker on b died: .*while it opened"):
        list(pool(Task(stillborn=("b",)), OneProcessRay(("b",))).results(range(4)))


def test_nodes_that_get_no_worker_are_named() -> None:
    ray, notes = OneProcessRay(), list[str]()
    cluster: Any = types.SimpleNamespace(ray=ray)
    bare, full = ray.nodes()
    full["Resources"] |= {"GPU": 1.0}
    ray.nodes = lambda: [bare, full]  # type: ignore[method-assign]
    Pool(cluster, Task(), lambda item, failure: item, device="cuda").tell(notes.append)  # type: ignore[arg-type]
    assert notes == ["note: nodes without a GPU are left out: a"]


def test_what_a_worker_refuses_ends_the_run() -> None:
    with pytest.raises(InputError, match=r"no such number: got '?2'?"):
        list(pool(Task(refused=(2,))).results(range(4)))


def test_workers_on_unlike_devices_are_refused_by_name() -> None:
    with pytest.raises(RunError, match=r"workers are unlike: device: got .*one on a"):
        list(pool(Task(devices={"b": "two"})).results(range(4)))


def test_a_worker_with_other_weights_or_none_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    told = checkpoint_sha256(tmp_path)
    require_checkpoint(tmp_path, told, "10.0.0.7")
    (tmp_path / "model.safetensors").write_bytes(b"others")
    with pytest.raises(RunError, match=rf"node 10\.0\.0\.7 has other weights in .*allowed: SHA-256 {told[:12]}"):
        require_checkpoint(tmp_path, told, "10.0.0.7")
    with pytest.raises(RunError, match=r"node 10\.0\.0\.7 has no such folder.*at the same path on every node"):
        require_checkpoint(tmp_path / "gone", told, "10.0.0.7")
