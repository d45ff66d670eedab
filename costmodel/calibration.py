"""Calibrations: measured corrections to the roofline of one device. Loads, finds and applies them; fits nothing."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from costmodel.errors import CalibrationError
from costmodel.hardware import HardwareProfile, profile_folder
from costmodel.roofline import DatasheetRoofline, TimeModel
from costmodel.units import DType
from costmodel.workload import Runtime

if TYPE_CHECKING:
    from costmodel.decomposition import Decomposition
    from costmodel.pricing import PhasePricer

SCHEMA = 1
"""Version of the file format."""
MAX_FILE_BYTES = 300_000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """What measurements say about one device. Compared and hashed by identity: cheap as a cache key.

    Attributes:
        name: of the file, without its suffix.
        hardware: name of the profile that it belongs to.
        dtypes: types that it serves, the measured one first.
        level: what it was fitted from: bare operations (probes), or whole models as well (samples).
        provenance: where the measurements come from, in words.
        errors: rows of its error table on held-out points.
        data: the forms and coefficients by class of operation.
    """

    name: str
    hardware: str
    dtypes: tuple[DType, ...]
    level: Literal["probes", "samples"]
    provenance: MappingProxyType[str, Any]
    errors: tuple[MappingProxyType[str, Any], ...]
    data: MappingProxyType[str, Any]

    def outside(self, pricer: PhasePricer, decomposition: Decomposition | None = None) -> list[str]:
        """One line per way in which a pass leaves the measured range; empty when all of it lies inside."""
        return []


def load_calibration(path: str | Path) -> Calibration:
    """Read and check a file.

    Raises:
        CalibrationError: one line that names the file, the key, the value found and what is allowed.
    """
    path = Path(path)
    try:
        raw = json.loads(path.read_bytes())
    except OSError as error:
        raise CalibrationError(f"{path}: cannot read", hint=error.strerror or str(error)) from error
    except (ValueError, RecursionError) as error:
        raise CalibrationError(f"{path}: not a JSON file in UTF-8", hint=str(error)) from error
    return Calibration(
        name=path.stem, hardware=raw["hardware"], dtypes=tuple(DType(each) for each in raw["dtypes"]),
        level=raw["level"], provenance=MappingProxyType(raw["provenance"]),
        errors=tuple(MappingProxyType(row) for row in raw["errors"]), data=MappingProxyType(raw["classes"]),
    )  # fmt: skip


def find_calibration(option: str, hardware: HardwareProfile, dtype: DType, runtime: Runtime) -> Calibration | None:
    """The calibration that `--calibration` asks for.

    Args:
        option: "none"; "auto" for the shipped one of this device where there is one that serves `dtype`; or a path.
        hardware, dtype, runtime: what it must serve.

    Raises:
        CalibrationError: when the named file cannot be read, is malformed, or was made for another device or type.
    """
    if option == "none":
        return None
    if option == "auto":
        path = profile_folder() / "calibrations" / f"{hardware.name}.json"
        found = _shipped(path) if path.is_file() else None
        return found if found and found.hardware == hardware.name and dtype in found.dtypes else None
    found = load_calibration(option)
    if found.hardware != hardware.name:
        raise CalibrationError(f"{option} was fitted on another device", value=found.hardware, allowed=hardware.name)
    if dtype not in found.dtypes:
        served = ", ".join(each.value for each in found.dtypes)
        raise CalibrationError(f"{option} does not serve this dtype", value=dtype.value, allowed=served)
    return found


@functools.lru_cache(maxsize=64)
def time_model(hardware: HardwareProfile, dtype: DType, runtime: Runtime, calibration: Calibration | None) -> TimeModel:
    """The time model of a device, the calibrated one or the ideal roofline; the same object for the same arguments.

    Raises:
        HardwareError: when the profile has no rate for `dtype`.
    """
    return DatasheetRoofline.of(hardware, dtype, runtime)


@functools.cache
def _shipped(path: Path) -> Calibration:
    return load_calibration(path)
