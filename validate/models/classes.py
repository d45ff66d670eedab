"""Which class of transformers the weights of a folder belong to: the files decide, where config.json says otherwise.

A BERT pre-training checkpoint names BertForMaskedLM, holds next-sentence prediction too, and stays whole; a decoder for
classification keeps its head; a file with a head of its own is not tied, whatever config.json says.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from costmodel.errors import ModelError
from costmodel.model import ModelSpec
from validate.errors import reason_of
from validate.hf.meta import on_meta
from validate.hf.structure import as_stored, model_classes
from validate.models.headers import StoredTensors
from validate.models.refusing import made_of_config

_HARMLESS = (r"rotary_emb\.inv_freq$", r"(^|\.)position_ids$", r"\.attn\.(masked_)?bias$")
"""Buffers that older versions of transformers stored, and that models compute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelClass:
    """A class, and how the files of one folder change what it makes.

    Attributes:
        kind: transformers' class.
        settings: its configuration.
        own: names of tensors that are stored beside the one that they are tied to, and of a pooler; see `as_stored`.
        computed: stored names of buffers that the model computes.
        left_out: other stored names that no tensor of the model has.
    """

    kind: Any
    settings: Any
    own: frozenset[str]
    computed: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def is_body(self) -> bool:
        """Whether the class has no head."""
        return bool(self.kind.__name__.endswith("Model")) and not self.kind.__name__.endswith("LMHeadModel")

    def build(self, **options: Any) -> nn.Module:
        """The structure, on torch's default device.

        Raises:
            ModelError: when transformers makes none of the settings.
        """
        with made_of_config(self.kind.__name__):
            model: nn.Module = self.kind._from_config(self.settings, **options)
            as_stored(model, self.own)
        return model

    def require_whole(self) -> None:
        """Make sure that nothing in the files is left out.

        Raises:
            ModelError: naming the first tensor that the model has no place for.
        """
        if self.left_out:
            raise LeftOutError(self.left_out, self.kind.__name__)

    def names(self) -> frozenset[str]:
        """Of all tensors of the model."""
        with on_meta():
            return frozenset(self.build().state_dict())


def whole_class(spec: ModelSpec, config: Mapping[str, Any], stored: StoredTensors) -> ModelClass:
    """The class that has a place for everything in the files.

    The first of `architectures` is tried first, and is it where the files lack a part of it; then those with more of a
    language model, of which shapes decide between classes of the same names. Where none fits, it is the one that lacks
    least, then the one that leaves least out.

    Raises:
        ModelError: when transformers makes no model of config.json.
    """
    settings, classes, named = _classes(spec, config)
    fits: list[tuple[tuple[int, ...], ModelClass]] = []
    for kind in classes:
        try:
            found, rank = _fit(kind, settings, stored)
        except (ModelError, MemoryError):
            raise
        except Exception as error:  # of many kinds, for any field
            hint = reason_of(error)
            raise ModelError(f"config.json gives no {kind.__name__} of transformers", hint=hint) from error
        lacks_head = kind is named and rank[0] and not found.is_body
        if not any(rank) or lacks_head:
            return found
        fits.append((rank, found))
    return min(fits, key=lambda fit: fit[0])[1]


def measured_class(whole: ModelClass) -> ModelClass:
    """The class whose predictions are measured: of a pre-training checkpoint its masked LM, which gives `logits`."""
    name = whole.kind.__name__
    masked = model_classes(type(whole.settings)).get(name.replace("ForPreTraining", "ForMaskedLM"))
    if not name.endswith("ForPreTraining") or masked is None:
        return whole
    return replace(whole, kind=masked)


class LeftOutError(ModelError):
    """Stored tensors that a class has no place for: they would be lost in silence."""

    def __init__(self, names: Sequence[str], kind: str) -> None:
        count = len(names)
        super().__init__(
            "a tensor in the weights has no place in the model",
            value=names[0],
            allowed=f"those of {kind}",
            hint=f"{count} such tensor{'s' if count > 1 else ''}: remove them from the file, or name their class in "
            "architectures",
        )


def layers_path(model: Any, spec: ModelSpec) -> str:
    """Module path of the list of layers in a model of transformers, with a head or without one."""
    prefix, path = f"{model.base_model_prefix}.", spec.layer_prefix
    if model.base_model is model:
        return path.removeprefix(prefix)
    return path if path.startswith(prefix) else f"{prefix}{path}"


def tensors_of(model: nn.Module) -> Iterator[tuple[list[str], torch.Tensor]]:
    """Every tensor of the state dict once, with all its names."""
    names: dict[int, list[str]] = {}
    tensors: dict[int, torch.Tensor] = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
        tensors[id(tensor)] = tensor
    for key, tensor in tensors.items():
        yield names[key], tensor


def _classes(spec: ModelSpec, config: Mapping[str, Any]) -> tuple[Any, list[Any], Any]:
    """The configuration as transformers has it, its classes, and the one of them that config.json names, the first."""
    import transformers

    known: Any = transformers.CONFIG_MAPPING
    try:
        settings = known[spec.model_type].from_dict(dict(config))
    except Exception as error:  # of many kinds, for any field
        raise ModelError("transformers does not take config.json", hint=reason_of(error)) from error
    classes = model_classes(type(settings))
    if spec.is_encoder:  # as a decoder it would have a masked LM's names
        causal: Any = transformers.AutoModelForCausalLM._model_mapping
        as_decoder = causal.get(type(settings), None)
        classes = {name: each for name, each in classes.items() if each is not as_decoder}
    given = config.get("architectures")
    first = str(given[0]) if isinstance(given, list) and given else ""
    named = classes.get(first)
    return settings, [*([named] if named else []), *(each for each in classes.values() if each is not named)], named


def _fit(kind: Any, settings: Any, stored: StoredTensors) -> tuple[ModelClass, tuple[int, ...]]:
    """The class, and how badly it fits: tensors that it lacks, leaves out, and has in another shape."""
    with made_of_config(kind.__name__), on_meta():
        model: Any = kind._from_config(settings)
    stored = stored.assembled(model)
    find = _finder(stored, str(model.base_model_prefix))
    own: set[str] = set()
    for target, source in model.all_tied_weights_keys.items():
        one, other = find([target]), find([source])
        if one is not None and other is not None and not stored.same(one, other):
            own |= {target, source}
    pooler = f"{model.base_model_prefix}.pooler."
    if getattr(model.base_model, "pooler", model) is None:
        own |= {name for name in (f"{pooler}dense.weight", f"{pooler}dense.bias") if find([name]) is not None}
    if own:
        with on_meta():
            as_stored(model, own)
    lacks, reshaped, taken = 0, 0, set()
    for names, tensor in tensors_of(model):
        found = [name for name in (find([each]) for each in names) if name is not None]
        taken |= set(found)
        lacks += not found
        reshaped += bool(found) and stored.entries[found[0]].shape != tuple(tensor.shape)
    harmless = [*_HARMLESS, *(getattr(model, "_keys_to_ignore_on_load_unexpected", None) or ())]
    rest = sorted(set(stored.entries) - taken)
    computed = tuple(name for name in rest if any(re.search(each, name) for each in harmless))
    left = tuple(name for name in rest if name not in computed)
    made = ModelClass(kind=kind, settings=settings, own=frozenset(own), computed=computed, left_out=left)
    return made, (lacks, len(left), reshaped)


def _finder(stored: StoredTensors, prefix: str) -> Callable[[Sequence[str]], str | None]:
    return lambda names: stored.find(names, prefix)
