"""An analytical cost model of transformers whose weights are low-rank factors.

The names below are imported on first use, so that `import costmodel` costs next to nothing. The pricing function has
the name of its module and is therefore imported from it: `from costmodel.pricing.estimate import estimate`.
"""

from __future__ import annotations

from costmodel._version import __version__

TYPE_CHECKING = False  # known to type checkers by its name; importing `typing` would cost more than all the rest
if TYPE_CHECKING:
    from costmodel.decomposition.factors import Decomposition, LowRank, Site, Tucker, load_decomposition
    from costmodel.decomposition.text import parse_decomposition
    from costmodel.errors import (
        CalibrationError,
        CostModelError,
        DecompositionError,
        HardwareError,
        InputError,
        ModelError,
    )
    from costmodel.families.load import load_model
    from costmodel.forward.workload import Phase, Workload
    from costmodel.hardware.profile import HardwareProfile, load_hardware
    from costmodel.model import ModelSpec
    from costmodel.pricing.estimate import Estimate
    from costmodel.space.base import DesignSpace
    from costmodel.timing.calibration.record import Calibration

__all__ = [
    "Calibration",
    "CalibrationError",
    "CostModelError",
    "Decomposition",
    "DecompositionError",
    "DesignSpace",
    "Estimate",
    "HardwareError",
    "HardwareProfile",
    "InputError",
    "LowRank",
    "ModelError",
    "ModelSpec",
    "Phase",
    "Site",
    "Tucker",
    "Workload",
    "__version__",
    "load_decomposition",
    "load_hardware",
    "load_model",
    "parse_decomposition",
]

_MODULE_OF = {
    "Calibration": "timing.calibration.record",
    "CalibrationError": "errors",
    "CostModelError": "errors",
    "Decomposition": "decomposition.factors",
    "DecompositionError": "errors",
    "DesignSpace": "space.base",
    "Estimate": "pricing.estimate",
    "HardwareError": "errors",
    "HardwareProfile": "hardware.profile",
    "InputError": "errors",
    "LowRank": "decomposition.factors",
    "ModelError": "errors",
    "ModelSpec": "model",
    "Phase": "forward.workload",
    "Site": "decomposition.factors",
    "Tucker": "decomposition.factors",
    "Workload": "forward.workload",
    "load_decomposition": "decomposition.factors",
    "load_hardware": "hardware.profile",
    "load_model": "families.load",
    "parse_decomposition": "decomposition.text",
}
"""Public name and the module below `costmodel` that defines it."""


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    value: object = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
