"""The structure that a factored folder describes, put into a transformers model without weights."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast

import torch
from torch import nn
from transformers.pytorch_utils import Conv1D

from validate.hf.config import LowRankConfig
from validate.hf.errors import FactoredCheckpointError, one_line, refuse
from validate.hf.experts import FactoredExperts, StackLayout, expert_linear
from validate.hf.layers import without_layers
from validate.hf.modules import FactoredLinear, Int8Linear
from validate.hf.names import DTYPES, GENERATION, MANIFEST

_HEADS = ("AutoModelForCausalLM", "AutoModelForMaskedLM")
"""A model that has one of these heads in transformers is a language model."""
CLASSES = (
    "AutoModelForCausalLM",
    "AutoModelForPreTraining",
    "AutoModelForMaskedLM",
    "AutoModelForNextSentencePrediction",
    "AutoModelForSequenceClassification",
    "AutoModelForTokenClassification",
    "AutoModelForQuestionAnswering",
    "AutoModelForMultipleChoice",
    "AutoModel",
)
"""transformers' kinds of models whose weights may be factored, those with more of a language model first."""


def build_factored(manifest: dict[str, Any], config: dict[str, Any], stored: Collection[str]) -> nn.Module:
    """The structure that a manifest and a config.json describe, on torch's default device.

    Args:
        stored: names of the tensors in the weight files; see `as_stored`.

    Raises:
        FactoredCheckpointError: when there is no such model, or a site or rank is not possible in it.
    """
    name, settings_of = manifest["architecture"], settings_class(config)
    classes = model_classes(settings_of)
    if name not in classes:
        refuse(f"{MANIFEST}: architecture", name, ", ".join(classes))
    kind, dtype = classes[name], DTYPES[manifest["dtype"]][0]
    fields = {key: value for key, value in config.items() if key != "quantization_config"}
    try:
        model: Any = kind._from_config(settings_of.from_dict(fields), dtype=dtype)
        as_stored(model, stored)
        len(model.get_submodule(manifest["layers"]))
    except Exception as error:  # any kind, for any field of the configuration
        refuse(f"{CONFIG_GIVES_NO} {kind.__name__} with {manifest['layers']}: {one_line(error)}")
    install(model, LowRankConfig.of_manifest(manifest), manifest["layers"])
    return cast(nn.Module, model)


CONFIG_GIVES_NO = "config.json does not give a"


def as_stored(model: Any, stored: Collection[str]) -> None:
    """Make a model of transformers what its weight files hold, which decide where config.json says otherwise.

    Tied tensors of which the files hold both become two, and an encoder's pooler is there if they hold one.

    Args:
        stored: names of tensors as the model has them; a tied one only where its values are its own.
    """
    for target, source in list(model.all_tied_weights_keys.items()):
        if target in stored and source in stored:
            del model.all_tied_weights_keys[target]
            path, _, name = target.rpartition(".")
            owner = model.get_submodule(path)
            setattr(owner, name, nn.Parameter(torch.empty_like(getattr(owner, name)), requires_grad=False))
    body, prefix = model.base_model, f"{model.base_model_prefix}.pooler."
    if getattr(body, "pooler", body) is None and any(name.startswith(prefix) for name in stored):
        settings = copy.deepcopy(model.config)
        settings.num_hidden_layers = 1
        body.pooler = type(body)(settings).pooler.to(model.dtype)


def install(model: nn.Module, config: LowRankConfig, layers: str) -> None:
    """Put empty factors and int8 weights in the places of dense linears, and leave layers out.

    Args:
        model: dense, of any class that has the layers.
        layers: where they are in it.

    Raises:
        FactoredCheckpointError: when a site or rank is not possible in it.
    """
    stack: Any = model.get_submodule(layers)
    if len(set(config.drop)) < len(config.drop) or not set(config.drop) <= set(range(len(stack))):
        refuse(f"{MANIFEST}: drop", config.drop, f"different layers from 0 to {len(stack) - 1}")
    experts: dict[str, dict[tuple[str, int | None], tuple[str, Sequence[int]]]] = {}
    for layer, module, form, rank in config.sites():
        path = f"{layers}.{layer}.{module}"
        dense, of_experts = _linear(model, path), _expert_stack(model, path)
        if (dense is None and of_experts is None) or layer in config.drop:
            refuse(f"{MANIFEST}: site", path, "different linear layers of the model, none of them dropped")
        if of_experts is not None:
            experts.setdefault(of_experts[0], {})[of_experts[1:]] = form, rank
            continue
        stages = _empty_stages(path, dense, form, rank)
        factored = FactoredLinear(stages, dense.bias, transposed=isinstance(dense, Conv1D))
        _put(model, path, factored.train(dense.training))
    for path, entries in experts.items():
        _put(model, path, _empty_experts(model.get_submodule(path), path, entries))
    for module in config.int8:
        if not sum(_quantise(model, f"{layers}.{layer}.{module}") for layer in range(len(stack))):
            refuse(f"{MANIFEST}: int8", module, "linear layers of the model, each once")
    for owner, name, value in without_layers(model, layers, config.drop) if config.drop else ():
        setattr(owner, name, value)


def _empty_stages(path: str, dense: Any, form: str, rank: Sequence[int]) -> list[torch.Tensor]:
    """Factors of a linear without values."""
    (n, k), (first, last) = _shape(dense), rank
    if not (1 <= first <= min(n, k) and 1 <= last <= min(n, k)) or (form == "svd" and first != last):
        refuse(f"{MANIFEST}: rank of {path}", [first, last], f"1 to {min(n, k)}, twice the same with svd")
    shapes = [(first, k), (last, first), (n, last)] if form == "tucker" else [(first, k), (n, last)]
    return [torch.empty(shape, dtype=dense.weight.dtype, device="meta") for shape in shapes]


def _expert_stack(model: nn.Module, path: str) -> tuple[str, str, int | None] | None:
    """Where a path of experts leads: their module, the linear, and the one expert that it names, `mlp.experts.up_proj`
    or `mlp.experts.3.up_proj`; None for any other path."""
    before, _, linear = path.rpartition(".")
    parent, _, last = before.rpartition(".")
    number = int(last) if last.isascii() and last.isdecimal() and len(last) < 9 else None
    place = before if number is None else parent
    with contextlib.suppress(AttributeError, FactoredCheckpointError):
        experts: Any = model.get_submodule(place)
        if linear in StackLayout.of(experts).linears and (number is None or number < experts.num_experts):
            return place, linear, number
    return None


def _empty_experts(
    dense: Any, path: str, entries: Mapping[tuple[str, int | None], tuple[str, Sequence[int]]]
) -> FactoredExperts:
    """Experts with factors without values; what is said of one expert wins over what is said of all."""
    stages: dict[tuple[str, int], list[torch.Tensor]] = {}
    for (linear, own), (form, rank) in sorted(entries.items(), key=lambda entry: entry[0][1] is not None):
        for number in range(dense.num_experts) if own is None else (own,):
            name = f"{path}.{number}.{linear}"
            stages[linear, number] = _empty_stages(name, expert_linear(dense, linear, number), form, rank)
    return FactoredExperts(dense, stages).train(dense.training)


def _quantise(model: nn.Module, path: str) -> int:
    """Make a linear, each factor of one, or those of every expert an Int8Linear without values; how many were made."""
    if stack := _expert_stack(model, path):
        _put(model, stack[0], _empty_experts(model.get_submodule(stack[0]), stack[0], {}))
    inner = [path, *_inner(model, path)]
    inner = [name for name in inner if _linear(model, name) is not None]
    for name in inner:
        dense: Any = model.get_submodule(name)
        weight = torch.empty(_shape(dense), dtype=torch.int8, device="meta")
        scale = torch.empty(weight.shape[0], dtype=dense.weight.dtype, device="meta")
        _put(model, name, Int8Linear(weight, scale, dense.bias, transposed=isinstance(dense, Conv1D)))
    return len(inner)


def _inner(model: nn.Module, path: str) -> list[str]:
    """Where the factors of a linear are, or the linears of every expert and their factors."""
    try:
        place = model.get_submodule(path)
    except AttributeError:
        return []
    if not isinstance(place, FactoredLinear | nn.ModuleList):
        return []
    return [f"{path}.{name}" for name, _ in place.named_modules() if name]


def _is_linear(module: Any) -> bool:
    return isinstance(module, nn.Linear | Conv1D)


def _linear(model: nn.Module, path: str) -> Any:
    """The linear at a path, None where there is none."""
    try:
        found = model.get_submodule(path)
    except AttributeError:
        return None
    return found if _is_linear(found) else None


def _shape(dense: Any) -> tuple[int, int]:
    """(out, in) of a linear's weight."""
    first, second = dense.weight.shape
    return (first, second) if isinstance(dense, nn.Linear) else (second, first)


def _put(model: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, child = path.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def settings_class(config: Mapping[str, Any]) -> Any:
    """transformers' configuration class of a language model.

    Raises:
        FactoredCheckpointError: when `model_type` is none, or one whose configuration may hold whole models.
    """
    import transformers

    model_type = config.get("model_type")
    known: Any = transformers.CONFIG_MAPPING
    kind: Any = known[model_type] if isinstance(model_type, str) and model_type in known else None
    heads = [getattr(transformers, auto)._model_mapping for auto in _HEADS]
    if kind is None or kind.sub_configs or not any(kind in mapping for mapping in heads):
        refuse("config.json: model_type", model_type, "a language model of transformers that holds no other models")
    return kind


def model_classes(kind: Any) -> dict[str, Any]:
    """The classes that transformers has for a configuration class, without a head and with one, by their names."""
    import transformers

    mappings = [getattr(transformers, auto)._model_mapping for auto in CLASSES]
    entries = [mapping[kind] for mapping in mappings if kind in mapping]
    return {each.__name__: each for entry in entries for each in (entry if isinstance(entry, tuple) else (entry,))}


def generation_config(model: Any, settings: Any) -> Any:
    """What generation_config.json says, as transformers wants it for a model that can generate.

    Raises:
        FactoredCheckpointError: when it is not possible.
    """
    try:
        return type(model.generation_config).from_dict(settings)
    except Exception as error:  # any kind, for any field
        refuse(f"{GENERATION}: {one_line(error)}")


def tensor_places(model: nn.Module) -> dict[str, list[tuple[dict[str, Any], str]]]:
    """The tensors that a checkpoint of `model` holds, tied ones once: name -> where they are, as (dictionary, key)."""
    names: dict[int, str] = {}
    places: dict[str, list[tuple[dict[str, Any], str]]] = {}
    for prefix, module in model.named_modules():
        saved = {key: each for key, each in module._buffers.items() if key not in module._non_persistent_buffers_set}
        for owner, tensors in ((module._parameters, module._parameters), (module._buffers, saved)):
            for key, tensor in tensors.items():
                if tensor is not None:
                    name = names.setdefault(id(tensor), f"{prefix}.{key}" if prefix else key)
                    places.setdefault(name, []).append((cast(Any, owner), key))
    return places
