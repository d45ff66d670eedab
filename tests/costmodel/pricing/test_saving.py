"""The interval of a saving, and limits on its pessimistic end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exploring import small_model

from costmodel.decomposition.text import parse_decomposition
from costmodel.errors import InputError
from costmodel.explore import Exploration, explore
from costmodel.explore.settings import ExploreSettings
from costmodel.families.load import load_model
from costmodel.forward.workload import Runtime, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import estimate
from costmodel.pricing.saving import UNMEASURED_ERROR, ratio_error, saved_pct, saving_ends
from costmodel.space.make import design_space
from costmodel.timing.calibration.load import find_calibration
from costmodel.units import DType

DEVICE = load_hardware("a100-sxm-80gb")
MEASURED = find_calibration("auto", DEVICE, DType.BF16, Runtime.GRAPH)
STEP = Workload.decode(129, runtime=Runtime.GRAPH)


def saved(spec: str) -> dict[str, float | None]:
    model = load_model("llama2-7b")
    return estimate(model, DEVICE, parse_decomposition([spec], model), [STEP], calibration=MEASURED).phases[0].saved


def test_the_dense_model_saves_exactly_nothing_at_either_end() -> None:
    ends = saved("form=dense")
    assert ends["latency_p05_pct"] == ends["latency_p95_pct"] == 0


def test_the_interval_holds_the_saving_and_is_as_wide_as_the_measured_error_of_ratios() -> None:
    found = saved("rank=50%")
    middle, low, high = found["latency_pct"], found["latency_p05_pct"], found["latency_p95_pct"]
    assert middle is not None
    assert low is not None
    assert high is not None
    error = ratio_error(MEASURED, DType.BF16)
    assert error is not None
    assert low <= 100 - (100 - middle) * (1 + error) + 1e-9
    assert low < middle < high


class Pass:
    """A pass of which nothing but its time is known."""

    def __init__(self, middle: Any, low: Any, high: Any) -> None:
        self.latency_s, self.latency_p05_s, self.latency_p95_s = middle, low, high


def test_a_ratio_takes_the_worst_of_equal_ends() -> None:
    ends = saving_ends(Pass(10, 8, 12), Pass(6, 5, 12), 0.0)
    assert ends is not None
    assert [float(end) for end in ends] == pytest.approx([0, 40])


def test_without_a_measurement_the_error_is_the_largest_known_or_unknown() -> None:
    device = load_hardware("l4")
    assert ratio_error(find_calibration("auto", device, DType.BF16, Runtime.EAGER), DType.BF16) == UNMEASURED_ERROR
    assert ratio_error(None, DType.BF16) is None


def test_the_error_of_ratios_is_the_largest_that_was_measured_at_the_level_and_for_the_type() -> None:
    assert MEASURED is not None
    assert MEASURED.level == "probes"
    rows = (
        {"subset": "ratio to dense", "protocol": "probes, held out", "p95_pct": 3},
        {"subset": "ratio to dense", "protocol": "samples, held out", "p95_pct": 90.0},
        {"subset": "ratio to dense", "p95_pct": 91.0},
        {"subset": "all", "protocol": "probes, held out", "p95_pct": 92.0},
        {"subset": "speed-up of a pair", "kind": "gemm", "p95_pct": 5.0},
        {"subset": "speed-up of a pair", "kind": "gemm:fp8", "p95_pct": 8.0},
        {"subset": "speed-up of a pair", "kind": "attention", "p95_pct": 93.0},
        {"subset": "speed-up of a pair", "kind": "gemm", "p95_pct": None},
        {"kind": "gemm", "p95_pct": 94.0},
    )
    known = replace(MEASURED, errors=rows)
    assert ratio_error(known, DType.BF16) == 0.05
    assert ratio_error(known, DType.FP8) == 0.08
    assert ratio_error(replace(known, errors=rows[:5] + rows[7:]), DType.FP8) == 0.03
    assert ratio_error(replace(known, level="samples"), DType.BF16) == 0.9
    assert ratio_error(replace(known, errors=rows[1:4]), DType.BF16) == UNMEASURED_ERROR


def test_a_saving_is_a_share_of_what_was_there() -> None:
    assert saved_pct(8.0, 2.0) == 75
    assert saved_pct(8.0, 0.0) == 100
    assert saved_pct(2.0, 8.0) == -300
    for before, after in ((None, 1.0), (1.0, None), (0.0, 1.0), (0.0, 0.0)):
        assert saved_pct(before, after) is None


def test_the_error_of_a_ratio_widens_both_ends_where_the_passes_differ() -> None:
    """Ratios 0.5, 0.625 and 1 with an error of a quarter; passes that are the same have none, each on its own."""
    dense, other = Pass(8.0, 4.0, 16.0), Pass(4.0, 2.5, 16.0)
    ends = saving_ends(dense, other, 0.25)
    assert ends is not None
    assert [float(end) for end in ends] == pytest.approx([100 * (1 - 1.25), 100 * (1 - 0.5 / 1.25)])
    columns = [np.array(values) for values in ((8.0, 8.0), (4.0, 4.0), (16.0, 16.0))]
    both = [np.array(values) for values in ((8.0, 4.0), (4.0, 2.5), (16.0, 16.0))]
    low, high = saving_ends(Pass(*columns), Pass(*both), 0.25) or (None, None)
    assert low == pytest.approx([0, -25])
    assert high == pytest.approx([0, 60])
    assert saving_ends(dense, other, None) is None
    assert saving_ends(dense, Pass(4.0, None, 16.0), 0.25) is None
    assert saving_ends(Pass(8.0, 4.0, None), other, 0.25) is None


@pytest.mark.parametrize("kind", ["homogeneous", "per-site"])
def test_a_limit_on_the_pessimistic_end_keeps_what_the_end_itself_keeps(kind: str, tmp_path: Path) -> None:
    space = design_space(small_model(tmp_path, layers=2), kind, ranks=[8, 32])  # type: ignore[arg-type]

    def ask(limit: str) -> Exploration:
        return explore(
            space, DEVICE, [STEP], ExploreSettings(objectives="params", limits=(limit,), top=3), calibration=MEASURED
        )

    within = ask("decode.saved.latency_p05_pct>=-25%")
    assert within.answer.top
    for found in within.answer.top:
        priced = estimate(space.model, DEVICE, space.config(found.number), [STEP], calibration=MEASURED)
        end = priced.phases[0].saved["latency_p05_pct"]
        assert end is not None
        assert end >= -25 - 1e-6
    assert not ask("decode.saved.latency_p05_pct>=99%").answer.top


def test_a_pessimistic_end_that_no_ceiling_tells_from_a_loss_is_refused_site_by_site(tmp_path: Path) -> None:
    space = design_space(small_model(tmp_path, layers=2), "per-site", ranks=[8, 32])
    for limit in ("decode.saved.latency_p05_pct>=0", "decode.saved.latency_p05_pct>=-0.01%"):
        with pytest.raises(InputError, match="above 0 %"):
            explore(space, DEVICE, [STEP], ExploreSettings(objectives="params", limits=(limit,)), calibration=MEASURED)


def test_the_end_is_unknown_at_datasheet_level(tmp_path: Path) -> None:
    space = design_space(small_model(tmp_path), ranks=[8])
    with pytest.raises(InputError, match="no calibration gives intervals"):
        explore(space, DEVICE, [STEP], ExploreSettings(objectives="decode.saved.latency_p05_pct"))
    ends = estimate(space.model, DEVICE, space.config(1), [STEP]).phases[0].saved
    assert ends["latency_p05_pct"] is None
