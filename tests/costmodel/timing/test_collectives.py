"""Collectives: latency when small, bandwidth when large, more devices never faster, bad input is named."""

import numpy as np
import pytest

from costmodel.errors import InputError
from costmodel.hardware.profile import load_hardware
from costmodel.timing.collectives import collective_time, fabrics
from costmodel.timing.columns import COLLECTIVES

H100 = load_hardware("h100-sxm-80gb")


@pytest.mark.parametrize("collective", COLLECTIVES)
@pytest.mark.parametrize("name", ["a100-sxm-80gb", "h100-sxm-80gb", "b200-sxm", "l40s", "a10", "v100-sxm2-16gb"])
def test_a_larger_message_takes_longer_and_its_interval_holds_the_time(collective: str, name: str) -> None:
    times = collective_time(load_hardware(name), collective, 4, 2.0 ** np.arange(8, 30))
    assert (np.diff(times.latency_s) > 0).all()
    assert (times.p05_s <= times.latency_s).all()
    assert (times.latency_s <= times.p95_s).all()


def test_one_device_takes_no_time_and_small_messages_cost_their_latency() -> None:
    assert collective_time(H100, "all_reduce", 1, 1e6).latency_s == 0
    small, smaller = collective_time(H100, "all_reduce", 4, np.array([512.0, 2.0])).latency_s
    assert small < 1.3 * smaller


def test_no_device_sends_faster_than_its_link() -> None:
    for fabric in fabrics():
        hardware = load_hardware(fabric.devices[0])
        for collective in ("all_gather", "reduce_scatter", "alltoall"):
            seconds = float(collective_time(hardware, collective, 2, 1e9).latency_s)
            assert 0.5e9 / seconds < 1.05 * fabric.link_bytes_per_s


def test_a_bus_is_slower_than_a_link_and_the_engines_own_kernel_starts_faster() -> None:
    assert collective_time(load_hardware("l40s"), "all_reduce", 4, 1e7).latency_s > 5 * (
        collective_time(H100, "all_reduce", 4, 1e7).latency_s
    )
    own = collective_time(H100, "all_reduce", 8, 4096, library="custom").latency_s
    assert own < collective_time(H100, "all_reduce", 8, 4096).latency_s


@pytest.mark.parametrize(
    ("collective", "devices", "size", "library"),
    [
        ("broadcast", 2, 1, "nccl"),
        ("all_reduce", 9, 1, "nccl"),
        ("all_reduce", 2, -1, "nccl"),
        ("alltoall", 2, 1, "custom"),
    ],
)
def test_what_does_not_exist_is_an_error(collective: str, devices: int, size: float, library: str) -> None:
    with pytest.raises(InputError):
        collective_time(H100, collective, devices, size, library=library)
