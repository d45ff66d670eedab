"""Layers of experts: routing adds up, more work never takes less time, bad input is named."""

import dataclasses

import numpy as np
import pytest

from costmodel.errors import CalibrationError, CostModelError, InputError
from costmodel.hardware.profile import load_hardware
from costmodel.timing.moe import MoeLayer, moe_layer_times
from costmodel.timing.moe_file import moe_table, numbers_for, read_moe
from costmodel.timing.routing import expert_rows, routed
from costmodel.units import DType

LAYER = MoeLayer(tokens=64, hidden_size=4096, intermediate_size=1536, top_k=8, experts=128)
H100 = load_hardware("h100-sxm-80gb")


def seconds(**changes: object) -> float:
    """The time of a layer that differs in these fields."""
    times, _ = moe_layer_times([dataclasses.replace(LAYER, **changes)], H100, DType.BF16)  # type: ignore[arg-type]
    return float(times.latency_s[0])


@pytest.mark.parametrize("distribution", ["balanced", "power_law_1.01", "power_law_1.2", "power_law_1"])
@pytest.mark.parametrize(("tokens", "top_k", "experts"), [(1, 1, 4), (1, 8, 128), (7, 4, 16), (500, 8, 128), (9, 4, 4)])
def test_every_choice_of_a_token_is_a_row_of_some_expert(
    distribution: str, tokens: int, top_k: int, experts: int
) -> None:
    rows = expert_rows(tokens, top_k, experts, distribution)
    assert rows.sum() == tokens * top_k
    assert (rows == np.floor(rows)).all()
    assert rows.min() >= 0
    assert rows.max() <= tokens


def test_a_power_law_hits_fewer_experts_and_loads_the_busiest_device_more() -> None:
    even, skewed = (routed(64, 8, 128, 8, name) for name in ("balanced", "power_law_1.2"))
    assert even.rows == 64
    assert skewed.rows > even.rows
    assert skewed.experts <= even.experts


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "h100-sxm-80gb", "b200-sxm", "l4", "amd-epyc-2t"])
@pytest.mark.parametrize("field", ["hidden_size", "intermediate_size", "top_k"])
def test_a_larger_layer_never_takes_less_time(name: str, field: str) -> None:
    hardware, dtype = load_hardware(name), DType.BF16 if name != "amd-epyc-2t" else DType.FP32
    sizes = [getattr(LAYER, field) * factor for factor in (1, 2, 4)]
    layers = [dataclasses.replace(LAYER, **{field: size}) for size in sizes]
    times, _ = moe_layer_times(layers, hardware, dtype)
    assert (np.diff(times.latency_s) > 0).all()
    assert ((times.p05_s <= times.latency_s) & (times.latency_s <= times.p95_s)).all()


def test_more_tokens_take_longer_and_more_devices_less() -> None:
    times = [seconds(tokens=tokens) for tokens in (1, 4, 16, 512, 8192)]
    assert times == sorted(times)
    for way in ({"tp": 4}, {"ep": 4}):
        assert seconds(**way) < times[3]


def test_experts_without_a_gate_are_faster_by_at_most_a_third() -> None:
    gated, plain = (seconds(gated=gated) for gated in (True, False))
    assert 0.6 * gated < plain < gated


def test_a_device_that_was_not_measured_says_so_and_is_less_sure() -> None:
    names = ("h100-sxm-80gb", "l40s")
    (own, own_level), (other, level) = (moe_layer_times([LAYER], load_hardware(name), DType.BF16) for name in names)
    assert (own_level, level) == ("probes", "generation")
    assert other.p95_s / other.latency_s > own.p95_s / own.latency_s


@pytest.mark.parametrize(
    "change",
    [{"tokens": 0}, {"top_k": 129}, {"ep": 3}, {"tp": 5}, {"distribution": "uniform"}, {"distribution": "power_law_x"}],
)
def test_what_makes_no_sense_is_an_error_of_one_line(change: dict[str, object]) -> None:
    with pytest.raises(InputError) as error:
        seconds(**change)
    assert "\n" not in str(error.value)


def test_a_type_that_the_device_lacks_and_an_unknown_kernel_are_errors() -> None:
    with pytest.raises(CostModelError):
        moe_layer_times([LAYER], load_hardware("a100-sxm-80gb"), DType.FP8)
    with pytest.raises(InputError):
        moe_layer_times([LAYER], H100, DType.BF16, kernel="nobody's")


def test_a_file_whose_shares_do_not_add_up_is_refused(tmp_path) -> None:
    assert moe_table()
    path = tmp_path / "moe.toml"
    path.write_text(
        'schema = 1\n[[kernels]]\ndevice = "x"\ndtype = "bf16"\nkernel = "k"\nsource = "s"\n'
        "tile_shares = [0.5, 0.5, 0.5]\ncompute = 0.5\nmemory = 0.5\ncore_memory = 1.0\nstream_memory = 0.5\n"
        "overlap = 2.0\nrounding = 0.5\ninner_copies = 1.0\nhidden_copies = 1.0\nfixed_us = 1.0\nexpert_us = 0.0\n"
        "low = -0.1\nhigh = 0.1\nmeasured = {}\n"
    )
    with pytest.raises(CalibrationError, match="tile_shares"):
        read_moe(path)


def test_an_a100_takes_tuned_tiles_where_it_has_them_and_wide_loads_where_widths_allow() -> None:
    (numbers,) = moe_table()["a100-sxm-80gb", "bf16"]

    def compute_and_memory(tokens: int, experts: int, width: int) -> tuple[float, float]:
        sizes = (np.array([float(size)]) for size in (tokens, experts, width))
        compute, memory = numbers.shape_factors(*sizes)
        return float(compute[0]), float(memory[0])

    usual = compute_and_memory(4096, 8, 8192)
    assert usual == (1.0, 1.0)
    assert all(tuned > 1 for tuned in compute_and_memory(4096, 8, 4096))
    assert all(odd < 1 for odd in compute_and_memory(4096, 128, 232))
    assert compute_and_memory(64, 128, 768) == (1.0, numbers.few_memory)
    (other,) = moe_table()["h100-sxm-80gb", "bf16"]
    assert not other.tuned
    assert not numbers_for(load_hardware("a40"), DType.BF16)[0].tuned
