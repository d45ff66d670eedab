"""Runs on a real Ray cluster of two nodes on this machine, disturbed in every way, against one in a single process."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("ray")

import killing
import psutil
from resumable import COMMANDS, make_inputs

from validate.speed.records import read_samples

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:.*:ResourceWarning")]
NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20, "include_dashboard": False}
TIMED = ("seconds", "started")
WAIT_S = 180


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("given"))


@pytest.fixture
def cluster() -> Iterator[Any]:
    """Two nodes of one core each; their processes end with the test."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args=NODE)
    try:
        made.add_node(**NODE)
        made.wait_for_nodes()
        yield made
    finally:
        made.shutdown()


def workers(cluster: Any) -> list[psutil.Process]:
    """The processes on all nodes that measure."""
    found = []
    for node in cluster.list_all_nodes():
        raylet = psutil.Process(node.all_processes["raylet"][0].process.pid)
        found += [each for each in raylet.children() if each.cmdline()[:1] and "Worker.measure" in each.cmdline()[0]]
    return found


def until(what: Callable[[], Any], child: Any, log: Path) -> Any:
    """Wait while the command runs until `what` is true, and return it."""
    end = time.monotonic() + WAIT_S
    while not (found := what()):
        assert child.exitcode is None, log.read_text()[-2000:]
        assert time.monotonic() < end, log.read_text()[-2000:]
        time.sleep(0.01)
    return found


def lines(out: Path) -> list[dict[str, Any]]:
    """Records as they stand in the file, without what was timed."""
    path = out / "quality.jsonl"
    text = path.read_text() if path.exists() else ""
    records = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
    return [{key: value for key, value in record.items() if key not in TIMED} for record in records]


def test_killed_workers_and_a_killed_command_leave_the_records_of_one_process(
    given: Path, cluster: Any, tmp_path: Path
) -> None:
    words = "--samples 12 --blocks 240 --length 32 --threads 1 --device cpu --factors whitened"
    texts = ["--text", str(given / "text.txt"), "--calibration-text", str(given / "other.txt")]
    call, log = ["quality", *words.split(), *texts, "--model", str(given / "model")], tmp_path / "log"
    killing.finish([*call, "--out", str(tmp_path / "calm")], log)
    calm, out = lines(tmp_path / "calm"), tmp_path / "out"
    call += ["--out", str(out), "--ray", cluster.address]

    child = killing.start(call, log)
    until(lambda: len(lines(out)) >= 2, child, log)
    until(lambda: workers(cluster), child, log)[0].kill()
    until(lambda: len(lines(out)) >= 5, child, log)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    before = lines(out)
    assert before == calm[: len(before)]  # what is there is the beginning of the plan

    killing.finish([*call, "--resume"], log)
    assert lines(out) == calm
    assert len({record["id"] for record in calm}) == 12
    assert not [text for text in log.read_text().splitlines() if "ray" in text.lower()]  # Ray keeps its words to itself


def test_times_of_killed_workers_and_a_killed_command_are_of_the_same_samples(
    given: Path, cluster: Any, tmp_path: Path
) -> None:
    command, log, out = COMMANDS["samples"], tmp_path / "log", tmp_path / "out"
    killing.finish(command.make(given, tmp_path / "calm"), log)
    call = [*command.make(given, out), "--ray", cluster.address]

    def done() -> list[Any]:
        return read_samples(out) if (out / "samples.jsonl").exists() else []

    child = killing.start(call, log)
    until(lambda: len(done()) >= 1, child, log)
    for worker in workers(cluster)[:1]:
        worker.kill()
    until(lambda: len(done()) >= 3, child, log)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    killing.finish([*call, "--resume"], log)
    assert command.read(out) == command.read(tmp_path / "calm")
    assert [sample.index for sample in done()] == list(range(6))
    assert {sample.environment["threads"] for sample in done()} == {1}


@pytest.mark.parametrize("command", ["samples", "quality"])
def test_workers_with_other_weights_than_the_command_are_refused(
    given: Path, cluster: Any, tmp_path: Path, command: str
) -> None:
    log, out = tmp_path / "log", tmp_path / "out"
    call = [*COMMANDS[command].make(given, out), "--ray", cluster.address]
    child = killing.start(call, log, prepare=killing.other_weights)
    child.join()
    (line,) = [text for text in log.read_text().splitlines() if text.startswith("error: ")]
    assert child.exitcode == 1
    assert "has other weights in" in line
    assert not (out / f"{command}.jsonl").read_bytes()


def test_sensitivity_on_a_cluster_is_that_of_one_process(given: Path, cluster: Any, tmp_path: Path) -> None:
    command, log = COMMANDS["sensitivity"], tmp_path / "log"
    killing.finish(command.make(given, tmp_path / "calm"), log)
    killing.finish([*command.make(given, tmp_path / "out"), "--ray", cluster.address], log)
    assert command.read(tmp_path / "out") == command.read(tmp_path / "calm")
    assert "Warning" not in log.read_text()
