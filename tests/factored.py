"""Really factored transformers models of a configuration, and passes over them: the oracle of the cost model."""

from __future__ import annotations

import itertools
from typing import Any

import torch
import transformers
from cases import spec_of
from torch import nn

from costmodel.decomposition.factors import Decomposition, Factor, LowRank
from costmodel.forward.workload import LmHead, Workload
from costmodel.model import ModelSpec
from studies.families.reference import body_name

EAGER = {"attn_implementation": "eager", "experts_implementation": "eager"}
TORCH_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def build(
    config: dict[str, Any],
    decomposition: Decomposition,
    *,
    attention: str = "eager",
    device: str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Any:
    """The model of `config` with random weights, its factored sites chains of linears, its dropped layers gone."""
    model_spec = spec_of(config)
    settings = transformers.CONFIG_MAPPING[config["model_type"]].from_dict(config)
    auto = transformers.AutoModel if model_spec.is_encoder else transformers.AutoModelForCausalLM
    with torch.device(device):
        model = auto.from_config(settings, attn_implementation=attention, dtype=dtype).eval()
    return factor(model, model_spec, decomposition, dtype, device)


def factored_reference(config: dict[str, Any], spec: ModelSpec, decomposition: Decomposition) -> Any:
    """transformers' own class of a configuration on the CPU, random and factored; a text model without a class with an
    LM head is its body."""
    settings = transformers.CONFIG_MAPPING[spec.model_type].from_dict(config)
    causal = spec.generates and type(settings) in transformers.MODEL_FOR_CAUSAL_LM_MAPPING
    if causal:
        model = transformers.AutoModelForCausalLM.from_config(settings, **EAGER).eval().requires_grad_(False)
    else:
        kind = getattr(transformers, body_name(spec))
        model = kind._from_config(settings, **EAGER).eval().requires_grad_(False)
    return factor(model, spec, decomposition, torch.float32, "cpu")


def factor(model: Any, spec: ModelSpec, decomposition: Decomposition, dtype: torch.dtype, device: str) -> Any:
    """The model with its factored sites chains of linears and its dropped layers gone."""
    prefix = spec.layer_prefix
    if prefix.partition(".")[0] not in dict(model.named_children()):
        prefix = prefix.partition(".")[2]  # a body alone
    layers = model.get_submodule(prefix)
    with torch.device(device):
        for (layer, name), chosen in decomposition.factors.items():
            _factor(layers[layer], spec.tensor(name, layer).path, chosen, dtype)
    kept = [layer for layer in range(spec.num_layers) if layer not in decomposition.dropped]
    parent, _, child = prefix.rpartition(".")
    setattr(model.get_submodule(parent), child, nn.ModuleList(layers[layer] for layer in kept))
    if len(kept) == spec.num_layers:
        return model
    model.config.num_hidden_layers = len(kept)
    if types := getattr(model.config, "layer_types", None):
        model.config.layer_types = [types[layer] for layer in kept]
    for place, layer in enumerate(kept):
        for module in layers[layer].modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = place
    return model


def _factor(layer: nn.Module, path: str, factor: Factor, dtype: torch.dtype) -> None:
    dense = layer.get_submodule(path)
    shape = tuple(dense.weight.shape)
    out_features, in_features = shape if isinstance(dense, nn.Linear) else shape[::-1]  # GPT-2's Conv1D is (in, out)
    first, last = factor.ranks
    inner = [first] if isinstance(factor, LowRank) else [first, last]
    widths = [in_features, *inner, out_features]
    stages = [nn.Linear(k, n, bias=False, dtype=dtype) for k, n in itertools.pairwise(widths)]
    stages[-1] = nn.Linear(last, out_features, bias=dense.bias is not None, dtype=dtype)
    parent, _, child = path.rpartition(".")
    setattr(layer.get_submodule(parent), child, nn.Sequential(*stages))


def filled_cache(model: Any, spec: ModelSpec, work: Workload, *, static: bool = False, dtype: Any = None) -> Any:
    """A KV cache that holds the past of `work`; None for an encoder, and for a prompt of a model that keeps a state,
    whose convolutions transformers pads once more where there is a cache."""
    if spec.is_encoder or spec.state_size:
        return None
    device, dtype = model.device, dtype or model.dtype
    past = work.kv_len - work.q_len
    if static:
        cache = transformers.StaticCache(config=model.config, max_cache_len=work.kv_len)
        cache.early_initialization(work.batch, spec.num_kv_heads, spec.head_dim, dtype, device)
    else:
        cache = transformers.DynamicCache(config=model.config)
    for layer in range(model.config.num_hidden_layers if past else 0):
        kind = spec.kind_of(layer)
        if not kind.cache_width:
            continue
        keys, values = (
            torch.zeros((work.batch, kind.num_kv_heads, past, width), dtype=dtype, device=device)
            for width in (kind.head_dim, kind.value_width)
        )
        cache.update(keys, values, layer)
        if kind.indexer is not None:
            cache.layers[layer].update_index(keys.new_zeros(work.batch, 1, past, kind.indexer.width))
    return cache


def tokens_of(work: Workload, device: Any = "cpu") -> Any:
    return torch.zeros((work.batch, work.q_len), dtype=torch.long, device=device)


def run(model: Any, spec: ModelSpec, work: Workload, tokens: Any, *, cache: Any = None) -> Any:
    """One pass; a decoder gets `cache`, or runs without one."""
    with torch.no_grad():
        if spec.is_encoder:
            return model(tokens)
        keep = 1 if work.lm_head is LmHead.LAST else 0
        return model(tokens, past_key_values=cache, use_cache=cache is not None, logits_to_keep=keep)
