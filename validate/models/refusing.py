"""What transformers raises of a config.json, in one line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from costmodel.errors import CostModelError, ModelError
from validate.errors import reason_of


@contextlib.contextmanager
def made_of_config(name: str) -> Iterator[None]:
    """Around what transformers makes of a config.json: whatever it raises is about that file.

    Raises:
        ModelError: naming what transformers does not take.
    """
    try:
        yield
    except (CostModelError, MemoryError, torch.OutOfMemoryError):
        raise
    except Exception as error:  # transformers raises many kinds
        raise ModelError(f"{name}: transformers makes no model of config.json", hint=reason_of(error)) from error
