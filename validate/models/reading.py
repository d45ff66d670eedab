"""Weights of a folder in a transformers model: dense ones, from safetensors, with no code of the folder's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from costmodel.errors import ModelError
from costmodel.families.quantised import FACTORED, KEYS, method_of
from costmodel.model import ModelSpec
from validate.errors import reason_of
from validate.hf.check import is_factored


def require_dense(folder: Path) -> None:
    """Make sure that a folder is not one that `validate apply` wrote.

    Raises:
        ModelError: when it is.
    """
    if is_factored(folder):
        hint = "give the dense checkpoint that it was made from"
        raise ModelError("a factored checkpoint, where a dense one is needed", value=str(folder), hint=hint)


def require_own_weights(spec: ModelSpec, config: Mapping[str, Any]) -> None:
    """Make sure that a checkpoint's weights can be read as those of the model that its configuration was priced as.

    Raises:
        ModelError: when they are quantised, or a larger model's.
    """
    key = next((key for key in KEYS if config.get(key)), None)
    quantised = None if key is None else config[key]
    if quantised is not None and not (isinstance(quantised, Mapping) and method_of(str(key), quantised) == FACTORED):
        hint = "give the original checkpoint"
        raise ModelError("a quantised checkpoint, where a plain one is needed", value=quantised, hint=hint)
    if spec.inside:
        hint = "its configuration can be priced, its weights not read"
        raise ModelError("the weights of a language model inside a larger one", value=spec.inside, hint=hint)


def read_model(
    auto: Any, folder: Path, *, dtype: torch.dtype, config: Any = None, may_lack: tuple[str, ...] = ()
) -> nn.Module:
    """The model that a class of transformers makes of a folder, with fused attention.

    Args:
        auto: the class, such as AutoModelForCausalLM.
        config: in place of the folder's own configuration.
        may_lack: beginnings of the names of weights that may be missing, and are random then.

    Raises:
        ModelError: when the checkpoint is factored, damaged, or lacks weights of the model.
        MemoryError: when it does not fit.
    """
    require_dense(folder)
    if not any(folder.glob("*.safetensors")):
        raise ModelError("folder without weights", value=str(folder), allowed="a folder with *.safetensors files")
    try:
        model, report = auto.from_pretrained(
            str(folder),
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            attn_implementation="sdpa",
            **({} if config is None else {"config": config}),
        )
    except MemoryError:
        raise
    except Exception as error:  # transformers raises many kinds for a damaged folder
        raise ModelError("cannot read weights", value=str(folder), hint=reason_of(error)) from error
    absent = [name for name in report["missing_keys"] if not name.startswith(may_lack)]
    missing = sorted(map(str, [*absent, *report["mismatched_keys"]]))
    if missing:  # transformers would go on with random values
        hint = f"{len(missing)} missing or of another shape"
        raise ModelError("folder lacks weights of the model", value=missing[0], hint=hint)
    return model  # type: ignore[no-any-return]
