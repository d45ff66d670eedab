"""Tensors that weight files hold in pieces or under other names than the model: transformers' own conversions.

Mixtures of experts are stored expert by expert and stacked when they are read; what names belong together and how
they are put together is asked of transformers, so that every type that it reads is read.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn


@dataclass(frozen=True, slots=True, kw_only=True)
class Pieces:
    """What one tensor of a model is made of.

    Attributes:
        name: of the tensor in the model.
        stored: names in the files, in the order in which they are put together.
        patterns: for each the part of the conversion that it belongs to; empty where it is only renamed.
        conversion: transformers' rule, None where the one piece is only renamed.
        model: the structure, whose configuration the rule may ask for sizes.
    """

    name: str
    stored: tuple[str, ...]
    patterns: tuple[str, ...]
    conversion: Any
    model: nn.Module

    def joined(self, read: Callable[[str], torch.Tensor]) -> torch.Tensor:
        """The tensor, of pieces that `read` gives by their stored names."""
        if self.conversion is None:
            return read(self.stored[0])
        rule, model = copy.deepcopy(self.conversion), self.model
        for pattern, name in zip(self.patterns, self.stored, strict=True):
            rule.add_tensor(self.name, name, pattern, read(name))
        made = rule.convert(self.name, model=model, config=model.config)[self.name]
        tensor: torch.Tensor = made[0] if isinstance(made, list) else made
        return tensor


def pieces_of(model: Any, stored: Collection[str], known: Collection[str]) -> Mapping[str, Pieces]:
    """The tensors of a model that files hold otherwise than under a name of the model's own.

    Args:
        model: of transformers, without weights.
        stored: names in the files.
        known: those of them that need no conversion.

    Returns:
        Name in the model -> its pieces; conversions of one stored tensor into several are left out.
    """
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    of_pattern = {pattern: rule for rule in converters for pattern in rule.source_patterns}
    state = model.state_dict()
    found: dict[str, list[tuple[str, str]]] = {}
    for name in sorted(set(stored) - set(known), key=dot_natural_key):
        target, pattern = rename_source_key(name, renamings, converters, model.base_model_prefix, state)
        if target in state and (pattern is None or len(of_pattern[pattern].target_patterns) == 1):
            found.setdefault(target, []).append((pattern or "", name))
    return {
        target: Pieces(
            name=target,
            stored=tuple(name for _, name in parts),
            patterns=tuple(pattern for pattern, _ in parts),
            conversion=of_pattern.get(parts[0][0]),
            model=model,
        )
        for target, parts in found.items()
        if parts[0][0] or len(parts) == 1
    }
