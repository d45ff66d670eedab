"""One model's modules in place of another's of the same class, and back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from validate.errors import RunError
from validate.models.pretrained import Pretrained


@contextlib.contextmanager
def exchanged(dense: Pretrained, other: Pretrained) -> Iterator[None]:
    """Let the objects of a dense model run as another model, whatever its layers are, for the time being.

    Raises:
        RunError: when their modules have other names: they are of different classes.
    """
    pairs: list[tuple[Any, Any]] = [(dense.body, other.body)]
    if dense.body is not dense.model:
        pairs.append((dense.model, other.model))
    undo: list[tuple[Any, dict[str, Any], Any]] = []
    for own, given in pairs:
        if set(own._modules) != set(given._modules):
            raise RunError("the factored folder is of another class", value=type(given).__name__)
        undo.append((own, dict(own._modules), own.config))
    try:
        for own, given in pairs:
            own.config = given.config
            for name, module in given._modules.items():
                if own._modules[name] is not dense.body:
                    own._modules[name] = module
        yield
    finally:
        for own, modules, config in undo:
            own._modules.update(modules)
            own.config = config
