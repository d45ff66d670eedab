"""What the factors of a fit to whole passes multiply: the roofline of a profile, or the times of a probed device."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from costmodel.arrays import Floats
from costmodel.errors import CalibrationError
from costmodel.forward.workload import Runtime
from costmodel.hardware.profile import HardwareProfile
from costmodel.timing.calibration.additive import AdditiveForm
from costmodel.timing.calibration.file import parse_node, read_calibration_text
from costmodel.timing.calibration.load import load_calibration, time_model
from costmodel.timing.calibration.passes import Reach
from costmodel.timing.calibration.record import ADDITIVE, SCALED, Calibration
from costmodel.timing.calibration.scaled import ScaledForm, ScaledTimes
from costmodel.timing.columns import OpColumns
from costmodel.timing.datasheet import DatasheetRoofline
from costmodel.units import DType


class Basis(Protocol):
    """Times of the parts of an operation, whose factors are fitted."""

    gemm_parts: ClassVar[int]
    """How many of the first parts are the GEMMs', the first of CLASSES."""

    kernel_spread_s: ClassVar[float]
    """How far the seconds of a kernel may lie from their start before anything is measured, a standard deviation."""

    @property
    def start(self) -> Floats:
        """The factors before anything is measured, (parts,); the last one in seconds per kernel."""

    def parts(self, ops: OpColumns) -> Floats:
        """What the factors multiply, float64 (parts, ...)."""

    def content(self, factors: Floats, reach: Reach) -> dict[str, Any]:
        """The keys of a calibration file that hold the form, and those of the file that it stands on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RooflineBasis:
    """Seven parts: arithmetic and traffic of three classes of operations at the datasheet's rates, and kernels."""

    form: AdditiveForm
    start: Floats
    gemm_parts: ClassVar[int] = 2
    kernel_spread_s: ClassVar[float] = math.inf

    @classmethod
    def of(cls, hardware: HardwareProfile, dtype: DType, runtime: Runtime) -> RooflineBasis:
        """The basis of a profile.

        Raises:
            HardwareError: when the profile has no rate for the type.
        """
        form = AdditiveForm.of(hardware, dtype)
        kernel_s = DatasheetRoofline.of(hardware, dtype, runtime).kernel_s
        return cls(form=form, start=np.array([*form.factors[:-1], kernel_s]))

    def parts(self, ops: OpColumns) -> Floats:
        """See Basis."""
        return self.form.parts(ops)

    def content(self, factors: Floats, reach: Reach) -> dict[str, Any]:
        """See Basis."""
        form = replace(self.form, factors=tuple(factors.tolist()), reach=reach)
        return {"form": ADDITIVE, "provenance": [], "errors": [], **form.to_json()}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ProbesBasis:
    """Four parts: the probes' times of three classes of operations, and kernels.

    Attributes:
        calibration: of level probes.
        raw: its file's content.
    """

    calibration: Calibration
    raw: Mapping[str, Any]
    model: ScaledTimes
    start: Floats
    gemm_parts: ClassVar[int] = 1
    kernel_spread_s: ClassVar[float] = 2e-6
    """The probes' times hold the call of an operation; what is added is a module's call, 1 to 5 us in Python."""

    @classmethod
    def of(cls, path: Path, hardware: HardwareProfile, dtype: DType, runtime: Runtime) -> ProbesBasis:
        """The basis that a calibration file gives.

        Raises:
            CalibrationError: when it cannot be read, is of another device, type or way of running, or not from probes.
        """
        calibration = load_calibration(path)
        if calibration.hardware != hardware.name or calibration.passes is not None:
            found = f"{calibration.level} of {calibration.hardware}"
            raise CalibrationError(
                f"{path} is no calibration from probes of this device",
                value=found,
                allowed=f"probes of {hardware.name}",
            )
        if dtype not in calibration.dtypes or runtime not in calibration.runtimes:
            raise CalibrationError(f"{path} does not serve these records", value=f"{dtype.value}, {runtime.value}")
        probes = time_model(hardware, dtype, runtime, calibration)
        form = ScaledForm()
        model = ScaledTimes(form=form, probes=probes, level="samples", host_launch_s=0.0)  # type: ignore[arg-type]
        return cls(
            calibration=calibration,
            raw={key: node.value for key, node in parse_node(read_calibration_text(path), str(path)).entries().items()},
            model=model,
            start=np.array(form.factors),
        )

    def parts(self, ops: OpColumns) -> Floats:
        """See Basis."""
        return self.model.parts(ops)

    def content(self, factors: Floats, reach: Reach) -> dict[str, Any]:
        """See Basis."""
        form = ScaledForm(factors=tuple(factors.tolist()), reach=reach)
        return {**self.raw, "form": SCALED, **form.to_json()}
