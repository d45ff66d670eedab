"""Tiny configurations of mixtures of experts and of latent attention, by model_type."""

from __future__ import annotations

from typing import Any

COMMON: dict[str, Any] = {
    "vocab_size": 128,
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 12,
    "max_position_embeddings": 128,
    "pad_token_id": 0,
    "initializer_range": 0.3,
}
LATENT = {"q_lora_rank": 6, "kv_lora_rank": 10, "qk_nope_head_dim": 6, "qk_rope_head_dim": 4, "v_head_dim": 5}
GROUPED = {"n_routed_experts": 4, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, **LATENT}
EXPERTS: dict[str, dict[str, Any]] = {
    "mixtral": {"num_local_experts": 4},
    "qwen2_moe": {"num_experts": 4, "shared_expert_intermediate_size": 14},
    "qwen3_moe": {"num_experts": 4, "head_dim": 8},
    "olmoe": {"num_experts": 4},
    "gpt_oss": {
        "num_local_experts": 4,
        "head_dim": 8,
        "sliding_window": 8,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    },
    "phimoe": {"num_local_experts": 4},
    "granitemoe": {"num_local_experts": 4},
    "ernie4_5_moe": {"moe_num_experts": 4, "moe_k": 2},
    "glm4_moe_lite": {"n_routed_experts": 4, **LATENT},
    "deepseek_v2": GROUPED,
    "deepseek_v3": GROUPED,
}
"""Beside COMMON, what each type needs."""


def experts(model_type: str, **changes: Any) -> dict[str, Any]:
    """The configuration of a type."""
    return {**COMMON, "model_type": model_type, **EXPERTS[model_type], **changes}
