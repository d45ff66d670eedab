"""A trained model with its head and tokenizer, from a local folder or the Hugging Face hub, read from safetensors."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from costmodel.errors import ModelError
from costmodel.families.load import load_model, read_config
from costmodel.model import ModelSpec
from validate.models.classes import measured_class, whole_class
from validate.models.headers import StoredTensors
from validate.models.reading import read_model, require_dense, require_own_weights
from validate.models.tokenizers import read_tokenizer

_FILES = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.spm", "*.codes", "*.tiktoken"]
"""What a checkpoint without code consists of."""
_FOLDER = "a folder with config.json and *.safetensors"
_HUB_NAME = re.compile(r"\w[\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pretrained:
    """A checkpoint in memory, in evaluation mode and without gradients.

    Attributes:
        folder: where it was read from.
        config: its config.json.
        spec: its structure.
        model: with its head: causal, masked or for classification, as the weights say.
        body: the module that the spec's paths start from: `model`, or an encoder without its head.
        tokenizer: None where the folder has none.
    """

    folder: Path
    config: Mapping[str, Any]
    spec: ModelSpec
    model: nn.Module
    body: nn.Module
    tokenizer: Any

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device


def locate(path_or_id: str) -> Path:
    """The folder of a checkpoint: the one given, or the hub's snapshot of that name, fetched when it is not cached.

    Raises:
        ModelError: when it is neither, the hub does not show it, or cannot be reached.
    """
    folder = Path(path_or_id)
    if folder.is_dir():
        return folder
    if not _HUB_NAME.fullmatch(path_or_id):
        raise ModelError("no such folder", value=path_or_id, allowed=f"{_FOLDER}, or a name on the Hugging Face hub")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    try:
        return Path(snapshot_download(path_or_id, allow_patterns=_FILES))
    except GatedRepoError as error:
        hint = "accept its terms on the hub and log in with `hf auth login`, or give a folder"
        raise ModelError(
            "the hub shows this checkpoint to those only who may see it", value=path_or_id, hint=hint
        ) from error
    except RepositoryNotFoundError as error:
        allowed = f"{_FOLDER}, or owner/name of a public model"
        raise ModelError(
            "no such folder, and the hub has no such checkpoint", value=path_or_id, allowed=allowed
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:  # offline, or a server that fails
        what = "no such folder, not in the local cache, and the hub cannot be reached"
        hint = f"fetch it with `hf download {path_or_id}` where there is a network, or give {_FOLDER}"
        raise ModelError(what, value=path_or_id, hint=hint) from error


def open_pretrained(
    path_or_id: str | Path, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Pretrained:
    """Read a checkpoint: safetensors only, no code of its own, every weight of the model there.

    Raises:
        ModelError: when it is missing, factored, of an unsupported architecture, lacks weights or has others, or its
            configuration is at odds with them.
        MeasurementError: when a weight is not finite.
    """
    folder = locate(str(path_or_id))
    require_dense(folder)
    spec, config = load_model(folder), read_config(folder)
    require_own_weights(spec, config)
    whole = whole_class(spec, config, StoredTensors(folder))
    part = measured_class(whole)
    known = whole.names()
    model: Any = read_model(part.kind, folder, dtype=dtype, may_leave=known.__contains__)
    model = model.to(device).eval().requires_grad_(False)
    body = model.base_model if spec.is_encoder else model
    return Pretrained(
        folder=folder,
        config=config,
        spec=spec,
        model=model,
        body=body,
        tokenizer=read_tokenizer(folder),
    )
