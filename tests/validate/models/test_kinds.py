"""Models of experts and of latent attention, really factored: identities, FLOPs and parameters."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch
import transformers
from cases import spec_of
from torch.utils.flop_counter import FlopCounterMode

from costmodel.decomposition.text import parse_decomposition
from costmodel.forward.workload import Attention, LmHead, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.pricing.estimate import estimate
from costmodel.units import DType
from validate.factors.replace import Replacement, WeightFactors
from validate.plans.case import params_of

A100 = load_hardware("a100-sxm-80gb")
COMMON: dict[str, Any] = {
    "vocab_size": 41,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 10,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
LATENT = {"q_lora_rank": 6, "kv_lora_rank": 10, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 5}
CONFIGS: dict[str, dict[str, Any]] = {
    "qwen3_moe": {"num_experts": 4, "head_dim": 8},
    "mixtral": {"num_local_experts": 4},
    "phimoe": {"num_local_experts": 4},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2},
    "glm4_moe_lite": {"n_routed_experts": 4, **LATENT},
    "deepseek_v3": {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, **LATENT},
}


def built(model_type: str) -> tuple[Any, Any]:
    config = {**COMMON, "model_type": model_type, **CONFIGS[model_type]}
    settings = transformers.CONFIG_MAPPING[model_type].from_dict(config)
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        settings, attn_implementation="eager", experts_implementation="eager"
    )
    return spec_of(config), model.eval().requires_grad_(False)


def full_rank(spec: Any) -> list[str]:
    return [f"tensors={t.name} rank={min(t.out_features, t.in_features)}" for t in spec.tensors]


@pytest.mark.parametrize("model_type", CONFIGS)
def test_full_rank_is_the_dense_model_and_leaving_restores_it(model_type: str) -> None:
    spec, model = built(model_type)
    tokens = torch.randint(1, 41, (2, 9), generator=torch.Generator().manual_seed(0))
    before = model(tokens).logits
    with Replacement(model, spec, parse_decomposition(full_rank(spec), spec), WeightFactors()):
        assert (model(tokens).logits - before).abs().max() < 1e-4
    assert torch.equal(model(tokens).logits, before)


@pytest.mark.parametrize("model_type", CONFIGS)
def test_parameters_and_flops_are_those_of_the_estimate(model_type: str) -> None:
    spec, model = built(model_type)
    rng = random.Random(model_type)
    specs = [f"tensors={name} rank={rng.randint(1, 5)}" for name in spec.groups["all"] if rng.random() < 0.7]
    specs += ["layers=1 tensors=experts.2.down_proj rank=2", "layers=1 tensors=experts.0.up_proj rank=3 form=tucker"]
    decomposition = parse_decomposition(specs, spec)
    work = Workload.prefill(7, batch=2, dtype=DType.FP32, attention=Attention.UNFUSED, lm_head=LmHead.ALL)
    tokens = torch.randint(1, 41, (2, 7), generator=torch.Generator().manual_seed(1))
    priced = estimate(spec, A100, decomposition, [work]).phases[0].decomposed
    with Replacement(model, spec, decomposition, WeightFactors()):
        assert sum(p.numel() for p in model.parameters()) == priced.params == params_of(spec, decomposition)
        stacked = parse_decomposition(specs[:-2], spec)
    with Replacement(model, spec, stacked, WeightFactors()), FlopCounterMode(display=False) as counter:
        model(tokens, use_cache=False)
    assert counter.get_total_flops() == estimate(spec, A100, stacked, [work]).phases[0].decomposed.flops
