"""Probing: the plan is seeded and over-samples what low-rank models need; a small one runs on the CPU."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from costmodel.units import DType
from costmodel.workload import Runtime
from validate.device import CpuDevice, Work
from validate.microbench import Microbench, tables_from
from validate.probe_plan import ProbePlan, probe_plan

LIMITS = {"max_rows": 1024, "max_flops": 5e10, "max_bytes": 5e8, "element_bytes": 4}


def test_the_plan_is_seeded_and_keeps_its_limits() -> None:
    plan = probe_plan(600, 3, **LIMITS)  # type: ignore[arg-type]
    assert plan == probe_plan(600, 3, **LIMITS)  # type: ignore[arg-type]
    assert plan != probe_plan(600, 4, **LIMITS)  # type: ignore[arg-type]
    assert 550 <= len(plan) <= 650
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


def test_a_small_plan_on_the_cpu(bench: Microbench) -> None:
    plan = ProbePlan(
        gemms=((1, 64, 64), (64, 512, 512)), attention=((1, 16, 16, 4, 2, 16), (2, 1, 33, 4, 4, 16)),
        streams=(("elementwise", 4, 64), ("norm", 4, 64), ("activation", 4, 64), ("embedding", 4, 64)),
    )  # fmt: skip
    counted: list[int] = []
    seconds = bench.measure(plan, counted.append, passes=2)
    assert len(seconds) == len(plan) == 8
    assert all(0 < each < 1 for each in seconds)
    assert counted == list(range(1, 17))
    tables, streams = tables_from(plan, seconds, 4)
    assert tables["gemm"].shape.T.tolist() == [[1, 64, 64], [64, 512, 512]]
    assert tables["prefill"].shape[:, 0].tolist() == [1, 16, 16, 4, 2, 16]
    assert tables["decode"].seconds.tolist() == [seconds[3]]
    assert {table.kind: table.moved.tolist() for table in streams} == {
        "elementwise": [3 * 4 * 64 * 4], "norm": [2 * 4 * 64 * 4 + 2 * 64 * 4], "activation": [2 * 4 * 64 * 4],
        "embedding": [2 * 4 * 64 * 4 + 8 * 4],
    }  # fmt: skip


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
    assert 0 < bench.host_launch_seconds(50) < 1e-2
