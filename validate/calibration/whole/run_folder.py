"""The calibration of a run's folder: finds the profile that its records were predicted with."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from costmodel.errors import CostModelError
from costmodel.hardware.profile import HardwareProfile, load_hardware
from validate.calibration.whole.passes import MIN_SAMPLES
from validate.calibration.whole.samples import SamplesFit, fit_samples
from validate.errors import FitError
from validate.speed.records import Sample
from validate.store.journal import PROFILE

CALIBRATION = "calibration.json"


def profile_of(folder: Path, samples: Sequence[Sample]) -> HardwareProfile:
    """The profile named in the records: the folder's own where it has that name, else a built-in one.

    Raises:
        FitError: when there are no records.
        HardwareError: when there is no profile of that name.
    """
    if not samples:
        raise FitError("no samples", allowed=f"at least {MIN_SAMPLES}")
    if (folder / PROFILE).is_file():
        own = load_hardware(str(folder / PROFILE))
        if own.name == samples[0].hardware:
            return own
    return load_hardware(samples[0].hardware)


def fit_folder(folder: Path, samples: Sequence[Sample]) -> tuple[SamplesFit | None, str]:
    """The fit, or None, and one line about it: how it was held out, or why there is none."""
    try:
        fit = fit_samples(samples, profile_of(folder, samples))
    except CostModelError as error:
        return None, f"no {CALIBRATION}: {' '.join(str(error).split())}"
    return fit, f"samples: fitted to this run, each configuration predicted from the others ({fit.folds} folds)"
