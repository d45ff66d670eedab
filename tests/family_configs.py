"""A small configuration of any model_type, by the names of its fields."""

from __future__ import annotations

from typing import Any

from costmodel.families.registry import FAMILIES, defaults

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "embedding_size": 24,
    "head_dim": 16,
    "sliding_window": 9,
    "vocab_size": 100,
}
MIXERS: dict[str, dict[str, Any]] = {
    "kimi_linear": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "num_key_value_heads": 4,
        "moe_intermediate_size": 7,
        "linear_head_dim": 12,
        "linear_num_heads": 3,
        "kv_lora_rank": 10,
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    },
    "bailing_hybrid": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "num_key_value_heads": 4,
        "moe_intermediate_size": 7,
        "head_dim": 12,
        "kv_lora_rank": 10,
        "layer_group_size": 3,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    },
    "minimax": {"num_local_experts": 4, "intermediate_size": 7, "block_size": 5},
    "recurrent_gemma": {"lru_width": 40, "attention_window_size": 9},
    "minimax_m3_vl_text": {
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "intermediate_size": 7,
        "dense_intermediate_size": 20,
        "shared_intermediate_size": 9,
        "index_n_heads": 2,
        "index_head_dim": 8,
        "index_block_size": 4,
        "index_topk_blocks": 2,
        "rotary_dim": 8,
        "layer_types": ["full_attention", "minimax_m3_sparse", "minimax_m3_sparse"],
        "mlp_layer_types": ["dense", "sparse", "sparse"],
    },
    "olmo_hybrid": {
        "linear_key_head_dim": 6,
        "linear_value_head_dim": 10,
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
    },
    "mimo_v2_flash": {
        "num_key_value_heads": 1,
        "v_head_dim": 10,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 7,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
    },
    "step3p5": {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 7,
        "share_expert_dim": 9,
        "num_sliding_attention_heads": 6,
        "layer_types": ["full_attention", "sliding_attention", "sliding_attention"],
        "mlp_layer_types": ["dense", "sparse", "sparse"],
    },
    "flex_olmo": {"num_experts": 4, "num_experts_per_tok": 2},
    "hy_v3": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 7},
    "aria_text": {"moe_num_experts": 4},
    "mellum": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 7},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "rope_theta": 1e4, "clip_qkv": 8},
        "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2, "ffn_act_fn": {"name": "silu"}},
    },
    "hunyuan_v1_moe": {"num_experts": 4, "moe_topk": 2},
    "afmoe": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 7},
    "laguna": {
        "num_experts": 4,
        "moe_intermediate_size": 7,
        "num_experts_per_tok": 2,
        "num_attention_heads_per_layer": [4, 2, 4],
        "shared_expert_intermediate_size": 9,
    },
    "granitemoe_swa": {"num_local_experts": 4},
    "cohere2_moe": {"num_experts": 4, "head_dim": 16, "first_k_dense_replace": 1, "prefix_dense_intermediate_size": 20},
    "mllama_text_model": {"cross_attention_layers": [1]},
    "rembert": {"input_embedding_size": 24, "output_embedding_size": 40},
    "gemma4_text": {
        "global_head_dim": 24,
        "hidden_size_per_layer_input": 10,
        "vocab_size_per_layer_input": 50,
        "layer_types": ["sliding_attention", "full_attention", "full_attention"],
    },
    "gemma4_unified_text": {"global_head_dim": 24},
    "gemma3n_text": {
        "num_hidden_layers": 4,
        "hidden_size_per_layer_input": 10,
        "vocab_size_per_layer_input": 120,
        "num_kv_shared_layers": 2,
        "laurel_rank": 6,
        "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "full_attention"],
        "intermediate_size": [20, 30, 20, 30],
        "activation_sparsity_pattern": [0.0] * 4,
    },
    "mamba": {"state_size": 5, "time_step_rank": 3},
    "mamba2": {"num_heads": 8, "head_dim": 16, "state_size": 5, "n_groups": 2, "chunk_size": 4},
    "nemotron_h": {
        "layers_block_type": ["mamba", "moe", "attention", "mlp"],
        "ssm_state_size": 5,
        "mamba_num_heads": 8,
        "mamba_head_dim": 4,
        "n_groups": 2,
        "chunk_size": 4,
        "n_routed_experts": 4,
        "moe_intermediate_size": 7,
        "moe_shared_expert_intermediate_size": 9,
    },
    "bamba": {"mamba_n_heads": 8, "mamba_d_state": 5, "mamba_chunk_size": 4, "attn_layer_indices": [1]},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_state": 5, "mamba_chunk_size": 4, "mamba_d_ssm": 48},
    "granitemoehybrid": {
        "mamba_n_heads": 8,
        "mamba_d_state": 5,
        "mamba_chunk_size": 4,
        "shared_intermediate_size": 18,
        "num_local_experts": 4,
        "position_embedding_type": "rope",
        "layer_types": ["mamba", "attention", "mamba"],
    },
    "granitemoeshared": {"shared_intermediate_size": 18, "num_local_experts": 4},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"], "block_multiple_of": 8},
    "lfm2_moe": {
        "layer_types": ["conv", "full_attention", "conv"],
        "num_dense_layers": 1,
        "num_experts": 4,
        "moe_intermediate_size": 7,
    },
    "jamba": {"mamba_d_state": 5, "mamba_dt_rank": 3, "num_experts": 4, "attn_layer_period": 3, "attn_layer_offset": 1},
}
"""Fields of types with state spaces or experts at small sizes."""
_PLAIN = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "vocab_size": 100,
    "max_position_embeddings": 64,
}
_OLD = {"n_embd": 64, "n_head": 4, "n_layer": 3, "vocab_size": 100}
_ROUTED = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 7}
_LINGS = {**_PLAIN, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 7}
_MINIMAX = {**_PLAIN, "num_local_experts": 4, "num_experts_per_tok": 2}
OWN_CODE: dict[str, dict[str, Any]] = {
    **{
        name: _PLAIN
        for name in ("aquila", "internlm", "internlm3", "mimo", "minicpm", "skywork", "xverse", "Yi", "internlm2")
    },
    **{name: _PLAIN for name in ("baichuan", "molmo", "qwen", "new", "orion", "stablelm_epoch")},
    "chatglm": {**_PLAIN, "num_layers": 3, "ffn_hidden_size": 96, "padded_vocab_size": 100},
    "exaone": {**_PLAIN, "num_layers": 3, "activation_function": "silu"},
    "phi-msft": {**_OLD, "rotary_dim": 8},
    "phi3small": {**_PLAIN, "ff_intermediate_size": 96},
    "RefinedWeb": {"hidden_size": 64, "n_head": 4, "n_layer": 3, "vocab_size": 100, "n_head_kv": 2},
    "RefinedWebModel": {"hidden_size": 64, "n_head": 4, "n_layer": 3, "vocab_size": 100},
    "xlm-roberta-flash": {
        **_PLAIN,
        "position_embedding_type": "rotary",
        "type_vocab_size": 1,
        "lora_adaptations": ["one", "two"],
        "lora_rank": 3,
    },
    "jina_bert": {
        **_PLAIN,
        "position_embedding_type": "alibi",
        "feed_forward_type": "geglu",
    },
    "deepseek": {**_PLAIN, **_ROUTED},
    "kimi_k2": {**_PLAIN, **_ROUTED},
    "bailing_moe": _LINGS,
    "bailing_moe_v2": _LINGS,
    "bailing_moe_linear": {**_LINGS, "layer_group_size": 3},
    "minimax_text_01": {**_MINIMAX, "attn_type_list": [0, 1, 0]},
    "minimax_m1": {**_MINIMAX, "attn_type_list": [0, 1, 0]},
    "nemotron-nas": {
        **_PLAIN,
        "block_configs": [
            {"attention": {"n_heads_in_group": 2}, "ffn": {"ffn_mult": 1.5}},
            {"attention": {"no_op": True}, "ffn": {"intermediate_size": 96}},
        ],
    },
    "openelm": {
        "model_dim": 64,
        "num_transformer_layers": 3,
        "head_dim": 16,
        "vocab_size": 100,
        "ffn_multipliers": [0.5, 1.0, 2],
        "num_query_heads": [4, 4, 2],
        "num_kv_heads": [2, 2, 1],
    },
    "deci": {**_PLAIN, "num_key_value_heads_per_layer": [4, 2, 1]},
    "hf_olmo": {
        "d_model": 64,
        "n_layers": 3,
        "n_heads": 4,
        "mlp_ratio": 8,
        "vocab_size": 100,
        "activation_type": "swiglu",
        "layer_norm_with_affine": False,
        "rope": True,
        "include_bias": False,
        "weight_tying": True,
    },
    "dots1": {**_ROUTED, "n_shared_experts": 1},
    "deepseek_v2": {"num_experts_per_tok": 2},
    "kolibri1": {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 7, "layer_types": None},
    "deepseek_ocr2_text": {
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 7,
        "mlp_layer_types": ["dense", "sparse", "sparse"],
    },
    "deepseek_v4": {"num_key_value_heads": 1},
}
"""Fields of types without defaults in transformers, and of those whose defaults make no model."""
CHOICES: dict[str, dict[str, Any]] = {
    "gemma4_text": {
        "enable_moe_block": True,
        "num_experts": 4,
        "top_k_experts": 2,
        "moe_intermediate_size": 7,
        "attention_k_eq_v": True,
        "num_global_key_value_heads": 1,
        "num_kv_shared_layers": 1,
        "use_double_wide_mlp": True,
    },
    "kimi_linear": {
        "q_lora_rank": 6,
        "layer_types": None,
        "linear_attn_config": {"head_dim": 8, "num_heads": 2, "kda_layers": [2, 3], "full_attn_layers": [1]},
    },
    "mimo_v2_flash": {"attention_bias": True, "mlp_layer_types": ["sparse"] * 3},
    "olmo_hybrid": {"attention_bias": True, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    "bailing_hybrid": {"head_dim": 16, "linear_head_dim": 12, "linear_num_heads": 3},
    "falcon_mamba": {"use_bias": True, "use_conv_bias": False},
    "nemotron_h": {"hybrid_override_pattern": "ME*E", "layers_block_type": None, "moe_latent_size": 12},
    "falcon_h1": {"mamba_rms_norm": True, "projectors_bias": True, "mlp_bias": True, "mamba_d_ssm": None},
    "granitemoehybrid": {"num_local_experts": 0},
    "granitemoeshared": {"shared_intermediate_size": 0},
    "jamba": {"mamba_proj_bias": True},
    "lfm2": {"conv_bias": True, "full_attn_idxs": [0], "layer_types": None, "block_auto_adjust_ff_dim": False},
    "cohere": {"use_qk_norm": True},
    "cohere_compass_text": {"sliding_window": 3, "layer_types": ["sliding_attention"] * 2 + ["full_attention"]},
    "molmo2_text": {"qk_norm_type": "olmo", "norm_after": True, "attention_bias": True, "additional_vocab_size": 0},
    "ultrabert": {"tie_word_embeddings": True, "attention_bias": True},
    "kolibri1": {"sliding_window": 3, "tie_word_embeddings": True},
    "deepseek_ocr2_text": {"attention_bias": True, "mlp_layer_types": ["sparse"] * 3},
    "cohere2_moe": {"num_shared_experts": 2, "mlp_layer_types": ["sparse"] * 3},
    "granitemoe_swa": {"shared_intermediate_size": 18},
    "laguna": {
        "gating": "per-element",
        "sliding_window": 3,
        "layer_types": ["full_attention"] + ["sliding_attention"] * 2,
    },
    "afmoe": {"mup_enabled": True, "num_dense_layers": 0, "attention_bias": True},
    "ernie4_5": {"use_bias": True},
    "esm": {"position_embedding_type": "rotary", "emb_layer_norm_before": True},
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2, "bias": True},
    "gpt_bigcode": {"multi_query": False},
    "gpt_neox": {"use_parallel_residual": False, "attention_bias": False},
    "hyperclovax": {"use_post_norm": False, "mlp_bias": True},
    "granite": {"attention_bias": True, "mlp_bias": True, "residual_multiplier": 0.3},
    "persimmon": {"qk_layernorm": False},
    "phi": {"qk_layernorm": True},
    "stablelm": {"qk_layernorm": True, "use_qkv_bias": True, "use_parallel_residual": True},
    "starcoder2": {"use_bias": False, "sliding_window": None},
    "mpt": {"attn_config": {"attn_type": "multihead_attention"}},
    "smollm3": {"use_sliding_window": True, "layer_types": ["full_attention", "sliding_attention", "full_attention"]},
    "big_bird": {"attention_type": "original_full", "use_bias": False},
    "modernbert": {"norm_bias": True, "attention_bias": True},
    "modernbert-decoder": {"norm_bias": True, "decoder_bias": False, "tie_word_embeddings": False},
    "gemma3_text": {"sliding_window_pattern": 2, "attention_bias": True},
    "electra": {"embedding_size": 64},
    "ernie": {"use_task_id": True},
    "deberta": {
        "relative_attention": True,
        "pos_att_type": ["c2p", "p2c"],
        "max_relative_positions": 7,
        "position_biased_input": False,
    },
    "deberta-v2": {
        "relative_attention": True,
        "share_att_key": True,
        "pos_att_type": ["c2p", "p2c"],
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
    },
}
"""Fields that change what a type is made of, each tried beside the type's defaults."""


def small(model_type: str, **changes: Any) -> dict[str, Any]:
    """The sizes by the names that a type knows, among its defaults."""
    native = FAMILIES[model_type].aliases
    known = defaults(model_type)
    config = {native.get(name, name): size for name, size in SIZES.items()}
    config = {name: size for name, size in config.items() if name in known}
    if model_type in ("gptj", "codegen"):
        config["rotary_dim"] = 8
    if model_type == "gpt_neo":
        config["attention_types"] = [[["global"], 3]]
    if model_type.endswith(("vl_text", "omni_text", "4v_text", "ocr_text")):
        config["rope_parameters"] = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 3, 3]}
    if model_type == "glm4v_text":
        config["rope_parameters"] |= {"mrope_section": [1, 1, 2], "partial_rotary_factor": 0.5}
    if model_type == "cohere_compass_text":
        rope = {"rope_type": "default", "rope_theta": 1e4}
        config["rope_parameters"] = {"full_attention": rope, "sliding_attention": rope}
    if model_type == "esm":
        config["vocab_size"] = 100
    own = OWN_CODE.get(model_type, {})
    special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 0, "mask_token_id": 2, "eod_token_id": 1}
    return {"model_type": model_type, **config, **special, **MIXERS.get(model_type, {}), **own, **changes}
