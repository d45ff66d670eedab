"""The shipped files against the tables that they were fitted to, where those are at hand.

COSTMODEL_MEASUREMENTS names the folder of `studies/calibrations/fit_shipped.py`. Errors here are in sample: the
held-out ones are in hw_profiles/calibrations/ERRORS.md.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from costmodel.hardware.profile import load_hardware, profile_folder
from costmodel.timing.calibration.load import load_calibration
from costmodel.timing.calibration.shaped import FormName, ShapedForm
from studies.calibrations.device_fit import form_table, split_cold
from studies.calibrations.model_ops import read_model_ops
from studies.calibrations.recipes import RECIPES
from validate.calibration.errors import speedups
from validate.calibration.shaped import summary
from validate.calibration.tables import OpTable

FOLDER = Path(os.environ.get("COSTMODEL_MEASUREMENTS", "no-measurements"))
LIMITS = {
    "a100-sxm-80gb": {"gemm": 5.0, "low-rank": 6.0, "prefill": 8.0, "decode": 8.0},
    "h100-sxm-80gb": {"gemm": 4.0, "low-rank": 4.5, "prefill": 8.0, "decode": 8.0, "gemm:fp8": 5.0},
    "h200-sxm": {"gemm": 5.0, "low-rank": 5.0, "prefill": 6.0, "decode": 6.0, "gemm:fp8": 5.0},
    "l40s": {"gemm": 6.0, "low-rank": 8.0, "prefill": 6.0, "decode": 6.0, "gemm:fp8": 5.0},
    "b200-sxm": {"gemm": 5.0, "low-rank": 8.0, "prefill": 6.0, "decode": 6.0, "gemm:fp8": 8.0},
}
"""Most mean absolute error in percent."""

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="COSTMODEL_MEASUREMENTS names no folder")


def tables(device: str) -> dict[FormName, OpTable]:
    """By form; of the L40S's GEMMs those whose weights were read out of memory."""
    found = {form: form_table(FOLDER, device, form) for form in RECIPES[device].forms}
    if RECIPES[device].cold:
        gemms = {form: split_cold(form, found[form], load_hardware(device))[0] for form in found if "gemm" in form}
        found |= gemms
    return found


@pytest.mark.parametrize("device", LIMITS)
def test_errors_and_coverage(device: str) -> None:
    calibration = load_calibration(profile_folder() / "calibrations" / f"{device}.json")
    for name, table in tables(device).items():
        form = calibration.shaped[name]
        timings = form.times(table.shape, *form.nominal_work(table.shape))
        found = summary(timings.latency_s, table)
        assert found["mean_pct"] < LIMITS[device][name]
        assert abs(found["bias_pct"]) < 1.5
        covered = ((timings.p05_s <= table.seconds) & (table.seconds <= timings.p95_s)).mean()
        assert covered >= 0.85  # in sample, and of intervals that hold other laboratories' times as well
        low_rank = table.low_rank()
        if low_rank.any() and name == "gemm":
            part = summary(timings.latency_s[low_rank], table.take(low_rank))
            assert part["mean_pct"] < LIMITS[device]["low-rank"]


@pytest.mark.parametrize("device", ["a100-sxm-80gb", "h100-sxm-80gb"])
def test_speed_ups(device: str) -> None:
    calibration = load_calibration(profile_folder() / "calibrations" / f"{device}.json")
    table = tables(device)["gemm"]
    ours, true = speedups(calibration.shaped["gemm"].times(table.shape, *table.work(2)).latency_s, table)
    assert np.abs(ours / true - 1).mean() < 0.06
    clear = np.abs(true - 1) > 0.05
    assert ((ours > 1) == (true > 1))[clear].mean() > 0.985


@pytest.mark.parametrize("device", [name for name, recipe in RECIPES.items() if recipe.forms and recipe.model_ops])
def test_the_interval_covers_most_of_another_laboratorys_gemms(device: str) -> None:
    """And without what the file says of that laboratory it would not: how far apart two laboratories are."""
    linears, _ = read_model_ops(FOLDER / RECIPES[device].model_ops[0])  # type: ignore[index]
    form = load_calibration(profile_folder() / "calibrations" / f"{device}.json").shaped["gemm"]

    def covered(form: ShapedForm) -> float:
        inside = []
        for table in linears.values():
            timings = form.times(table.shape, *form.nominal_work(table.shape))
            inside.append((timings.p05_s <= table.seconds) & (table.seconds <= timings.p95_s))
        return float(np.concatenate(inside).mean())

    assert covered(form) > 0.8
    assert covered(replace(form, elsewhere=(), memo=None)) < 0.7
