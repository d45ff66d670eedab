"""The dense checkpoint that a factored one is made from: its structure, and its weights read one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from costmodel.errors import ModelError
from costmodel.families.load import load_model, read_config
from costmodel.files.read import read_json
from costmodel.model import ModelSpec
from validate.hf.check import is_factored
from validate.hf.errors import FactoredCheckpointError
from validate.hf.meta import on_meta
from validate.hf.names import GENERATION
from validate.hf.structure import generation_config
from validate.models.classes import layers_path, whole_class
from validate.models.headers import StoredTensors
from validate.models.pretrained import locate
from validate.models.reading import require_own_weights
from validate.models.weights import SourceWeights


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseSource:
    """A dense checkpoint on disk.

    Attributes:
        name: on the hub, or of the folder.
        config: config.json, but `tie_word_embeddings` is false where the files hold every tied tensor for itself.
        model: its structure, with its head, on the meta device: no weights.
        layers: path of the list of layers in `model`.
        weights: what is on the disk.
        left_out: stored buffers that the model computes.
    """

    name: str
    folder: Path
    config: Mapping[str, Any]
    spec: ModelSpec
    model: nn.Module
    layers: str
    weights: SourceWeights
    left_out: tuple[str, ...]


def open_source(path_or_id: str) -> DenseSource:
    """Look at a checkpoint without reading its weights.

    Raises:
        ModelError: when it is missing, factored already, of an unsupported architecture, lacks weights or has others,
            is at odds with its config.json, or has settings of generation that are not possible.
    """
    folder = locate(path_or_id)
    if is_factored(folder):
        hint = "give the dense checkpoint that it was made from"
        raise ModelError("a factored checkpoint cannot be factored again", value=str(folder), hint=hint)
    spec, config = load_model(folder), read_config(folder)
    require_own_weights(spec, config)
    stored = StoredTensors(folder)
    found = whole_class(spec, config, stored)
    with on_meta():
        model: Any = found.build()
    weights = SourceWeights(stored, model)
    found.require_whole()
    if found.own and not model.all_tied_weights_keys:
        config = {**config, "tie_word_embeddings": False}
    if model.can_generate() and (folder / GENERATION).is_file():
        try:
            generation_config(model, read_json(folder / GENERATION, "settings of generation", ModelError))
        except FactoredCheckpointError as error:  # what is written of it could not be loaded
            raise ModelError(str(error), value=str(folder), hint="mend it, or remove it") from error
    name = folder.resolve().name if Path(path_or_id).is_dir() else path_or_id
    return DenseSource(
        name=name,
        folder=folder,
        config=config,
        spec=spec,
        model=model,
        layers=layers_path(model, spec),
        weights=weights,
        left_out=found.computed,
    )
