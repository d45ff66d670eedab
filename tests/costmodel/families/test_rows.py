"""Every model_type of every row at small sizes: parameters of transformers' class, and the FLOPs torch counts in it."""

from __future__ import annotations

import dataclasses
import json
import random
from typing import Any

import pytest

from costmodel.decomposition.factors import Decomposition
from costmodel.families.registry import FAMILIES, defaults, spec_from_config
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import Attention, LmHead, Workload

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from cases import random_decomposition  # noqa: E402
from factored import factored_reference, filled_cache, run, tokens_of  # noqa: E402
from family_configs import CHOICES, small  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

from studies.families.reference import reference_model, reference_params  # noqa: E402

OLD = ("llama", "mistral", "qwen2", "qwen3", "bert", "roberta", "gpt2", "gpt-sw3", "opt")
"""Types that tests of their own hold against transformers in more ways."""
MIXED = ("moe", "phimoe", "deepseek", "deepseek-v4", "qwen-hybrid")
"""Rows with experts or a state, whose passes are counted on real values in test_moe."""
TYPES = sorted(
    name
    for name, row in FAMILIES.items()
    if name in transformers.CONFIG_MAPPING and name not in (*OLD, "dpr") and row.name not in MIXED
)


def cases() -> list[tuple[str, dict[str, Any]]]:
    return [(name, change) for name in TYPES for change in ({}, CHOICES.get(name)) if change is not None]


IDS = [name + ("" if not change else "-" + "-".join(change)) for name, change in cases()]


@pytest.mark.parametrize(("model_type", "change"), cases(), ids=IDS)
def test_parameters_and_paths_are_those_of_transformers(model_type: str, change: dict[str, Any]) -> None:
    config = small(model_type, **change)
    spec = spec_from_config(config, name=model_type, source=json.dumps(config))
    real = reference_model(config, spec)
    head = real.get_output_embeddings() if spec.head.kind == "causal_lm" else real
    count = sum(parameter.numel() for parameter in real.parameters())
    lacking = spec.vocab_size * spec.embed_dim if head is None and not spec.tie_embeddings else 0
    assert spec.num_params == count + lacking
    path = spec.layer_prefix if head is not None else spec.layer_prefix.removeprefix("model.")
    for index, layer in enumerate(real.get_submodule(path)):
        kind = spec.kind_of(index)
        assert len({tensor.name for tensor in kind.tensors}) == len(kind.tensors)
        assert sum(parameter.numel() for parameter in layer.parameters()) >= kind.params_per_layer
        for tensor in kind.tensors:
            if tensor.experts:  # of several dimensions, gate and up in one
                continue
            module = layer.get_submodule(tensor.path)
            stored = tuple(module.weight.shape)[:: -1 if type(module).__name__ == "Conv1D" else 1]
            assert stored == (tensor.out_features, tensor.in_features)
            assert (module.bias is not None) == tensor.bias


def flops_equal(model_type: str, change: dict[str, Any], seed: int) -> None:
    if model_type == "dbrx":
        pytest.skip("its experts run with gradients alone in this transformers")
    rng = random.Random(f"{model_type} {sorted(change)} {seed}")
    config = small(model_type, **change)
    spec = spec_from_config(config, name=model_type, source=json.dumps(config))
    decomposition = Decomposition() if seed == 0 else random_decomposition(rng, spec)
    batch, length = rng.choice([1, 2]), rng.randint(2, 12)
    options = {"batch": batch, "attention": Attention.UNFUSED, "lm_head": rng.choice(list(LmHead))}
    if model_type.startswith("gemma4"):  # leaves positions without logits out of layers that share a cache
        options["lm_head"] = LmHead.ALL
    if model_type == "ibert":  # its linears take and give scales, which no factors do
        decomposition = Decomposition()
    if model_type == "gpt_neo":  # a layer that is left out would take its kind of attention from the list
        decomposition = Decomposition(decomposition.factors)
    copies = model_type == "falcon" and spec.num_kv_heads not in (1, spec.num_heads)  # its cache holds every head's
    copies |= model_type == "openai-gpt"  # keeps no cache
    decode = spec.generates and seed % 2 and not copies and not spec.state_size  # a step's FLOPs are a kernel's
    work = Workload.decode(length, **options) if decode else Workload.prefill(length, **options)
    real = factored_reference(config, spec, decomposition)
    cache, tokens = filled_cache(real, spec, work), tokens_of(work)
    with FlopCounterMode(display=False) as counter:
        run(real, spec, work, tokens, cache=cache)
    tables = sum(sum(each.values()) for name, each in counter.get_flop_counts().items() if "rotary_emb" in name)
    head = 0 if real.get_output_embeddings() is not None or not spec.generates else work.tokens
    if head:
        work = dataclasses.replace(work, lm_head=LmHead.ALL)
    counted = counter.get_total_flops() - tables + 2 * head * spec.vocab_size * spec.embed_dim
    assert sum(op.cost.flops for op in forward_ops(spec, decomposition, work)) == counted, (config, decomposition, work)


QUICK = ("albert", "eurobert", "layoutlm", "rembert", "roformer")
HEADS = [
    pytest.param(name, end, marks=() if name in QUICK else pytest.mark.slow)
    for name in TYPES
    for end in FAMILIES[name].heads
    if hasattr(transformers, FAMILIES[name].classes[name] + end)
]


@pytest.mark.parametrize(("model_type", "end"), HEADS)
def test_every_head_has_the_parameters_of_its_class(model_type: str, end: str) -> None:
    config = small(model_type, architectures=[FAMILIES[model_type].classes[model_type] + end])
    spec = spec_from_config(config, name=model_type, source=json.dumps(config))
    if end == "Model" and model_type.endswith("_text"):
        pytest.skip("the class of that name is around the language model")
    assert spec.num_params == reference_params(config, spec)
    names = {str(label): f"L{label}" for label in range(3)}
    for change in ({"tie_word_embeddings": False}, {"id2label": names}, {"id2label": names, "num_labels": 1}):
        if "id2label" in change and (model_type, end) == ("distilbert", "ForQuestionAnswering"):
            continue  # its class takes two labels, a beginning and an end, and no others
        changed = {**config, **change}
        spec = spec_from_config(changed, name=model_type, source=json.dumps(changed))
        assert spec.num_params == reference_params(changed, spec), change


@pytest.mark.parametrize("width", [0, 12])
def test_the_encoders_of_dpr_have_no_pooler(width: int) -> None:
    config = small("dpr", architectures=["DPRContextEncoder"], projection_dim=width)
    spec = spec_from_config(config, name="dpr", source=json.dumps(config))
    assert spec.num_params == reference_params(config, spec)


@pytest.mark.parametrize(("model_type", "change"), cases(), ids=IDS)
def test_flops_are_those_that_torch_counts(model_type: str, change: dict[str, Any]) -> None:
    flops_equal(model_type, change, 0 if change else 1)


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "change"), cases(), ids=IDS)
def test_flops_of_many_configurations(model_type: str, change: dict[str, Any]) -> None:
    for seed in range(8):
        flops_equal(model_type, change, seed)


def test_every_default_is_that_of_transformers() -> None:
    from studies.families.defaults import all_defaults

    assert {name: dict(defaults(name)) for name in all_defaults()} == all_defaults()
