"""`validate fit` on the records of runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from costmodel.errors import InputError
from costmodel.files.write import write_file
from costmodel.hardware.profile import load_hardware
from validate.calibration.whole.run_folder import CALIBRATION, profile_of
from validate.calibration.whole.samples import fit_samples
from validate.speed.records import SAMPLES, read_samples


def is_records(paths: Sequence[Path]) -> bool:
    """Whether all of these are runs' folders or files of records."""
    return all((path / SAMPLES.file).is_file() or path.suffix == ".jsonl" for path in paths)


def fit_records(
    paths: Sequence[Path], hardware: str | None, out: Path | None, probes: Path | None = None
) -> tuple[Path, Sequence[Mapping[str, Any]], str]:
    """Write the calibration; its path, its error table, and the device's name.

    Raises:
        InputError: when there is no place to write to.
        RecordError: when records cannot be read.
        FitError: when they are too few.
        CalibrationError: when the probes' file cannot be read or is of another device.
        HardwareError: when the profile cannot be found.
    """
    folder = paths[0] if paths[0].is_dir() else paths[0].parent
    if out is None and (len(paths) > 1 or not paths[0].is_dir()):
        raise InputError("--out is missing", hint="name the calibration file to write")
    samples = read_samples(paths)
    profile = load_hardware(hardware) if hardware else profile_of(folder, samples)
    fit = fit_samples(samples, profile, probes)
    path = out or folder / CALIBRATION
    write_file(path, fit.to_bytes())
    return path, fit.content["errors"], profile.name
