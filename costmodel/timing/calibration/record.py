"""A calibration: measured corrections to the roofline of one device, as `validate fit` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from costmodel.forward.workload import Runtime
from costmodel.timing.calibration.shaped import FormName, ShapedForm, StreamForm
from costmodel.units import DType

if TYPE_CHECKING:
    from costmodel.timing.calibration.additive import AdditiveForm
    from costmodel.timing.calibration.scaled import ScaledForm

GENERATION = "generation"
"""Level of a device that was not measured, of which others of its generation are."""
ADDITIVE, SCALED = "additive", "scaled"
"""What the key `form` of a file says that was fitted to whole passes: with one form for all, or with corrections."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Calibration:
    """What measurements say about one device. Compared and hashed by identity: cheap as a cache key.

    Attributes:
        name: of the file, without its suffix.
        hardware: name of the profile that it belongs to.
        dtypes: types that it serves, the measured one first.
        runtimes: ways of running that it serves: a GPU's device times hold for both, a CPU's include dispatch.
        level: what it stands on: bare operations (probes), whole models too (samples), other devices (generation).
        provenance: where the measurements come from, an entry each.
        errors: rows of its error table, on held-out points.
        host_launch_s: measured host time per kernel, or None where the profile's figure stands.
        module_launch_s: the same where transformers' modules launch it, which says how fast the host of a stack is.
        shaped, streams: the forms by class of operation; empty where there is one form for all.
        stack: name of the stack whose passes it was fitted to, which it serves alone; None for PyTorch's own.
        passes: what whole passes were fitted with: one form for all, or corrections of the forms by class.
        sibling: at level generation, the calibration of the device that is taken after, or None where numbers of the
            generation stand alone.
    """

    name: str
    hardware: str
    dtypes: tuple[DType, ...]
    runtimes: tuple[Runtime, ...]
    level: str
    provenance: tuple[Mapping[str, Any], ...]
    errors: tuple[Mapping[str, Any], ...]
    host_launch_s: float | None
    shaped: Mapping[FormName, ShapedForm]
    streams: Mapping[str, StreamForm]
    passes: AdditiveForm | ScaledForm | None = None
    stack: str | None = None
    module_launch_s: float | None = None
    sibling: Calibration | None = None
