"""Names that configurations give to fields beside those that their families know, by model_type."""

from __future__ import annotations

_ROUTED = {"num_local_experts": "n_routed_experts"}
_NUMBER = {"num_local_experts": "num_experts"}
_KIMI = {
    "num_experts": "num_local_experts",
    "num_experts_per_token": "num_experts_per_tok",
    "num_shared_experts": "n_shared_experts",
    "model_max_length": "max_position_embeddings",
}
OTHER_NAMES: dict[str, dict[str, str]] = {
    "mixtral": {"num_experts": "num_local_experts"},
    "gpt_oss": {"num_experts": "num_local_experts"},
    "minimax_m2": {"num_experts": "num_local_experts"},
    "ernie4_5_moe": {"num_experts": "moe_num_experts", "num_experts_per_tok": "moe_k"},
    "deepseek_v2": {"num_experts": "n_routed_experts"},
    "deepseek_ocr2_text": {"num_experts": "n_routed_experts"},
    "mimo_v2_flash": _ROUTED,
    "step3p5": {
        "num_local_experts": "n_routed_experts",
        "moe_num_experts": "n_routed_experts",
        "num_experts": "n_routed_experts",
        "moe_top_k": "num_experts_per_tok",
        "share_expert_dims": "share_expert_dim",
        "num_attention_groups": "num_key_value_heads",
    },
    "minimax": {"num_experts": "num_local_experts"},
    "minimax_m3_vl_text": {"num_experts": "num_local_experts"},
    "kimi_linear": _KIMI,
    "bailing_hybrid": _KIMI,
    **{
        name: _NUMBER
        for name in ("qwen3_moe", "qwen3_vl_moe_text", "olmoe", "jamba", "flex_olmo", "hy_v3", "mellum", "kolibri1")
    },
    **{
        name: _ROUTED
        for name in (
            "glm4_moe",
            "glm4v_moe_text",
            "dots1",
            "solar_open",
            "deepseek_v3",
            "deepseek_v32",
            "glm_moe_dsa",
            "glm4_moe_lite",
            "mistral4",
            "axk1",
            "nemotron_h",
        )
    },
}
"""Of each type, names of the number of experts that transformers takes, or writes, for the one read here."""
