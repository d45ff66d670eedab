"""What every question takes: the workload by keyword, and how it becomes settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypedDict, cast

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.recipe import SUFFIX, load_recipe
from costmodel.decomposition.text import parse_decomposition
from costmodel.errors import InputError, nearest
from costmodel.families.load import load_model
from costmodel.forward.workload import Attention, Cache, ExpertKernels, Latent, LmHead, Routing, Runtime
from costmodel.hardware.profile import HardwareProfile, load_hardware
from costmodel.model import ModelSpec
from costmodel.pricing.setup import Setup, WorkloadSettings
from costmodel.timing.calibration.record import Calibration
from costmodel.units import DType

Model = str | Path | ModelSpec
Hardware = str | Path | HardwareProfile
Specs = str | Path | Iterable[str] | Decomposition
"""SPECs as --decompose takes them, the path of a recipe or a configuration, or a configuration."""
Corrections = str | Path | Calibration | None
"""auto, none or a file, as --calibration takes them; None is none."""


class Shared(TypedDict, total=False):
    """The workload but for what a comparison takes several of; names, meaning and defaults are the command's."""

    phase: Literal["prefill", "decode", "both"]
    seq_len: int | None
    kv_len: int | None
    new_tokens: int | None
    dtype: str | DType | None
    weight_dtype: str | DType | None
    kv_dtype: str | DType | None
    runtime: str | Runtime | None
    attention: str | Attention | None
    lm_head: str | LmHead
    host: str | None
    cache: str | Cache | None
    routing: str | Routing
    experts: str | ExpertKernels
    latent: str | Latent | None
    tp: int
    tp_ways: str | None


class Options(Shared, total=False):
    """The whole workload."""

    batch: int
    stack: str | None


_KNOWN = (*Shared.__annotations__, "batch", "stack")
_ENUMERATIONS = {
    "runtime": Runtime,
    "attention": Attention,
    "lm_head": LmHead,
    "cache": Cache,
    "routing": Routing,
    "experts": ExpertKernels,
    "latent": Latent,
}


def setup_of(model: Model, hw: Hardware, calibration: Corrections, options: Options) -> Setup:
    """What a question names, loaded and checked as the command does.

    Raises:
        CostModelError: in one line.
    """
    given: dict[str, object] = {}
    for name, value in cast("dict[str, object]", options).items():
        if name not in _KNOWN:
            raise InputError("unknown option", value=name, hint=nearest(name, _KNOWN))
        if isinstance(value, DType):
            value = value.value
        if isinstance(value, str) and name in _ENUMERATIONS:
            kinds = {str(kind.value): kind for kind in _ENUMERATIONS[name]}
            if value not in kinds:
                raise InputError(f"unknown {name}", value=value, allowed=", ".join(kinds))
            value = kinds[value]
        given[name] = value
    corrected = calibration if isinstance(calibration, Calibration) else None
    text = "none" if calibration is None or corrected is not None else str(calibration)
    found, device = model_of(model), hardware_of(hw)
    settings = WorkloadSettings(model=found.name, hw=device.name, calibration=text, **given)  # type: ignore[arg-type]
    setup = settings.setup(found, device)
    return setup if corrected is None else replace(setup, calibration=corrected)


def model_of(model: Model) -> ModelSpec:
    """A model by name or path, or itself."""
    return model if isinstance(model, ModelSpec) else load_model(model)


def hardware_of(hw: Hardware) -> HardwareProfile:
    """A device by name or path, or itself."""
    return hw if isinstance(hw, HardwareProfile) else load_hardware(hw)


def decomposition_of(specs: Specs, model: ModelSpec) -> Decomposition:
    """A configuration from SPECs, from a file, or itself; no SPEC is the dense model."""
    if isinstance(specs, Decomposition):
        return specs
    if isinstance(specs, Path):
        if specs.suffix == SUFFIX:
            return parse_decomposition(load_recipe(specs), model)
        from costmodel.decomposition.factors import load_decomposition

        return load_decomposition(specs, model)
    if isinstance(specs, str):
        specs = [specs] if specs.strip() not in ("", "dense") else []
    return parse_decomposition(specs, model)
