"""The empirical side: builds really factored models, measures them, and says how wrong the predictions are.

Records, statistics, fitting and reports import without torch; whatever touches a device imports it on use. The library
configobj ships a `validate/__init__.py` too: whichever file was installed last, the modules below are found, and
configobj's names are answered for from here.
"""

from __future__ import annotations


def __getattr__(name: str) -> object:
    """A name of `configobj.validate`, which its users import from here, where configobj is installed.

    Raises:
        AttributeError: when it is not, or has no such name.
    """
    if name == "__path__" or (name.startswith("__") and name != "__all__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    try:
        theirs = importlib.import_module("configobj.validate")
    except ModuleNotFoundError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    value: object = getattr(theirs, name)
    return value
