"""Records survive: half-written lines, full disks, two runs at once, kill -9 in the middle of an append."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import msgspec
import pytest
from validating import sample

from costmodel.errors import InputError
from validate.errors import RecordError, RunError
from validate.speed.records import SAMPLES, read_samples
from validate.store.journal import Journal
from validate.store.record_format import Failure

ROOT = Path(__file__).resolve().parents[3]


def test_a_line_is_read_back_equal() -> None:
    record = sample(["rank=3"], 0.8, repeat=0.81)
    line = SAMPLES.encode(record)
    assert line.count(b"\n") == 1
    assert line.endswith(b"\n")
    assert SAMPLES.decode(line, "here") == record
    spec = record.spec()
    assert spec.num_layers == 3
    assert record.decomposition(spec).to_json() == record.config
    assert record.work().to_json() == record.workload


def test_appended_records_are_there_after_reopening(tmp_path: Path) -> None:
    records = [sample([f"rank={rank}"], 0.9, index=rank) for rank in (1, 2, 3)]
    with Journal(tmp_path / "run", SAMPLES, resume=False) as journal:
        for record in records:
            journal.append(record)
    assert read_samples(tmp_path / "run") == records
    with Journal(tmp_path / "run", SAMPLES, resume=True) as journal:
        assert journal.records == records
        assert journal.repaired_bytes == 0


@pytest.mark.parametrize("cut", [1, 10, 200])
def test_a_half_written_last_line_is_cut_off(tmp_path: Path, cut: int) -> None:
    first, second = sample(["rank=1"], 0.9), sample(["rank=2"], 0.9)
    (tmp_path / "samples.jsonl").write_bytes(SAMPLES.encode(first) + SAMPLES.encode(second)[:-cut])
    assert read_samples(tmp_path) == [first]
    with Journal(tmp_path, SAMPLES, resume=True) as journal:
        assert journal.repaired_bytes == len(SAMPLES.encode(second)) - cut
        journal.append(second)
    assert (tmp_path / "samples.jsonl").read_bytes() == SAMPLES.encode(first) + SAMPLES.encode(second)


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_bytes(b'{"schema": 1, "id"\n' + SAMPLES.encode(sample(["rank=1"], 0.9)))
    with pytest.raises(RecordError, match=r"samples\.jsonl:1: sample is not JSON"):
        Journal(tmp_path, SAMPLES, resume=True)
    with pytest.raises(RecordError, match=r"samples\.jsonl:1"):
        read_samples(tmp_path)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"schema": 99}\n', "schema: got 99; allowed: 1"),
        (b"[]\n", "not a JSON object"),
        (b'{"schema": 1, "id": 3}\n', "not a sample"),
    ],
)
def test_other_versions_and_shapes_are_refused(line: bytes, message: str) -> None:
    with pytest.raises(RecordError, match=message):
        SAMPLES.decode(line, "there")


def test_records_of_an_earlier_run_are_not_overwritten(tmp_path: Path) -> None:
    with Journal(tmp_path, SAMPLES, resume=False) as journal:
        journal.append(sample(["rank=1"], 0.9))
    with pytest.raises(RunError, match="holds 1 samples of an earlier run; add --resume"):
        Journal(tmp_path, SAMPLES, resume=False)


def test_refused_input_leaves_no_folder_but_keeps_one_that_was_there(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").touch()
    for name in ("new", "mine"):
        journal = Journal(tmp_path / name, SAMPLES, resume=False)
        (tmp_path / name / "hardware.toml").touch()
        with pytest.raises(InputError), journal:
            raise InputError("refused")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["mine", "notes.txt"]
    journal = Journal(tmp_path / "begun", SAMPLES, resume=False)
    journal.append(sample(["rank=3"], 0.9))
    with pytest.raises(InputError), journal:
        raise InputError("refused")
    assert len(read_samples(tmp_path / "begun")) == 1


def test_a_models_folder_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="--out is the folder of a model"):
        Journal(tmp_path, SAMPLES, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


@pytest.mark.parametrize("made", [True, False], ids=["new", "there"])
def test_refused_input_leaves_what_others_wrote_meanwhile(made: bool, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    if not made:
        folder.mkdir()
    journal = Journal(folder, SAMPLES, resume=False)
    for name in ("run.json", "hardware.toml", "a thesis.txt"):
        (folder / name).touch()
    with pytest.raises(InputError), journal:
        raise InputError("refused")
    assert [path.name for path in folder.iterdir()] == ["a thesis.txt"]


def test_doubled_records_are_found(tmp_path: Path) -> None:
    (tmp_path / "samples.jsonl").write_bytes(SAMPLES.encode(sample(["rank=1"], 0.9)) * 2)
    with pytest.raises(RecordError, match="sample twice"):
        Journal(tmp_path, SAMPLES, resume=True)


def test_a_later_record_replaces_a_failed_one(tmp_path: Path) -> None:
    failure = Failure(stage="timing", kind="out-of-memory", reason="no memory")
    first, second = sample(["rank=1"], 0.9), sample(["rank=2"], 0.9, index=1)
    bad = msgspec.structs.replace(first, status="failed", failure=failure)
    with Journal(tmp_path, SAMPLES, resume=False) as journal:
        for record in (bad, second, bad, first):
            journal.append(record)
        assert journal.records == [first, second]
    assert (tmp_path / "samples.jsonl").read_bytes() == b"".join(map(SAMPLES.encode, (bad, second, bad, first)))
    assert read_samples(tmp_path) == [first, second]
    with Journal(tmp_path, SAMPLES, resume=True) as journal:
        assert journal.records == [first, second]
        journal.append(bad)  # a record that did not fail is not replaced
    with pytest.raises(RecordError, match="sample twice"):
        Journal(tmp_path, SAMPLES, resume=True)


def test_two_runs_on_one_folder_are_refused_until_the_first_ends(tmp_path: Path) -> None:
    with Journal(tmp_path, SAMPLES, resume=False), pytest.raises(RunError, match=f"process {os.getpid()} holds it"):
        Journal(tmp_path, SAMPLES, resume=True)
    Journal(tmp_path, SAMPLES, resume=True).close()


def test_the_lock_of_a_killed_process_is_gone(tmp_path: Path) -> None:
    code = f"""
        import pathlib, sys, time
        from validate.speed.records import SAMPLES
        from validate.store.journal import Journal
        journal = Journal(pathlib.Path({str(tmp_path)!r}), SAMPLES, resume=False)
        print("locked", flush=True)
        time.sleep(60)
    """
    child = subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    with child, child.stdout:
        assert child.stdout.readline() == "locked\n"
        with pytest.raises(RunError, match=f"process {child.pid} holds it"):
            Journal(tmp_path, SAMPLES, resume=True)
        child.send_signal(signal.SIGKILL)
    Journal(tmp_path, SAMPLES, resume=True).close()


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = sample(["rank=1"], 0.9), sample(["rank=2"], 0.9)
    with Journal(tmp_path, SAMPLES, resume=False) as journal:
        journal.append(first)
        written = os.write

        def full(handle: int, data: bytes) -> int:
            if len(data) < 100:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return written(handle, data[: len(data) // 2])

        monkeypatch.setattr("validate.store.journal.os.write", full)
        with pytest.raises(RunError, match="No space left on device; 1 samples are safe"):
            journal.append(second)
        monkeypatch.undo()
        assert (tmp_path / "samples.jsonl").read_bytes() == SAMPLES.encode(first)
        journal.append(second)
    assert read_samples(tmp_path) == [first, second]


@pytest.mark.parametrize("folder", ["/proc/validate", "file/inside"])
def test_an_unwritable_folder_is_one_line(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot write to folder"):
        Journal(tmp_path / folder, SAMPLES, resume=False)


def test_a_killed_writer_leaves_whole_lines(tmp_path: Path) -> None:
    code = f"""
        import itertools, pathlib
        from validate.speed.records import SAMPLES
        from validate.store.journal import Journal
        from validating import sample
        spare = sample(["rank=1"], 0.9)
        with Journal(pathlib.Path({str(tmp_path)!r}), SAMPLES, resume=False) as journal:
            print("ready", flush=True)
            for number in itertools.count():
                journal.append(__import__("msgspec").structs.replace(spare, id=str(number), index=number))
    """
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert child.stdout is not None
    with child, child.stdout:
        assert child.stdout.readline() == "ready\n"
        while not (tmp_path / "samples.jsonl").stat().st_size > 50_000:
            assert child.poll() is None
        child.send_signal(signal.SIGKILL)
    with Journal(tmp_path, SAMPLES, resume=True) as journal:
        assert [record.index for record in journal.records] == list(range(len(journal.records)))
        assert len(journal.records) >= 10
