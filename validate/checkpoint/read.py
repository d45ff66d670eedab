"""A factored checkpoint as the rest of the project sees it: the model, and the decomposition that it is of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from costmodel.decomposition.factors import Decomposition, LowRank, Site, Tucker
from costmodel.errors import ModelError
from costmodel.model import ModelSpec
from validate.checkpoint.loader import FactoredCheckpointError, load_factored, read_manifest


def read_factored(
    folder: Path, spec: ModelSpec, *, dtype: torch.dtype | None = None, device: torch.device | str = "cpu"
) -> tuple[nn.Module, Decomposition]:
    """The model, and what it is of `spec`, the dense model that config.json describes.

    Args:
        dtype: of the weights in memory; None for the stored one.

    Raises:
        ModelError: when the folder is not exactly as `validate apply` writes it.
        DecompositionError: when its manifest does not fit `spec`.
    """
    try:
        return load_factored(folder, dtype=dtype, device=device), recorded_decomposition(read_manifest(folder), spec)
    except FactoredCheckpointError as error:
        raise ModelError(str(error)) from error


def recorded_decomposition(manifest: dict[str, Any], spec: ModelSpec) -> Decomposition:
    """The decomposition in a manifest that the loader has read.

    Raises:
        ModelError: when a site's module is not the tensor that it is called.
        DecompositionError: when it does not fit `spec`.
    """
    factors: dict[Site, LowRank | Tucker] = {}
    for entry in manifest["sites"]:
        tensor = spec.tensor(str(entry.get("tensor")))
        if tensor.path != entry["module"]:
            raise ModelError("factored.json: module of a site", value=entry["module"], allowed=tensor.path)
        first, last = entry["rank"]
        factor = LowRank(first) if entry["form"] == "svd" else Tucker(first, last)
        factors[Site(entry["layer"], tensor.name)] = factor
    return Decomposition(factors, frozenset(manifest["drop"])).check(spec, "factored.json")
