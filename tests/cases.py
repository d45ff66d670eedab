"""Small random models, decompositions and workloads; the same generator serves seeded sets and hypothesis."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest

from costmodel.decomposition.factors import Decomposition, Factor, LowRank, Site, Tucker, break_even_rank
from costmodel.families.registry import spec_from_config
from costmodel.forward.workload import Attention, LmHead, Workload
from costmodel.model import ModelSpec


def few_or_all(few: Sequence[Any], more: Sequence[Any]) -> list[Any]:
    """Parameters of which `make test` runs the first few and `make test-slow` the rest."""
    return [*few, *(pytest.param(value, marks=pytest.mark.slow) for value in more)]


MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "bert", "roberta", "gpt2", "opt")


def spec_of(config: dict[str, Any]) -> ModelSpec:
    return spec_from_config(config, name=config["model_type"], source="test")


def random_config(rng: random.Random, model_type: str, *, layers: int | None = None) -> dict[str, Any]:
    """A tiny model with, over the draws, every feature of its family that changes shapes or counts."""
    kv_heads, head_dim = rng.choice([1, 2, 3]), rng.choice([4, 6, 8])
    heads = kv_heads * rng.choice([1, 2, 4])
    layers = layers or rng.randint(1, 4)
    hidden, inner, vocab = heads * head_dim, rng.randint(5, 60), rng.randint(7, 50)
    config: dict[str, Any] = {"model_type": model_type, "vocab_size": vocab, "bos_token_id": 0, "eos_token_id": 0}
    if model_type == "gpt2":
        return config | {
            "n_embd": hidden,
            "n_layer": layers,
            "n_head": heads,
            "n_positions": 64,
            "n_inner": rng.choice([None, inner]),
            "tie_word_embeddings": rng.random() < 0.7,
            "activation_function": rng.choice(["gelu_new", "gelu", "relu"]),
        }
    config |= {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "max_position_embeddings": 64,
        "pad_token_id": 1,
    }
    if model_type == "opt":
        return config | {
            "ffn_dim": inner,
            "word_embed_proj_dim": rng.choice([hidden, hidden, 10]),
            "do_layer_norm_before": rng.random() < 0.6,
            "enable_bias": rng.random() < 0.8,
            "layer_norm_elementwise_affine": rng.random() < 0.8,
            "tie_word_embeddings": rng.random() < 0.7,
        }
    config["intermediate_size"] = inner
    if model_type in ("bert", "roberta"):
        return config | {"type_vocab_size": rng.randint(1, 3), "hidden_act": rng.choice(["gelu", "gelu_new"])}
    config |= {"num_key_value_heads": kv_heads, "tie_word_embeddings": rng.random() < 0.4}
    if model_type == "qwen3" or rng.random() < 0.4:
        config["head_dim"] = rng.choice([4, 6, 10])
    if model_type in ("llama", "qwen3"):
        config["attention_bias"] = rng.random() < 0.4
    if model_type == "llama":
        config["mlp_bias"] = rng.random() < 0.4
    if model_type == "mistral":
        config["sliding_window"] = rng.choice([None, 4, 9])
    if model_type in ("qwen2", "qwen3") and rng.random() < 0.6:
        kinds = rng.choices(["full_attention", "sliding_attention"], k=layers)
        config |= {"use_sliding_window": True, "sliding_window": rng.choice([3, 8]), "layer_types": kinds}
    return config


def random_factor(rng: random.Random, out_features: int, in_features: int) -> Factor:
    """Rank 1, break-even, one above it, the highest, or anything between; Tucker ranks differ more often than not."""
    form, limit = rng.choice(["svd", "tucker"]), min(out_features, in_features)
    even = break_even_rank(out_features, in_features, form)  # type: ignore[arg-type]
    ranks = [min(limit, max(1, rng.choice([1, even, even + 1, limit, rng.randint(1, limit)]))) for _ in range(2)]
    return LowRank(ranks[0]) if form == "svd" else Tucker(ranks[0], ranks[1])


def random_decomposition(rng: random.Random, model: ModelSpec) -> Decomposition:
    """Dense, or each site factored with one probability and each layer dropped with another; one layer stays.

    Stacks of experts stay dense: transformers holds them in one tensor, which no linear can take the place of."""
    share, drop = rng.choice([0.0, 0.4, 1.0]), rng.choice([0.0, 0.0, 0.4])
    drop = 0.0 if model.layer_kinds or model.state_size else drop  # what a layer is comes from its place
    dropped = {layer for layer in range(model.num_layers) if rng.random() < drop}
    if len(dropped) == model.num_layers:
        dropped.pop()
    factors = {
        Site(layer, tensor.name): random_factor(rng, tensor.out_features, tensor.in_features)
        for layer in range(model.num_layers)
        for tensor in model.kind_of(layer).tensors
        if layer not in dropped and rng.random() < share and not tensor.experts
    }
    return Decomposition(factors, frozenset(dropped))


def random_workload(rng: random.Random, model: ModelSpec) -> Workload:
    options = {
        "batch": rng.choice([1, 2, 3]),
        "attention": rng.choice(list(Attention)),
        "lm_head": rng.choice(list(LmHead)),
    }
    if model.is_encoder or rng.random() < 0.5:
        return Workload.prefill(rng.randint(1, 20), **options)
    return Workload.decode(rng.randint(1, 20), **options)
