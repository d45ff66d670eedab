"""Weights of a folder in a transformers model: dense ones, from safetensors, with no code of the folder's own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from costmodel.errors import ModelError
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
