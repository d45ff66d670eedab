"""Configurations by name, for whatever model."""

from __future__ import annotations

from typing import Literal

from costmodel.errors import DecompositionError
from costmodel.model import ModelSpec

Preset = Literal["uniform-50", "mlp-only", "keep-ends"]


def preset_specs(preset: Preset, model: ModelSpec) -> tuple[str, ...]:
    """The SPECs of a preset: half of break-even everywhere, in the MLP alone, or in all layers but the first and last.

    Raises:
        DecompositionError: when the model has too few layers to keep both ends.
    """
    match preset:
        case "uniform-50":
            return ("rank=50%",)
        case "mlp-only":
            return ("tensors=mlp rank=50%",)
        case "keep-ends":
            if model.num_layers < 3:
                raise DecompositionError("keep-ends needs three layers", value=model.num_layers, allowed="3 or more")
            return (f"layers=1-{model.num_layers - 2} rank=50%",)
