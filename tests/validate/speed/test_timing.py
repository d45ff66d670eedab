"""Interleaved timing on synthetic devices with known times, and honesty about a busy-wait on the real one."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import pytest

pytest.importorskip("torch")

from cases import few_or_all
from validating import FakeGpu

from costmodel.forward.workload import Runtime
from validate.devices.conditions import disturbances
from validate.devices.cpu import CpuDevice
from validate.devices.cuda import CudaDevice
from validate.devices.device import Device
from validate.speed import statistics
from validate.speed.timing import TimingPlan, compare


class SyntheticDevice(FakeGpu):
    """Calls take the seconds that they return, plus noise; its clock is the sum of them."""

    def __init__(self, noise: Callable[[int], float]) -> None:
        super().__init__()
        self.calls: list[object] = []
        self.now = 0.0
        self._noise = noise

    def time(self, works: Sequence[Callable[[], object]], runtime: Runtime) -> list[float]:
        seconds = []
        for work in works:
            value = float(work()) * self._noise(len(self.calls))  # type: ignore[arg-type]
            self.calls.append(work)
            self.now += value
            seconds.append(value)
        return seconds


def lognormal(sigma: float, seed: int) -> Callable[[int], float]:
    rng = np.random.default_rng(seed)
    return lambda call: math.exp(rng.normal(0, sigma))


def first() -> float:
    return 0.008


def second() -> float:
    return 0.010


def test_calls_alternate_strictly() -> None:
    device = SyntheticDevice(lognormal(0.1, 0))
    timing = compare(device, [first], [second], TimingPlan(budget_s=2), Runtime.EAGER, clock=lambda: device.now)
    assert device.calls[::2] == [first] * (len(device.calls) // 2)
    assert device.calls[1::2] == [second] * (len(device.calls) // 2)
    assert len(device.calls) == 2 * (timing.warmup_pairs + len(timing.candidate.seconds))
    assert len(timing.candidate.seconds) == len(timing.dense.seconds)


def test_copies_take_turns() -> None:
    device = SyntheticDevice(lognormal(0, 0))
    works = [lambda: 0.01, lambda: 0.01, lambda: 0.01]
    timing = compare(device, works, [second], TimingPlan(), Runtime.EAGER, clock=lambda: device.now)
    assert device.calls[:8:2] == [*works, works[0]]
    assert timing.copies == 3


def test_a_quiet_device_is_done_soon_and_a_loud_one_uses_the_budget() -> None:
    quiet, loud = SyntheticDevice(lognormal(0.001, 0)), SyntheticDevice(lognormal(0.5, 0))
    plan = TimingPlan(precision=0.01, budget_s=3.0)
    one = compare(quiet, [first], [second], plan, Runtime.EAGER, clock=lambda: quiet.now)
    two = compare(loud, [first], [second], plan, Runtime.EAGER, clock=lambda: loud.now)
    assert one.precise
    assert one.ratio == pytest.approx(0.8, rel=0.01)
    assert quiet.now < 1
    assert not two.precise
    assert two.half_width > 0.01
    assert 3.0 <= loud.now < 4.0


def test_long_passes_do_not_overrun_the_budget() -> None:
    device = SyntheticDevice(lognormal(0.01, 0))
    timing = compare(
        device, [lambda: 2.0], [lambda: 2.5], TimingPlan(budget_s=5), Runtime.EAGER, clock=lambda: device.now
    )
    assert len(timing.candidate.seconds) == 6
    assert device.now < 60


def test_warm_up_lasts_until_times_settle() -> None:
    device = SyntheticDevice(lambda call: 1 + 20 * math.exp(-call / 10))
    timing = compare(device, [first], [second], TimingPlan(budget_s=60), Runtime.EAGER, clock=lambda: device.now)
    assert timing.settled
    assert timing.warmup_pairs > 15
    assert timing.ratio == pytest.approx(0.8, rel=0.05)
    never = SyntheticDevice(lambda call: 100 / (call + 1))
    unsettled = compare(never, [first], [second], TimingPlan(budget_s=1), Runtime.EAGER, clock=lambda: never.now)
    assert not unsettled.settled


def test_a_linear_drift_cancels() -> None:
    device = SyntheticDevice(lambda call: 1 + call / 500)
    timing = compare(device, [first], [second], TimingPlan(budget_s=5), Runtime.EAGER, clock=lambda: device.now)
    assert timing.ratio == pytest.approx(0.8, rel=1e-4)


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_the_interval_covers_the_truth(correlation: float) -> None:
    """200 series of 100 pairs; noise of 10 %, independent or resembling that of the last call, and a few outliers."""
    rng = np.random.default_rng(7)
    covered = 0
    for _ in range(200):
        noise = rng.normal(0, 0.1, 200)
        for index in range(1, 200):
            noise[index] = correlation * noise[index - 1] + math.sqrt(1 - correlation**2) * noise[index]
        outliers = np.where(rng.random(200) < 0.05, 2.0, 1.0)
        seconds = np.exp(noise) * outliers
        ratio, low, high = statistics.ratio_interval(0.8 * seconds[::2], seconds[1::2])
        assert low <= ratio <= high
        covered += low <= 0.8 <= high
    assert covered >= 180


@pytest.mark.parametrize("count", few_or_all([50], [200]))
@pytest.mark.parametrize("kind", [CpuDevice, CudaDevice])
@pytest.mark.parametrize("alone", [True, False])
def test_the_interval_covers_the_truth_where_places_in_memory_differ(
    kind: type[Device], alone: bool, count: int
) -> None:
    """Comparisons of the same work; each copy is off by a deviation of 0.7 % for as long as it lives."""
    copies = 1 if alone else kind.placements
    rng = np.random.default_rng(11)
    plan = TimingPlan(precision=0.001, budget_s=2.0)
    covered, widths = 0, []
    for seed in range(count):
        device = SyntheticDevice(lognormal(0.01, seed))
        device.placement = kind.placement
        works = [[_taking(0.01 * math.exp(rng.normal(0, 0.007))) for _ in range(copies)] for _ in range(2)]
        timing = compare(device, *works, plan, Runtime.EAGER, clock=lambda device=device: device.now)
        covered += timing.ratio_low <= 1 <= timing.ratio_high
        widths.append(timing.half_width)
    assert {50: 44, 200: 182}[count] <= covered <= min(count, 199)
    assert np.median(widths) < 0.03


def _taking(seconds: float) -> Callable[[], float]:
    return lambda: seconds


def test_an_interval_is_widened_in_quadrature() -> None:
    low, high = statistics.widened(1.0, math.exp(-0.03), math.exp(0.03), 0.04 / 1.959964)
    assert (low, high) == pytest.approx((math.exp(-0.05), math.exp(0.05)))
    assert statistics.widened(2.0, 0.0, math.inf, 0.01) == (0.0, math.inf)


def test_too_few_pairs_give_no_interval() -> None:
    assert statistics.ratio_interval([1.0] * 5, [2.0] * 5) == (0.5, 0.0, math.inf)


def test_summaries() -> None:
    row = statistics.summary([0.1, -0.1, 0.3, -0.02])
    assert row == pytest.approx({"bias": 0.07, "mean": 0.13, "median": 0.1, "p95": 0.27, "worst": 0.3})
    assert statistics.kendall_tau([1, 2, 3], [10, 20, 30]) == 1
    assert statistics.kendall_tau([1, 1], [1, 2]) is None


def test_what_disturbs_is_named() -> None:
    quiet = {"wall_s": 0.0, "busy_s": 0.0, "own_s": 0.0, "steal_s": 0.0, "cores": 2}
    assert disturbances(quiet, {**quiet, "wall_s": 10.0, "busy_s": 10.0, "own_s": 9.9}) == []
    busy = disturbances(quiet, {**quiet, "wall_s": 10.0, "busy_s": 20.0, "own_s": 10.0})
    assert busy == ["other processes took 50% of the processors"]
    stolen = disturbances(quiet, {**quiet, "wall_s": 10.0, "busy_s": 12.0, "own_s": 10.0, "steal_s": 2.0})
    assert stolen == ["the hypervisor withheld 10% of the processors"]
    gpu = {"sm_clock_mhz": 1980, "temperature_c": 60, "throttle": []}
    assert disturbances(gpu, gpu) == []
    hot = disturbances(gpu, {"sm_clock_mhz": 1200, "temperature_c": 90, "throttle": ["HwThermalSlowdown"]})
    assert hot == ["the clock went from 1980 to 1200 MHz", "throttled: HwThermalSlowdown", "90 degrees C"]


class ProcessorTime(FakeGpu):
    """Times calls by the processor time of this thread, which other work on the machine does not change."""

    def time(self, works: Sequence[Callable[[], object]], runtime: Runtime) -> list[float]:
        seconds = []
        for work in works:
            start = time.thread_time()
            work()
            seconds.append(time.thread_time() - start)
        return seconds


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_a_busy_wait_is_measured(share: float) -> None:
    """To within 5 % of the total; benchmarks/timing_honesty.py does it on a model and by the wall clock."""

    def spin(seconds: float) -> Callable[[], None]:
        def work() -> None:
            end = time.thread_time() + seconds
            while time.thread_time() < end:
                pass

        return work

    plan = TimingPlan(precision=0.005, budget_s=2.0)
    timing = compare(ProcessorTime(), [spin(0.002 * (1 + share))], [spin(0.002)], plan, Runtime.EAGER)
    assert timing.ratio == pytest.approx(1 + share, rel=0.05)
    assert timing.candidate.median_s >= 0.002 * (1 + share)


def test_the_cpu_is_timed_by_the_wall_clock() -> None:
    works = [lambda: time.sleep(0.002), lambda: None] * 3
    seconds = CpuDevice(1).time(works, Runtime.EAGER)
    assert len(seconds) == 6
    assert min(seconds[::2]) >= 0.002
    assert min(seconds) >= 0
