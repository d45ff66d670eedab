"""What every question takes: the workload by keyword, and how it becomes settings."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypedDict, cast, get_args

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.held import held, other_than_held, searched_dense
from costmodel.decomposition.presets import Preset
from costmodel.decomposition.recipe import SUFFIX
from costmodel.decomposition.settings import DecompositionSettings
from costmodel.errors import InputError, nearest
from costmodel.families.load import load_model
from costmodel.forward.workload import (
    ENUMERATIONS,
    Attention,
    Cache,
    ExpertKernels,
    Latent,
    LmHead,
    Phase,
    Routing,
    Runtime,
)
from costmodel.hardware.profile import HardwareProfile, load_hardware
from costmodel.model import ModelSpec
from costmodel.pricing.setup import SEVERAL, WorkloadSettings
from costmodel.pricing.several import Question
from costmodel.timing.calibration.record import Calibration
from costmodel.units import DType

Model = str | Path | ModelSpec
Hardware = str | Path | HardwareProfile
Specs = str | Path | Iterable[str | Path] | Decomposition
"""SPECs as --decompose takes them, a configuration, or what names one: a preset, the path of a recipe or of a
configuration; in a list SPECs may follow what names one."""
Corrections = str | Path | Calibration | None
"""auto, none or a file, as --calibration takes them; None is none."""


class Shared(TypedDict, total=False):
    """The workload but for what a comparison takes several of; names, meaning and defaults are the command's."""

    phase: Literal["prefill", "decode", "both"] | Phase
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
    microbatches: int
    tp_ways: str | None


class Options(Shared, total=False):
    """The whole workload."""

    batch: int
    stack: str | None
    seq_len: int | None
    kv_len: int | None
    tp: int
    ep: int
    pp: int


class Several(Shared, total=False):
    """The whole workload, with lists where a comparison takes several."""

    batch: int | Sequence[int]
    stack: str | Sequence[str | None] | None
    seq_len: int | Sequence[int | None] | None
    kv_len: int | Sequence[int | None] | None
    tp: int | Sequence[int]
    ep: int | Sequence[int]
    pp: int | Sequence[int]


_KNOWN = tuple(Options.__annotations__)
_ALWAYS = ("model", "hw", "calibration")
_SYNONYMS = {
    "limit": "limits",
    "objective": "objectives",
    "rank": "ranks",
    "hardware": "hw",
    "device": "hw",
    "gpu": "hw",
    "batch_size": "batch",
    "seqlen": "seq_len",
    "spec": "decompose",
    "config": "decompose",
    "recipe": "decompose",
    "preset": "decompose",
}
"""What options are called elsewhere."""
_SEVERAL = "give several in lists to compare, or to recommend"
_TEXTS = ("dtype", "weight_dtype", "kv_dtype", "stack", "host", "tp_ways")
_USUAL = ("runtime", "attention", "cache", "latent")
"""Options that may be None, for the usual."""


def question_of(
    model: Model, hw: Hardware, calibration: Corrections, options: Options, own: Iterable[str] = ()
) -> Question:
    """What a question names, loaded; its options are the command's, and `own` are further names that it takes.

    Raises:
        CostModelError: in one line.
    """
    given: dict[str, object] = {}
    for name, value in cast("dict[str, object]", options).items():
        if name not in _KNOWN:
            names = (*_KNOWN, *_ALWAYS, *own)
            meant = _SYNONYMS.get(name)
            hint = f"did you mean {meant}?" if meant in names else nearest(name, names)
            raise InputError("unknown option", value=name, hint=hint)
        if name in SEVERAL and isinstance(value, list | tuple):
            raise InputError(f"one {name} is asked of here", value=value, hint=_SEVERAL)
        given[name] = _option(name, value)
    corrected = calibration if isinstance(calibration, Calibration) else None
    text = "none" if calibration is None or corrected is not None else str(calibration)
    found, device = model_of(model), hardware_of(hw)
    given["model"] = found.name if isinstance(model, ModelSpec) else str(model)
    given["hw"] = device.name if isinstance(hw, HardwareProfile) else str(hw)
    settings = WorkloadSettings(calibration=text, **given)  # type: ignore[arg-type]
    return replace(Question.of(settings, found, device), calibration=corrected)


def _option(name: str, value: object) -> object:
    """The value of an option as settings hold it."""
    if isinstance(value, DType | Phase):
        return value.value
    if isinstance(value, Path) and name in _TEXTS:
        return str(value)
    if name in _TEXTS and not isinstance(value, str | None):
        raise InputError(f"{name} is no text", value=value, allowed="a name as the command takes it")
    kind = None if name == "phase" else ENUMERATIONS.get(name)
    if kind is None or isinstance(value, kind) or (value is None and name in _USUAL):
        return value
    kinds = {str(each.value): each for each in kind}
    if not isinstance(value, str) or value not in kinds:
        raise InputError(f"unknown {name}", value=value, allowed=", ".join(kinds))
    return kinds[value]


def model_of(model: Model) -> ModelSpec:
    """A model by name or path, or itself.

    Raises:
        CostModelError: when there is none, in one line.
    """
    if not isinstance(model, str | Path | ModelSpec):
        raise InputError("no model", value=model, allowed="a name, a path, or what load_model returns")
    return model if isinstance(model, ModelSpec) else load_model(model)


def hardware_of(hw: Hardware | list[Hardware] | tuple[Hardware, ...]) -> HardwareProfile:
    """A device by name or path, or itself.

    Raises:
        CostModelError: when there is none, or several, in one line.
    """
    if isinstance(hw, list | tuple) or (isinstance(hw, str) and "," in hw and not Path(hw).exists()):
        raise InputError("one device is asked of here", value=hw, hint=_SEVERAL)
    if not isinstance(hw, str | Path | HardwareProfile):
        raise InputError("no device", value=hw, allowed="a name, a path, or what load_hardware returns")
    return hw if isinstance(hw, HardwareProfile) else load_hardware(hw)


def decomposition_of(specs: Specs, model: ModelSpec) -> Decomposition:
    """A configuration from SPECs, from a file, or itself; no SPEC is the dense model, or what the model's folder holds.
    Warns (UserWarning) of a recipe that was written for another model, and where the folder holds another
    configuration, as the commands do.

    Raises:
        CostModelError: in one line.
    """
    if isinstance(specs, Iterable) and not isinstance(specs, str):
        specs = tuple(specs)
    if (specs == () or (isinstance(specs, str) and not specs.strip())) and (own := held(model)) is not None:
        return own
    named = named_of(specs, model)
    for text in other_than_held(named, model):
        warnings.warn(text, UserWarning, stacklevel=3)
    return named


def named_of(specs: Specs, model: ModelSpec) -> Decomposition:
    """The configuration that is named, whatever the model's folder holds. Warns (UserWarning) of a recipe that was
    written for another model.

    Raises:
        CostModelError: in one line.
    """
    if isinstance(specs, Decomposition):
        return specs
    alone = isinstance(specs, str | Path) or not isinstance(specs, Iterable)
    given: list[object] = [specs] if alone else list(cast("Iterable[object]", specs))
    first, rest = given[0] if given else "", given[1:]
    settings = _naming(first)
    settings = replace(settings, decompose=(*settings.decompose, *_spoken(rest)))
    for text in settings.recipe_warnings(model):
        warnings.warn(text, UserWarning, stacklevel=4)
    return settings.load(model) if settings.named else Decomposition()


def _naming(first: object) -> DecompositionSettings:
    """What names a configuration: a preset, a recipe, a configuration's file, or a SPEC."""
    if first in get_args(Preset):
        return DecompositionSettings(preset=cast("Preset", first))
    if isinstance(first, Path) or (isinstance(first, str) and first.endswith((SUFFIX, ".json"))):
        file = str(first)
        return DecompositionSettings(recipe=file) if file.endswith(SUFFIX) else DecompositionSettings(config=file)
    return DecompositionSettings(decompose=_spoken(first))


def _spoken(specs: object) -> tuple[str, ...]:
    """SPECs that say something."""
    return tuple(text for text in texts_of("decompose", specs) if text.strip())


def warn_of_held(model: ModelSpec) -> None:
    """Warn (UserWarning) where configurations are sought of a model whose folder holds one."""
    for text in searched_dense(model):
        warnings.warn(text, UserWarning, stacklevel=3)


def texts_of(what: str, value: object) -> tuple[str, ...]:
    """One text or several, as several.

    Raises:
        InputError: when it is neither.
    """
    if isinstance(value, str):
        return (value,)
    texts = tuple(value) if isinstance(value, Iterable) else None
    if texts is None or not all(isinstance(text, str) for text in texts):
        raise InputError(f"{what} is no text", value=value, allowed="a text, or several in a list")
    return texts
