"""Probing: the plan is seeded and over-samples what low-rank models need; a small one runs on the CPU."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from costmodel.cli import run
from costmodel.forward.workload import Runtime
from costmodel.timing.calibration.load import load_calibration
from costmodel.units import DType
from validate.calibration import few as fit_few
from validate.calibration.folder import read_ops
from validate.cli import cli
from validate.devices.cpu import CpuDevice
from validate.devices.device import Work
from validate.errors import RunError
from validate.probes.launch import module_launch_seconds
from validate.probes.microbench import Microbench, host_launch_seconds, tables_from
from validate.probes.plan import Op, ProbePlan, probe_plan
from validate.probes.records import OPS, quiet_seconds
from validate.probes.run import run_probe, turns
from validate.store.journal import Journal

LIMITS = {"max_rows": 1024, "max_flops": 5e10, "max_bytes": 5e8, "element_bytes": 4}


def test_the_plan_is_seeded_and_keeps_its_limits() -> None:
    plan = probe_plan(600, 3, **LIMITS)  # type: ignore[arg-type]
    assert plan == probe_plan(600, 3, **LIMITS)  # type: ignore[arg-type]
    assert plan != probe_plan(600, 4, **LIMITS)  # type: ignore[arg-type]
    assert 550 <= len(plan.ops) <= 650
    for m, n, k in plan.gemms:
        assert m <= 1024
        assert 2 * m * n * k <= 5e10
        assert 4 * (n * k + m * (n + k)) <= 5e8
    for batch, q_len, kv_len, heads, kv_heads, _ in plan.attention:
        assert heads % kv_heads == 0
        assert q_len in (1, kv_len)
        assert batch * q_len <= 1024 + 8


def test_the_plan_holds_what_low_rank_models_need() -> None:
    plan = probe_plan(600, 0, **LIMITS)  # type: ignore[arg-type]
    low_rank = [(n, k) for _, n, k in plan.gemms if min(n, k) <= 512]
    assert len(low_rank) > 0.5 * len(plan.gemms)
    ranks = [min(pair) for pair in low_rank]
    assert sum(rank % 8 != 0 for rank in ranks) >= 20
    assert sum(rank % 16 == 8 for rank in ranks) >= 5
    assert min(ranks) <= 2
    assert {m for m, _, _ in plan.gemms} >= {1, 2, 4, 16, 64, 256, 1024}
    assert {kind for kind, _, _ in plan.streams} == {"elementwise", "norm", "activation", "embedding"}
    assert any(q_len > 1 for _, q_len, *_ in plan.attention)
    assert any(q_len == 1 for _, q_len, *_ in plan.attention)


@pytest.fixture
def bench() -> Microbench:
    return Microbench(CpuDevice(1), DType.FP32, Runtime.EAGER)


SMALL = ProbePlan(
    gemms=((1, 64, 64), (64, 512, 512)),
    attention=((1, 16, 16, 4, 2, 16), (2, 1, 33, 4, 4, 16)),
    streams=(("elementwise", 4, 64), ("norm", 4, 64), ("activation", 4, 64), ("embedding", 4, 64)),
)


def test_a_small_plan_on_the_cpu(bench: Microbench, tmp_path: Path) -> None:
    counted: list[int] = []
    with Journal(tmp_path, OPS, resume=False) as journal:
        assert run_probe(bench, turns(SMALL, 2, 0), journal, counted.append)
    records = OPS.read(tmp_path)
    assert counted == list(range(17))
    assert [record.turn for record in records] == [0] * 8 + [1] * 8
    assert {record.op for record in records[:8]} == set(SMALL.ops)
    assert [record.op for record in records[:8]] != [record.op for record in records[8:]]
    quiet = quiet_seconds(records)
    assert all(0 < each < 1 for each in quiet.values())
    tables, streams = tables_from(quiet, 4)
    assert sorted(tables["gemm"].shape.T.tolist()) == [[1, 64, 64], [64, 512, 512]]
    assert tables["prefill"].shape[:, 0].tolist() == [1, 16, 16, 4, 2, 16]
    assert tables["decode"].seconds.tolist() == [quiet["attention", (2, 1, 33, 4, 4, 16)]]
    assert {table.kind: table.moved.tolist() for table in streams} == {
        "elementwise": [3 * 4 * 64 * 4],
        "norm": [2 * 4 * 64 * 4 + 2 * 64 * 4],
        "activation": [2 * 4 * 64 * 4],
        "embedding": [2 * 4 * 64 * 4 + 8 * 4],
    }


class Script:
    """Stands in for a bench: each operation takes a microsecond per row, or raises what is in `errors`."""

    def __init__(self) -> None:
        self.device = CpuDevice(1)
        self.asked: list[Op] = []
        self.errors: list[BaseException | None] = []

    def times(self, op: Op) -> list[float]:
        self.asked.append(op)
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return [1e-6 * op[1][0]] * 3


def go(script: Script, folder: Path, **options: Any) -> bool:
    """One call of a probe on the script, continuing what the folder holds."""
    with Journal(folder, OPS, resume=True) as journal:
        return run_probe(cast(Microbench, script), turns(SMALL, 2, 0), journal, **options)


def test_an_interrupted_probe_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = Script()
    assert go(whole, tmp_path / "whole")
    script = Script()
    script.errors = [None] * 5 + [KeyboardInterrupt()]
    with pytest.raises(KeyboardInterrupt):
        go(script, tmp_path / "parts")
    with (tmp_path / "parts" / "ops.jsonl").open("ab") as file:
        file.write(b'{"half": ')  # as kill -9 may leave it
    assert not go(script, tmp_path / "parts", deadline=0.0)
    counted: list[int] = []
    assert go(script, tmp_path / "parts", progress=counted.append)
    assert counted == list(range(5, 17))
    assert [*script.asked[:5], *script.asked[6:]] == whole.asked
    assert OPS.read(tmp_path / "parts") == OPS.read(tmp_path / "whole")


def test_what_fails_is_recorded_and_tried_again(tmp_path: Path) -> None:
    script = Script()
    script.errors = [None, RuntimeError("CUDA out of memory"), None]
    assert go(script, tmp_path)
    failed = [record for record in OPS.read(tmp_path) if record.status == "failed"]
    assert [record.op for record in failed] == [script.asked[1]]
    assert failed[0].failure is not None
    assert (failed[0].failure.kind, failed[0].failure.reason) == ("out-of-memory", "RuntimeError: CUDA out of memory")
    assert len(quiet_seconds(OPS.read(tmp_path))) == 8  # its other pass counts
    script.asked.clear()
    assert go(script, tmp_path)
    assert script.asked == [failed[0].op]
    assert all(record.status == "ok" for record in OPS.read(tmp_path))
    script.errors = [RuntimeError("device lost")] * 16
    with pytest.raises(RunError, match=r"8 operations failed one after the other.*device lost"):
        go(script, tmp_path / "lost")


def test_short_kernels_share_a_graph() -> None:
    """A device behind its host: one replay holds many calls, and each gets its share of the time."""

    class Behind(CpuDevice):
        kind = "cuda"
        calls = 0

        def prepare(self, work: Work, runtime: Runtime) -> Work:
            assert runtime is Runtime.GRAPH
            return work

        def time(self, works: Sequence[Work], runtime: Runtime) -> list[float]:
            for work in works:
                work()
            return [0.016] * len(works)

    device = Behind(1)
    bench = Microbench(device, DType.FP32, Runtime.GRAPH)

    def count() -> None:
        device.calls += 1

    assert bench._time([count, count]) == pytest.approx([0.001] * 3)
    assert device.calls == 16 * (2 + 4)


def test_no_weight_is_read_again_before_the_cache_has_forgotten_it(bench: Microbench) -> None:
    stretch = 2 * bench.device.cache_bytes
    places: list[int] = []
    read = 0
    while read < 3 * stretch:
        found = bench._cold(1 << 18)
        assert len(found) > 1
        places += [each.data_ptr() for each in found]
        read += 4 * sum(each.numel() for each in found)
    turn = stretch // (4 << 18)
    assert all(len(set(places[at : at + turn])) == turn for at in range(len(places) - turn))
    assert len(set(places)) == turn
    assert len(bench.gemm((1, 8, 8))) > 100
    assert len(bench.gemm((1, 1 << 12, stretch // (4 << 12) + 1))) == 1
    assert 0 < host_launch_seconds(bench.device, 50) < 1e-2
    assert 0 < module_launch_seconds(bench.device, 2) < 1


@pytest.mark.slow
def test_the_command_is_interrupted_continued_and_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    calls: list[Op] = []

    def times(self: Microbench, op: Op) -> list[float]:
        calls.append(op)
        if len(calls) == 100:
            raise KeyboardInterrupt
        if len(calls) == 150:
            raise RuntimeError("no kernel for this")
        kind, shape = op
        work = math.prod(shape) if kind != "attention" else shape[0] * shape[1] * shape[2] * shape[3] * shape[5]
        return [1e-6 + work / 1e11] * 3

    monkeypatch.setattr(Microbench, "times", times)
    monkeypatch.setattr(fit_few, "TAUGHT", 600)
    monkeypatch.setattr(fit_few, "TEACHERS", 1)
    monkeypatch.setattr(fit_few, "_TEACHER", dataclasses.replace(fit_few._TEACHER, epochs=5))
    monkeypatch.setattr(fit_few, "_STUDENT", dataclasses.replace(fit_few._STUDENT, epochs=20))
    words = ["probe", "--device", "cpu", "--threads", "1", "--points", "200", "--passes", "1", "--hw", "amd-epyc-2t"]
    words += ["--out", str(tmp_path)]
    assert run(cli, words) == 130
    assert "99 of 202 turns are taken; --resume continues" in capsys.readouterr().out
    assert not (tmp_path / "calibration.json").exists()
    assert run(cli, [*words, "--resume"]) == 0
    out, err = capsys.readouterr()
    assert "warning: turns failed: 1; the first was " in err
    assert "no kernel for this" in err
    assert "calibration.json: predicted / measured - 1 on shapes held out" in out
    assert len(calls) == 203
    assert load_calibration(tmp_path / "calibration.json").hardware == "amd-epyc-2t"
    assert sum(len(table) for table in read_ops(tmp_path).tables.values()) > 150
    assert run(cli, [*words, "--resume", "--points", "300"]) == 1
    assert "cannot resume with another points: got 300; allowed: 200" in capsys.readouterr().err
