"""Calibration files: read, found for a device and workload, and turned into a time model."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from costmodel.errors import CalibrationError
from costmodel.files.node import Node
from costmodel.forward.workload import Runtime
from costmodel.hardware.here import AUTO, corrections_here
from costmodel.hardware.profile import HardwareProfile, builtin_hardware, load_hardware, profile_folder
from costmodel.hardware.stack import load_stack
from costmodel.timing.calibration.file import (
    parse_node,
    read_calibration_text,
    read_elsewhere,
    read_shaped,
    read_streams,
)
from costmodel.timing.calibration.probes import CalibratedTimes
from costmodel.timing.calibration.record import ADDITIVE, GENERATION, SCALED, Calibration
from costmodel.timing.calibration.shaped import FORMS, FormName, ShapedForm
from costmodel.timing.columns import TimeModel
from costmodel.timing.datasheet import DatasheetRoofline
from costmodel.units import DType

if TYPE_CHECKING:
    from costmodel.timing.generation import GenerationRoofline, SiblingTimes

_KEYS = (
    "schema",
    "hardware",
    "dtypes",
    "runtimes",
    "level",
    "provenance",
    "host_launch_s",
    "forms",
    "streams",
    "errors",
)
_OPTIONAL = ("elsewhere", "stack", "module_launch_s")


def load_calibration(path: str | Path) -> Calibration:
    """Read and check a file; the same object for the same file and content, which other caches go by.

    Raises:
        CalibrationError: one line that names the file, the key, the value found and what is allowed.
    """
    path = Path(path)
    return _of_text(read_calibration_text(path), path)


@functools.lru_cache(maxsize=64)
def _of_text(text: str, path: Path) -> Calibration:
    node = parse_node(text, str(path))
    entries = node.entries()
    form = entries["form"].choice([ADDITIVE, SCALED]) if "form" in entries else None
    if form == ADDITIVE:
        from costmodel.timing.calibration.additive import KEYS, read_additive

        part = node.table(KEYS, ("stack",))
        return Calibration(
            **_about(path, part),
            host_launch_s=None,
            shaped=MappingProxyType({}),
            streams=MappingProxyType({}),
            passes=read_additive(part),
        )
    passes = None
    if form == SCALED:
        from costmodel.timing.calibration.scaled import SCALED_KEYS, read_scaled

        part = node.table((*_KEYS, *SCALED_KEYS), _OPTIONAL)
        passes = read_scaled(part)
    else:
        part = node.table(_KEYS, _OPTIONAL)
    forms = part["forms"].table(["gemm"], [name for name in FORMS if name != "gemm"])
    elsewhere = read_elsewhere(part["elsewhere"]) if "elsewhere" in part else {}
    shaped: dict[FormName, ShapedForm] = {
        name: read_shaped(forms[name], kind, elsewhere.get(name, ())) for name, kind in FORMS.items() if name in forms
    }
    launch, module = part["host_launch_s"], part.get("module_launch_s")
    return Calibration(
        **_about(path, part),
        host_launch_s=None if launch.value is None else launch.number(0, 1),
        module_launch_s=None if module is None or module.value is None else module.number(1e-9, 1),
        shaped=MappingProxyType(shaped),
        streams=MappingProxyType(dict(read_streams(part["streams"]))),
        passes=passes,
    )


def find_calibration(
    option: str, hardware: HardwareProfile, dtype: DType, runtime: Runtime, stack: str | None = None
) -> Calibration | None:
    """The calibration that `--calibration` asks for.

    Args:
        option: "none"; "auto" for the shipped one of this device, or the one probed with this machine's profile, where
            it serves the workload, else what is known of its generation; or a path.
        hardware, dtype, runtime, stack: what it must serve; one that names no stack serves all.

    Raises:
        CalibrationError: when the named file cannot be read, is malformed, or was made for another device, type, way of
            running or stack.
        HardwareError: when there is no such stack.
    """
    if not option:
        raise CalibrationError("--calibration is empty", allowed="auto, none or the path of a calibration")
    if option == "none":
        return None
    if option == "auto":
        found = shipped_calibration(hardware) or _of_this_machine(hardware, stack)
        serves = found and dtype in found.dtypes and runtime in found.runtimes
        return found if serves else _of_generation(hardware, dtype, runtime)
    found = load_calibration(option)
    if found.hardware != hardware.name:
        raise CalibrationError(f"{option} was fitted on another device", value=found.hardware, allowed=hardware.name)
    if dtype not in found.dtypes:
        served = ", ".join(each.value for each in found.dtypes)
        raise CalibrationError(f"{option} does not serve this dtype", value=dtype.value, allowed=served)
    if runtime not in found.runtimes:
        served = ", ".join(each.value for each in found.runtimes)
        raise CalibrationError(f"{option} does not serve this runtime", value=runtime.value, allowed=served)
    if found.stack is not None and (stack is None or load_stack(stack).name != found.stack):
        asked = stack or "no --stack"
        raise CalibrationError(f"{option} was fitted to runs of a stack", value=asked, allowed=f"--stack {found.stack}")
    return found


def _of_this_machine(hardware: HardwareProfile, stack: str | None) -> Calibration | None:
    """The calibration that was probed with this machine's profile, if that is the device, and of no other stack."""
    if hardware.name in builtin_hardware() or (path := corrections_here()) is None:
        return None
    found = load_calibration(path)
    if found.stack is not None and (stack is None or load_stack(stack).name != found.stack):
        return None
    return found if found.hardware == hardware.name and _same_device(hardware, load_hardware(AUTO)) else None


def shipped_calibration(hardware: HardwareProfile) -> Calibration | None:
    """The calibration that ships for this device, if any.

    A profile of the same name with other figures is another device: it stands on its own figures.
    """
    path = profile_folder() / "calibrations" / f"{hardware.name}.json"
    return _shipped(path) if path.is_file() and _same_device(hardware, load_hardware(hardware.name)) else None


@functools.lru_cache(maxsize=64)
def _of_generation(hardware: HardwareProfile, dtype: DType, runtime: Runtime) -> Calibration:
    """What stands in for a calibration that does not exist: a sibling's that serves the type, or none's."""
    from costmodel.timing.efficiencies import generation_of  # of no use to a device that was measured

    generation = generation_of(hardware)
    siblings = (shipped_calibration(load_hardware(name)) for name in generation.siblings if name != hardware.name)
    sibling = next((each for each in siblings if each and dtype in each.dtypes and runtime in each.runtimes), None)
    return Calibration(
        name=f"{generation.name} generation",
        hardware=hardware.name,
        dtypes=(dtype,),
        runtimes=(runtime,),
        level=GENERATION,
        provenance=(MappingProxyType({"source": generation.source}),),
        errors=(),
        host_launch_s=None,
        shaped=MappingProxyType({}),
        streams=MappingProxyType({}),
        sibling=sibling,
    )


def _same_device(one: HardwareProfile, other: HardwareProfile) -> bool:
    words = ("description", "architecture", "figures", "verified")
    names = [field.name for field in fields(HardwareProfile) if field.name not in words]
    return one is other or all(getattr(one, name) == getattr(other, name) for name in names)


@functools.lru_cache(maxsize=64)
def time_model(hardware: HardwareProfile, dtype: DType, runtime: Runtime, calibration: Calibration | None) -> TimeModel:
    """The time model of a device: calibrated, of its generation, or the ideal roofline for None.

    The same object for the same arguments.

    Raises:
        HardwareError: when the profile has no rate for `dtype`.
    """
    roofline = DatasheetRoofline.of(hardware, dtype, runtime)
    if calibration is None:
        return roofline
    launch = roofline.host_launch_s
    if calibration.level == GENERATION:
        return _generation_times(hardware, dtype, runtime, calibration.sibling, launch)
    measured = launch if not launch or calibration.host_launch_s is None else calibration.host_launch_s
    probes = CalibratedTimes(
        level=calibration.level, shaped=calibration.shaped, streams=calibration.streams, host_launch_s=measured
    )
    if calibration.passes is None:
        return probes
    from costmodel.timing.calibration.additive import AdditiveForm, AdditiveTimes
    from costmodel.timing.calibration.scaled import ScaledTimes

    if isinstance(calibration.passes, AdditiveForm):
        return AdditiveTimes(form=calibration.passes, level=calibration.level, host_launch_s=launch)
    return ScaledTimes(form=calibration.passes, probes=probes, level=calibration.level, host_launch_s=measured)


def _generation_times(
    hardware: HardwareProfile, dtype: DType, runtime: Runtime, sibling: Calibration | None, launch_s: float
) -> GenerationRoofline | SiblingTimes:
    from costmodel.timing.efficiencies import generation_of
    from costmodel.timing.generation import GenerationRoofline, SiblingTimes

    here = GenerationRoofline.of(hardware, dtype, launch_s)
    if sibling is None:
        return here
    other = load_hardware(sibling.hardware)
    return SiblingTimes(
        sibling=time_model(other, dtype, runtime, sibling),
        there=GenerationRoofline.of(other, dtype, launch_s),
        here=here,
        log_sd=generation_of(hardware).sibling_log_sd,
        host_launch_s=launch_s,
    )


@functools.cache
def _shipped(path: Path) -> Calibration:
    return load_calibration(path)


def _about(path: Path, part: Mapping[str, Node]) -> dict[str, Any]:
    """What every file says, whatever its form."""
    return {
        "name": path.stem,
        "hardware": part["hardware"].text(),
        "dtypes": tuple(DType(node.choice([dtype.value for dtype in DType])) for node in part["dtypes"].items(1)),
        "runtimes": tuple(Runtime(node.choice([way.value for way in Runtime])) for node in part["runtimes"].items(1)),
        "level": part["level"].choice(["probes", "samples"]),
        "provenance": _rows(part["provenance"]),
        "errors": _rows(part["errors"]),
        "stack": part["stack"].text() if "stack" in part else None,
    }


def _rows(node: Node) -> tuple[Mapping[str, Any], ...]:
    return tuple(MappingProxyType({name: each.value for name, each in item.entries().items()}) for item in node.items())
