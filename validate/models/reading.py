"""Weights of a folder in a transformers model: dense ones, from safetensors, with no code of the folder's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from costmodel.errors import ModelError
from costmodel.families.fields import Fields
from costmodel.families.quantised import FACTORED, marks, method_of
from costmodel.model import ModelSpec
from validate.errors import reason_of
from validate.hf.check import is_factored
from validate.hf.errors import FactoredCheckpointError
from validate.models.classes import LeftOutError
from validate.models.headers import StoredTensors
from validate.models.weights import ShapeError, is_finite, require_finite, require_weight


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
    marked = marks(Fields(config, name=spec.name, source="config.json"))
    if marked is not None and method_of(*marked) != FACTORED:
        hint = "give the original checkpoint"
        raise ModelError("a quantised checkpoint, where a plain one is needed", value=marked[1].data, hint=hint)
    if spec.inside:
        hint = "its configuration can be priced, its weights not read"
        raise ModelError("the weights of a language model inside a larger one", value=spec.inside, hint=hint)


def read_factored(kind: Any, folder: Path, *, dtype: torch.dtype) -> nn.Module:
    """The model that a class of transformers makes of a factored folder, with fused attention.

    Raises:
        ModelError: when the folder is not as `validate apply` writes them.
    """
    try:
        return kind.from_pretrained(  # type: ignore[no-any-return]
            str(folder),
            dtype=dtype,
            local_files_only=True,
            trust_remote_code=False,
        )
    except FactoredCheckpointError as error:
        raise ModelError("factored checkpoint", value=str(folder), hint=str(error)) from error


def read_model(
    kind: Any,
    folder: Path,
    *,
    dtype: torch.dtype,
    config: Any = None,
    may_lack: tuple[str, ...] = (),
    may_leave: Callable[[str], bool] = lambda name: False,
) -> nn.Module:
    """The model that a class of transformers makes of a folder, with fused attention.

    Args:
        kind: the class, such as AutoModelForCausalLM.
        config: in place of the folder's own configuration.
        may_lack: beginnings of the names of weights that may be missing, and are random then.
        may_leave: whether the class need not have a stored weight of this name.

    Raises:
        ModelError: when the checkpoint is factored, damaged, lacks weights of the model or has others, or is at odds
            with its configuration.
        MeasurementError: when a weight is not finite, or not in this type.
        MemoryError: when it does not fit.
    """
    require_dense(folder)
    stored = StoredTensors(folder)
    for name, entry in stored.entries.items():
        if entry.kind.startswith("C"):  # complex: transformers would drop the imaginary part
            require_weight(entry, name)
    try:
        model, report = kind.from_pretrained(
            str(folder),
            dtype=dtype,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **({} if config is None else {"config": config}),
        )
    except MemoryError:
        raise
    except Exception as error:  # transformers raises many kinds for a damaged folder
        raise ModelError("cannot read weights", value=str(folder), hint=reason_of(error)) from error
    for name, shape, wanted in sorted(report["mismatched_keys"]):
        where = stored.find([name], str(model.base_model_prefix))
        file = stored.entries[where].path.name if where else folder.name
        raise ShapeError(f"{file}: {where or name}", shape, wanted)
    missing = sorted(str(name) for name in report["missing_keys"] if not name.startswith(may_lack))
    if missing:  # transformers would go on with random values
        raise ModelError("folder lacks weights of the model", value=missing[0], hint=f"{len(missing)} missing")
    if left := sorted(name for name in map(str, report["unexpected_keys"]) if not may_leave(name)):
        raise LeftOutError(left, type(model).__name__)
    whole = stored.assembled(model)
    for name, tensor in model.state_dict().items():
        place = whole.find([name], str(model.base_model_prefix)) if tensor.is_floating_point() else None
        if place is not None:
            require_weight(whole.entries[place], place)
        if not is_finite(tensor, tensor.dtype):
            found = stored.find([name], str(model.base_model_prefix))
            require_finite(tensor if found is None else stored.read(found), name, dtype)
    return model  # type: ignore[no-any-return]
