"""An analytical cost model of transformers whose weights are low-rank factors.

The public names are imported on first use, so that `import costmodel` costs next to nothing.
"""

from __future__ import annotations

import sys
from types import ModuleType

from costmodel._version import __version__ as __version__

TYPE_CHECKING = False  # known to type checkers by its name; importing `typing` would cost more than all the rest
if TYPE_CHECKING:  # type checkers cannot follow the table below; a test holds the two together
    import inspect

    from costmodel.api.asking import compare as compare
    from costmodel.api.asking import estimate as estimate
    from costmodel.api.asking import explore as explore
    from costmodel.api.asking import recommend as recommend
    from costmodel.decomposition.factors import Decomposition as Decomposition
    from costmodel.decomposition.factors import LowRank as LowRank
    from costmodel.decomposition.factors import Site as Site
    from costmodel.decomposition.factors import Tucker as Tucker
    from costmodel.decomposition.factors import load_decomposition as load_decomposition
    from costmodel.decomposition.text import parse_decomposition as parse_decomposition
    from costmodel.errors import CalibrationError as CalibrationError
    from costmodel.errors import CostModelError as CostModelError
    from costmodel.errors import DecompositionError as DecompositionError
    from costmodel.errors import HardwareError as HardwareError
    from costmodel.errors import InputError as InputError
    from costmodel.errors import ModelError as ModelError
    from costmodel.families.load import load_model as load_model
    from costmodel.forward.workload import Phase as Phase
    from costmodel.forward.workload import Workload as Workload
    from costmodel.hardware.profile import HardwareProfile as HardwareProfile
    from costmodel.hardware.profile import load_hardware as load_hardware
    from costmodel.model import ModelSpec as ModelSpec
    from costmodel.pricing.estimate import Estimate as Estimate
    from costmodel.space.base import DesignSpace as DesignSpace
    from costmodel.timing.calibration.record import Calibration as Calibration

_NAMES = {
    "api.asking": "compare estimate explore recommend",
    "decomposition.factors": "Decomposition LowRank Site Tucker load_decomposition",
    "decomposition.text": "parse_decomposition",
    "errors": "CalibrationError CostModelError DecompositionError HardwareError InputError ModelError",
    "families.load": "load_model",
    "forward.workload": "Phase Workload",
    "hardware.profile": "HardwareProfile load_hardware",
    "model": "ModelSpec",
    "pricing.estimate": "Estimate",
    "space.base": "DesignSpace",
    "timing.calibration.record": "Calibration",
}
"""Module below `costmodel` and the public names that it defines."""
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names.split()}
__all__ = ["__version__", *_MODULE_OF]


class _Explore(ModuleType):
    """The package `costmodel.explore`, which is the question too: `costmodel.explore(model, hw)`."""

    __module__ = f"{__name__}.api.asking"

    if TYPE_CHECKING:
        __call__ = staticmethod(explore)
    else:

        def __call__(self, *args, **options):
            from costmodel.api import asking

            return asking.explore(*args, **options)

    @property
    def __signature__(self) -> inspect.Signature:
        """Of the question, for `help` and editors."""
        import inspect

        from costmodel.api import asking

        return inspect.signature(asking.explore)


class _Package(ModuleType):
    """This package: the import of a subpackage sets it as an attribute, and `explore` is made callable then."""

    def __setattr__(self, name: str, value: object) -> None:
        if name == "explore" and isinstance(value, ModuleType):
            value.__class__ = _Explore
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    if name == "explore":
        return importlib.import_module(f"{__name__}.explore")
    value: object = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
