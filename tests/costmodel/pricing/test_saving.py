"""The interval of a saving, and limits on its pessimistic end."""

from __future__ import annotations

from pathlib import Path

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
from costmodel.pricing.saving import UNMEASURED_ERROR, ratio_error, saving_ends
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


def test_a_ratio_takes_the_worst_of_equal_ends() -> None:
    class Pass:
        def __init__(self, middle: float, low: float, high: float) -> None:
            self.latency_s, self.latency_p05_s, self.latency_p95_s = middle, low, high

    ends = saving_ends(Pass(10, 8, 12), Pass(6, 5, 12), 0.0)
    assert ends is not None
    assert [float(end) for end in ends] == pytest.approx([0, 40])


def test_without_a_measurement_the_error_is_the_largest_known_or_unknown() -> None:
    device = load_hardware("l4")
    assert ratio_error(find_calibration("auto", device, DType.BF16, Runtime.EAGER), DType.BF16) == UNMEASURED_ERROR
    assert ratio_error(None, DType.BF16) is None


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
