"""Weights of a model as its checkpoint stores them, whatever type it was read in: factors of them are rounded once."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from costmodel.errors import ModelError
from validate.models.headers import StoredTensors
from validate.models.pretrained import Pretrained
from validate.models.weights import SourceWeights, dense_weight


def stored_weights(pretrained: Pretrained) -> Callable[[nn.Module], torch.Tensor]:
    """What gives the weight (out, in) of a linear to factor, as `validate apply` takes it.

    It is the one in memory where that is what is stored, or where only transformers knows the names of the files'
    tensors; else it is read again when it is asked for.

    Args:
        pretrained: the checkpoint, dense.
    """
    try:
        weights = SourceWeights(StoredTensors(pretrained.folder), pretrained.model)
    except ModelError:
        return dense_weight
    names = {id(module): f"{name}.weight" for name, module in pretrained.model.named_modules()}

    def read(module: nn.Module) -> torch.Tensor:
        known = dense_weight(module)
        if id(module) not in names:  # one expert of a stack
            return known
        wide = weights.wide_type(names[id(module)], known.dtype)
        if wide is known.dtype:
            return known
        weight = weights.read(names[id(module)], wide).to(known.device)
        return weight if isinstance(module, nn.Linear) else weight.T

    return read
