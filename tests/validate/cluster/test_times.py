"""`validate --samples --ray` from the command to the records, with workers of one process."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from one_process_ray import DiedError, OneProcessRay, pretend
from validating import LLAMA, tiny_spec

from costmodel.cli import run
from costmodel.units import DType
from validate.cli import cli
from validate.cluster.connection import Cluster
from validate.cluster.pool import TRIES
from validate.devices.cpu import CpuDevice
from validate.speed import clustered
from validate.speed.records import Sample, read_samples
from validate.speed.subject import Subject

PROFILE = Path(__file__).parents[3] / "hw_profiles" / "epyc-9654.toml"
SMALL = {**LLAMA, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1}
HOW = "--samples 3 --threads 1 --budget 0.1 --precision 50 --device cpu --phase prefill --seq-len 8 --batch 1"
ASKED = shlex.split(HOW)

pytestmark = pytest.mark.usefixtures("no_pictures", "one_copy")


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> OneProcessRay:
    """Two nodes of one processor each."""
    made = OneProcessRay()
    pretend(monkeypatch)
    monkeypatch.setattr(Cluster, "ray", property(lambda self: made))
    monkeypatch.setattr("validate.cli.options.require_ray", lambda address: address)
    monkeypatch.setattr("validate.devices.cpu_profile.profile_text", lambda device: PROFILE.read_text())
    return made


@pytest.fixture
def model(tmp_path: Path) -> str:
    """A folder with weights."""
    Subject(SMALL, tiny_spec(SMALL), CpuDevice(1), DType.FP32, seed=3).model.save_pretrained(tmp_path / "model")
    return str(tmp_path / "model")


def told(records: list[Sample]) -> list[tuple[Any, ...]]:
    return [(record.id, record.index, record.status, record.config, record.workload) for record in records]


def test_workers_time_the_samples_of_one_process_in_its_order_and_what_killed_them_all_is_measured_again(
    ray: OneProcessRay, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = [*ASKED, "--model", model]
    assert run(cli, [*asked, "--out", str(tmp_path / "calm")]) == 0
    calm, out = read_samples(tmp_path / "calm"), tmp_path / "out"
    measure = clustered.TimingBench.measure

    def deadly(self: clustered.TimingBench, item: clustered.Errand) -> Sample:
        if item.case.index == 1:
            raise DiedError("killed")
        return measure(self, item)

    monkeypatch.setattr(clustered.TimingBench, "measure", deadly)
    assert run(cli, [*asked, "--out", str(out), "--ray", "auto"]) == 0
    records = read_samples(out)
    assert told(records[:1] + records[2:]) == told(calm[:1] + calm[2:])
    (failure,) = [record.failure for record in records if record.failure is not None]
    assert (failure.stage, failure.kind) == ("worker", "worker-died")
    assert set(ray.started) == {"a", "b"}
    assert len(ray.started) >= 2 + TRIES - 1
    assert (out / "hardware.toml").read_text() == PROFILE.read_text()
    assert {record.model.weights for record in records} == {"model"}

    monkeypatch.setattr(clustered.TimingBench, "measure", measure)
    assert run(cli, ["--out", str(out), "--resume", "--ray", "auto"]) == 0
    assert told(read_samples(out)) == told(calm)
    assert "died; what it measured is measured again" in capsys.readouterr().err


def test_a_worker_whose_weights_are_others_ends_the_run_by_its_name(
    ray: OneProcessRay, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("validate.cli.measure.checkpoint_sha256", lambda folder: 64 * "0")
    assert run(cli, [*ASKED, "--model", model, "--out", str(tmp_path / "out"), "--ray", "auto"]) == 1
    (line,) = [text for text in capsys.readouterr().err.splitlines() if text.startswith("error: ")]
    assert "node b has other weights in" in line or "node a has other weights in" in line
    assert not read_samples(tmp_path / "out")
    assert ray.started
