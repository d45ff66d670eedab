"""What the tests of spaces and explorations share: models, quality files, and brute force that shares no code path."""

from __future__ import annotations

import dataclasses
import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from costmodel.decomposition.factors import Site
from costmodel.explore.answer import Question
from costmodel.explore.objectives import Priced, parse_limit, parse_objectives
from costmodel.explore.quality import load_quality
from costmodel.explore.tables import CostTables
from costmodel.families.load import load_model
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import HardwareProfile, load_hardware
from costmodel.model import ModelSpec
from costmodel.pricing.configurations import Configurations
from costmodel.pricing.costs import PassCosts
from costmodel.pricing.estimate import pricer
from costmodel.pricing.pricer import PhasePricer
from costmodel.pricing.request import decode_steps
from costmodel.space.base import DesignSpace

A100 = load_hardware("a100-sxm-80gb")


def small_model(folder: Path, layers: int = 6) -> ModelSpec:
    """A model of small size with grouped queries, biases and two sliding windows."""
    config = {
        "model_type": "qwen2",
        "architectures": ["Qwen2ForCausalLM"],
        "hidden_size": 256,
        "intermediate_size": 320,
        "num_hidden_layers": layers,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 64,
        "max_position_embeddings": 4096,
        "use_sliding_window": True,
        "sliding_window": 64,
        "layer_types": ["full_attention", "sliding_attention"] * (layers // 2),
        "tie_word_embeddings": True,
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return load_model(path)


def all_but(model: ModelSpec, layers: Sequence[int], tensors: Sequence[str]) -> list[Site]:
    """Every site except those of some layers and tensors: what to keep dense."""
    return [
        Site(layer, t.name)
        for layer in range(model.num_layers)
        for t in model.tensors
        if layer not in layers or t.name not in tensors
    ]


def quality_data(space: DesignSpace, seed: int, states: int = 1) -> dict[str, Any]:
    """A random quality file for a space, with interactions of neighbouring layers where there are several states."""
    rng = random.Random(seed)
    entries = []
    for layer, column in np.argwhere(space.free).tolist():
        tensor = space.model.tensors[column]
        scale, limit = rng.lognormvariate(0, 1), min(tensor.out_features, tensor.in_features)
        for rank in dict.fromkeys(space.ranks[column]):
            loss = max(0.0, 1 - rank / limit) ** 2
            entries.append(
                {
                    "site": f"layers.{layer}.{tensor.name}",
                    "form": space.form,
                    "rank": rank,
                    "value": scale * loss * (1 + 0.1 * rng.random()),
                    "state": min(states - 1, int(states * loss)),
                }
            )
    links = [
        {"layer": layer, "state": a, "next_state": b, "value": rng.uniform(-0.3, 0.5) * (a + b)}
        for layer in range(space.model.num_layers - 1)
        for a in range(states)
        for b in range(states)
        if states > 1 and rng.random() < 0.7
    ]
    return {
        "schema": 1,
        "model": space.model.name,
        "metric": "made up",
        "entries": entries,
        "layer_interactions": links,
    }


def question_of(
    space: DesignSpace,
    workloads: Sequence[Workload],
    objectives: Sequence[str],
    limits: Sequence[str] = (),
    top: int = 10,
    quality: str | None = None,
    new_tokens: int | None = None,
    hardware: HardwareProfile = A100,
) -> Question:
    """A question as `explore` puts it."""
    pricers = [pricer(space.model, hardware, work) for work in workloads]
    steps = decode_steps(pricers[0], new_tokens) if new_tokens else None
    tables = CostTables(space, pricers, steps, load_quality(quality, space) if quality else None)
    priced = Priced(phases=tuple(w.phase.value for w in workloads), request=bool(steps), quality=bool(quality))
    return Question(
        space=space,
        tables=tables,
        objectives=tuple(parse_objectives(objectives, priced)),
        limits=tuple(limit for text in limits for limit in parse_limit(text, priced)),
        top=top,
    )


def independent_costs(priced: PhasePricer, space: DesignSpace, numbers: Sequence[int]) -> PassCosts:
    """Costs of configurations by number, from the estimate's own pricing of whole arrays of ranks."""
    return priced.costs(Configurations.stack([Configurations.of(space.model, space.config(n)) for n in numbers]))


def narrow_model(folder: Path) -> ModelSpec:
    """A GPT-2 whose MLP is narrower than the hidden size: high ranks raise its peak of live activations."""
    config = {
        "model_type": "gpt2",
        "architectures": ["GPT2LMHeadModel"],
        "n_embd": 64,
        "n_inner": 8,
        "n_layer": 4,
        "n_head": 4,
        "n_positions": 512,
        "vocab_size": 16,
        "activation_function": "relu",
    }
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return load_model(path)


def with_live_peaks(question: Question, seed: int, by_layer: bool) -> Question:
    """The question with made-up live bytes that differ by tensor, rank and, with `by_layer`, by layer as no model's."""
    rng = np.random.default_rng(seed)
    tables = question.tables
    for name, table in tables.phases.items():
        kind = rng.integers(0, 3 if by_layer else 1, len(table.excess))
        levels = rng.integers(0, 4, (3, *table.excess.shape[1:])) * rng.integers(0, 10**9)
        levels[:, :, 0] = 0
        tables.phases[name] = tables.parts[name] = dataclasses.replace(table, excess=levels[kind])
    return question


def workloads(model: ModelSpec, seed: int = 0, **options: Any) -> list[Workload]:
    """A prefill and, for a decoder, a decode step, small enough that different bounds hold."""
    rng = random.Random(seed)
    options = {"batch": rng.choice([1, 4, 32]), **options}
    found = [Workload.prefill(rng.choice([8, 128, 300]), **options)]
    return found if model.is_encoder else [*found, Workload.decode(rng.choice([9, 200]), **options)]
