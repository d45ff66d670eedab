"""A factored folder as a model to measure: as it runs, or as the dense weights that its factors stand for."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from costmodel.errors import ModelError
from validate.hf import FactoredCheckpointError, load_factored
from validate.models.kept import is_factored, kept_model
from validate.models.pretrained import Pretrained
from validate.models.tokenizers import read_tokenizer


def open_factored(
    folder: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Pretrained:
    """A factored folder as it runs, with its head, in evaluation mode and without gradients.

    Raises:
        ModelError: when it is not as `validate apply` writes them.
    """
    folder = Path(folder)
    if not is_factored(folder):
        raise ModelError("no factored checkpoint", value=str(folder), allowed="a folder that `validate apply` wrote")
    spec, config = kept_model(folder)
    try:
        model: Any = load_factored(folder, dtype=dtype, device=device)
    except FactoredCheckpointError as error:
        raise ModelError("factored checkpoint", value=str(folder), hint=str(error)) from error
    return Pretrained(
        folder=folder,
        config=config,
        spec=spec,
        model=model,
        body=model.base_model if spec.is_encoder else model,
        tokenizer=read_tokenizer(folder),
    )


@contextlib.contextmanager
def merged_folder(folder: Path) -> Iterator[Path]:
    """An ordinary checkpoint of the products of the factors in fp32, by the folder's name, for the time being.

    Raises:
        ModelError: when the folder is not as `validate apply` writes them.
    """
    with tempfile.TemporaryDirectory() as place:
        pretrained = open_factored(folder, dtype=torch.float32)
        model: Any = pretrained.model
        merged = Path(place) / folder.resolve().name
        model.dequantize()
        model.save_pretrained(merged)
        if pretrained.tokenizer is not None:
            pretrained.tokenizer.save_pretrained(merged)
        yield merged
