"""The dense checkpoint that a factored one is made from: its structure, and its weights read one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from costmodel.errors import ModelError
from costmodel.families.load import load_model, read_config
from costmodel.files.read import read_json
from costmodel.model import ModelSpec
from validate.hf.check import is_factored
from validate.hf.errors import FactoredCheckpointError
from validate.hf.names import GENERATION
from validate.hf.structure import generation_config
from validate.models.pretrained import auto_class, locate
from validate.models.reading import require_own_weights
from validate.models.weights import SourceWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseSource:
    """A dense checkpoint on disk.

    Attributes:
        name: on the hub, or of the folder.
        model: its structure, with its head, on the meta device: no weights.
        layers: path of the list of layers in `model`.
        weights: what is on the disk.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    spec: ModelSpec
    model: nn.Module
    layers: str
    weights: SourceWeights


def open_source(path_or_id: str) -> DenseSource:
    """Look at a checkpoint without reading its weights.

    Raises:
        ModelError: when it is missing, factored already, of an unsupported architecture, lacks weights, or has settings
            of generation that are not possible.
    """
    import transformers

    folder = locate(path_or_id)
    if is_factored(folder):
        hint = "give the dense checkpoint that it was made from"
        raise ModelError("a factored checkpoint cannot be factored again", value=str(folder), hint=hint)
    spec, config = load_model(folder), read_config(folder)
    require_own_weights(spec, config)
    settings = transformers.CONFIG_MAPPING[spec.model_type].from_dict(dict(config))
    with torch.device("meta"):
        model: Any = auto_class(spec).from_config(settings, attn_implementation="sdpa")
    if model.can_generate() and (folder / GENERATION).is_file():
        try:
            generation_config(model, read_json(folder / GENERATION, "settings of generation", ModelError))
        except FactoredCheckpointError as error:  # what is written of it could not be loaded
            raise ModelError(str(error), value=str(folder), hint="mend it, or remove it") from error
    inside = f"{model.base_model_prefix}." if spec.is_encoder and model.base_model is not model else ""
    name = folder.resolve().name if Path(path_or_id).is_dir() else path_or_id
    return DenseSource(
        name=name,
        folder=folder,
        config=config,
        spec=spec,
        model=model,
        layers=f"{inside}{spec.layer_prefix}",
        weights=SourceWeights(folder, model),
    )
