"""Models of repositories' own code have their published numbers of parameters."""

from __future__ import annotations

from typing import Any

import pytest
from family_configs import small

from costmodel.decomposition.factors import Decomposition
from costmodel.errors import ModelError
from costmodel.families.registry import spec_from_config
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import Workload

MULTIPLIERS = [0.5, 0.73, 0.97, 1.2, 1.43, 1.67, 1.9, 2.13, 2.37, 2.6, 2.83, 3.07, 3.3, 3.53, 3.77, 4.0]
PUBLISHED: dict[str, tuple[dict[str, Any], int]] = {
    "OpenELM 270M": (
        {
            "model_type": "openelm",
            "model_dim": 1280,
            "num_transformer_layers": 16,
            "head_dim": 64,
            "vocab_size": 32000,
            "ffn_multipliers": MULTIPLIERS,
            "normalize_qk_projections": True,
            "num_query_heads": [12] * 5 + [16] * 7 + [20] * 4,
            "num_kv_heads": [3] * 5 + [4] * 7 + [5] * 4,
        },
        271_527_168,
    ),
    "Nomic Embed 2": (
        {
            "model_type": "nomic_bert",
            "architectures": ["NomicBertModel"],
            "activation_function": "gelu",
            "mlp_fc1_bias": True,
            "mlp_fc2_bias": True,
            "moe_every_n_layers": 2,
            "moe_top_k": 2,
            "n_embd": 768,
            "n_head": 12,
            "n_inner": 3072,
            "n_layer": 12,
            "n_positions": 2048,
            "num_experts": 8,
            "num_shared_experts": 0,
            "qkv_proj_bias": True,
            "type_vocab_size": 1,
            "vocab_size": 250048,
        },
        475_292_928,
    ),
    "Jina Embeddings 3 with its adapters": (
        {
            "model_type": "xlm-roberta",
            "architectures": ["XLMRobertaModel"],
            "hidden_size": 1024,
            "intermediate_size": 4096,
            "lora_adaptations": ["query", "passage", "separation", "classification", "matching"],
            "lora_rank": 4,
            "max_position_embeddings": 8194,
            "num_attention_heads": 16,
            "num_hidden_layers": 24,
            "position_embedding_type": "rotary",
            "type_vocab_size": 1,
            "vocab_size": 250002,
        },
        572_310_396,
    ),
    "Falcon 7B in its first form": (
        {
            "model_type": "RefinedWebModel",
            "hidden_size": 4544,
            "n_head": 71,
            "n_layer": 32,
            "multi_query": True,
            "parallel_attn": True,
            "vocab_size": 65024,
        },
        6_921_720_704,
    ),
    "OLMo 7B in its first form": (
        {
            "model_type": "hf_olmo",
            "architectures": ["OLMoForCausalLM"],
            "activation_type": "swiglu",
            "alibi": False,
            "block_type": "sequential",
            "d_model": 4096,
            "embedding_size": 50304,
            "include_bias": False,
            "layer_norm_type": "default",
            "layer_norm_with_affine": False,
            "max_sequence_length": 2048,
            "mlp_hidden_size": 22016,
            "mlp_ratio": 4,
            "n_heads": 32,
            "n_layers": 32,
            "rope": True,
            "vocab_size": 50280,
            "weight_tying": False,
        },
        6_888_095_744,
    ),
    "StableLM 3B in its first form": (
        {
            "model_type": "stablelm_epoch",
            "hidden_size": 2560,
            "intermediate_size": 6912,
            "num_attention_heads": 32,
            "num_key_value_heads": 32,
            "num_hidden_layers": 32,
            "vocab_size": 50304,
            "max_position_embeddings": 4096,
            "tie_word_embeddings": False,
        },
        2_795_443_200,
    ),
    "Phi 3 small": (
        {
            "model_type": "phi3small",
            "hidden_size": 4096,
            "ff_intermediate_size": 14336,
            "num_attention_heads": 32,
            "num_key_value_heads": 8,
            "num_hidden_layers": 32,
            "vocab_size": 100352,
        },
        7_392_272_384,
    ),
    "Yi 6B in its first form": (
        {
            "model_type": "Yi",
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_attention_heads": 32,
            "num_key_value_heads": 4,
            "num_hidden_layers": 32,
            "vocab_size": 64000,
        },
        6_061_035_520,
    ),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_that_were_published(name: str) -> None:
    config, expected = PUBLISHED[name]
    assert spec_from_config(config, name=name, source=name).num_params == expected


SMALL = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_hidden_layers": 3,
    "vocab_size": 100,
}


def test_experts_of_minicpm_stand_in_the_place_of_the_mlp() -> None:
    dense, sparse = (
        spec_from_config({"model_type": "minicpm", **SMALL, **more}, name="test", source="test")
        for more in ({}, {"num_experts": 8, "num_experts_per_tok": 2})
    )
    assert sparse.num_params - dense.num_params == 3 * (7 * 3 * 64 * 96 + 8 * 64)


@pytest.mark.parametrize(("version", "kind"), [(2.6, "qwen2"), ("2.6", "qwen2"), (4.0, "llama"), ("4.5", "qwen3")])
def test_the_version_of_minicpm_v_says_which_language_model_it_has(version: float | str, kind: str) -> None:
    config = {"model_type": "minicpmv", "architectures": ["MiniCPMV"], "version": version, **SMALL}
    config["num_key_value_heads"] = 4
    assert spec_from_config(config, name="test", source="test").model_type == kind
    with pytest.raises(ModelError, match="not supported: got 'minicpmv'"):
        spec_from_config({**config, "version": 9.9}, name="test", source="test")


@pytest.mark.parametrize(
    ("model_type", "name", "kind"),
    [
        ("cambrian_llama", "CambrianLlamaForCausalLM", "llama"),
        ("llava_gemma2", "LlavaGemma2ForCausalLM", "gemma2"),
        ("dots_ocr", "DotsOCRForCausalLM", "qwen2"),
        ("GOT", "GOTQwenForCausalLM", "qwen2"),
    ],
)
def test_a_language_model_among_the_fields_of_the_one_around_it_is_read(model_type: str, name: str, kind: str) -> None:
    config = {"model_type": model_type, "architectures": [name], **SMALL, "num_key_value_heads": 4}
    spec = spec_from_config({**config, "mm_vision_tower": "some/tower"}, name="test", source="test")
    assert (spec.model_type, spec.inside) == (kind, model_type)
    if kind != "qwen2":
        with pytest.raises(ModelError, match="not supported"):
            spec_from_config(config, name="test", source="test")


def test_bert_of_other_layers_is_never_priced_as_bert() -> None:
    config = {"model_type": "bert", "architectures": ["BertForMaskedLM"], **SMALL}
    with pytest.raises(ModelError, match="MosaicBERT"):
        spec_from_config({**config, "alibi_starting_size": 512}, name="test", source="test")
    with pytest.raises(ModelError, match="the first ChatGLM"):
        spec_from_config(
            {"model_type": "chatglm", "inner_hidden_size": 16384, "num_layers": 28}, name="test", source="test"
        )


def test_a_language_model_that_names_its_class_alone_is_read_by_it() -> None:
    inner = {**SMALL, "architectures": ["LlamaForCausalLM"]}
    config = {"model_type": "vila", "architectures": ["VILAModel"], "llm_cfg": inner}
    assert spec_from_config(config, name="test", source="test").model_type == "llama"


def test_deepseek_without_latent_attention_is_never_priced_with_it() -> None:
    experts = {"n_routed_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 7, "n_shared_experts": 1}
    inner = {**SMALL, **experts, "model_type": "deepseek_v2", "use_mla": False, "kv_lora_rank": None}
    by_class = {**inner, "model_type": None, "architectures": ["DeepseekV2ForCausalLM"]}
    for each in (inner, by_class):
        spec = spec_from_config({"model_type": "deepseek_vl_v2", "language_config": each}, name="test", source="test")
        assert (spec.model_type, spec.latent) == ("deepseek", None)
    with pytest.raises(ModelError, match="use_mla"):
        spec_from_config(inner, name="test", source="test")


def test_fields_that_both_parts_of_dbrx_have_are_no_error() -> None:
    parts = {
        "attn_config": {"kv_n_heads": 2},
        "ffn_config": {"ffn_hidden_size": 24, "moe_num_experts": 4, "moe_top_k": 2},
    }
    sizes = {"d_model": 64, "n_heads": 4, "n_layers": 2, "vocab_size": 100, "max_seq_len": 32}
    doubled = {name: {**values, "model_type": "dbrx_part", "dtype": None} for name, values in parts.items()}
    one, other = (
        spec_from_config({"model_type": "dbrx", **sizes, **each}, name="test", source="test")
        for each in (parts, doubled)
    )
    assert one.num_params == other.num_params


def test_a_type_that_is_not_known_is_read_as_the_class_that_it_names() -> None:
    config = {"model_type": "its_own", "architectures": ["LlamaForCausalLM"], **SMALL}
    spec = spec_from_config(config, name="test", source="test")
    assert (spec.model_type, any("its_own is not known" in note for note in spec.notes)) == ("llama", True)
    with pytest.raises(ModelError, match="not supported: got 'its_own'"):
        spec_from_config({**config, "architectures": ["LlamaForCausalLMEagle3"]}, name="test", source="test")


BILLIONS: dict[str, tuple[dict[str, Any], float, int]] = {
    "Ling Lite 16.8B": (
        {
            "model_type": "bailing_moe",
            "architectures": ["BailingMoeForCausalLM"],
            "hidden_size": 2048,
            "intermediate_size": 5632,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "moe_intermediate_size": 1408,
            "num_experts": 64,
            "num_experts_per_tok": 6,
            "num_shared_experts": 2,
            "vocab_size": 126464,
            "max_position_embeddings": 16384,
        },
        16.8,
        1,
    ),
    "Ling Mini 2 16.26B": (
        {
            "model_type": "bailing_moe",
            "architectures": ["BailingMoeV2ForCausalLM"],
            "hidden_size": 2048,
            "intermediate_size": 5120,
            "num_hidden_layers": 20,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "moe_intermediate_size": 512,
            "num_experts": 256,
            "num_experts_per_tok": 8,
            "num_shared_experts": 1,
            "first_k_dense_replace": 1,
            "use_qk_norm": True,
            "vocab_size": 157184,
            "max_position_embeddings": 32768,
        },
        16.26,
        2,
    ),
    "Ring Mini Linear 2 16.4B": (
        {
            "model_type": "bailing_moe_linear",
            "architectures": ["BailingMoeLinearV2ForCausalLM"],
            "hidden_size": 2048,
            "intermediate_size": 5120,
            "num_hidden_layers": 20,
            "num_attention_heads": 16,
            "num_key_value_heads": 4,
            "head_dim": 128,
            "moe_intermediate_size": 512,
            "num_experts": 256,
            "num_experts_per_tok": 8,
            "num_shared_experts": 1,
            "first_k_dense_replace": 1,
            "layer_group_size": 5,
            "use_qk_norm": True,
            "vocab_size": 157184,
            "max_position_embeddings": 131072,
        },
        16.4,
        1,
    ),
    "MiniMax Text 01 456B": (
        {
            "model_type": "minimax_text_01",
            "architectures": ["MiniMaxText01ForCausalLM"],
            "attn_type_list": ([0] * 7 + [1]) * 10,
            "hidden_size": 6144,
            "intermediate_size": 9216,
            "num_hidden_layers": 80,
            "num_attention_heads": 64,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "rotary_dim": 64,
            "num_local_experts": 32,
            "num_experts_per_tok": 2,
            "vocab_size": 200064,
            "max_position_embeddings": 10240000,
        },
        456,
        0,
    ),
    "Jina Embeddings 2 137M": (
        {
            "model_type": "bert",
            "architectures": ["JinaBertModel"],
            "hidden_size": 768,
            "intermediate_size": 3072,
            "num_hidden_layers": 12,
            "num_attention_heads": 12,
            "vocab_size": 30528,
            "max_position_embeddings": 8192,
            "position_embedding_type": "alibi",
            "feed_forward_type": "geglu",
        },
        0.137,
        3,
    ),
    "Kimi K3 2.8T": (
        {
            "model_type": "kimi_linear",
            "hidden_size": 7168,
            "intermediate_size": 33792,
            "moe_intermediate_size": 3072,
            "num_hidden_layers": 93,
            "num_attention_heads": 96,
            "q_lora_rank": 1536,
            "kv_lora_rank": 512,
            "num_experts": 896,
            "num_experts_per_token": 16,
            "num_shared_experts": 2,
            "routed_expert_hidden_size": 3584,
            "attn_res_block_size": 12,
            "mla_use_output_gate": True,
            "hidden_act": "situ",
            "linear_attn_config": {
                "head_dim": 128,
                "num_heads": 96,
                "use_full_rank_gate": True,
                "full_attn_layers": [*range(4, 93, 4), 93],
                "kda_layers": [layer for layer in range(1, 93) if layer % 4],
            },
            "vocab_size": 163840,
        },
        2800,
        -2,
    ),
}
"""Configurations, and the published number of parameters in billions with as many digits as are published."""


@pytest.mark.parametrize("name", BILLIONS)
def test_it_has_the_published_billions_of_parameters(name: str) -> None:
    config, billions, digits = BILLIONS[name]
    assert round(spec_from_config(config, name=name, source=name).num_params / 1e9, digits) == billions


def test_what_a_class_has_beyond_its_model_type_is_refused() -> None:
    nomic, _ = PUBLISHED["Nomic Embed 2"]
    with pytest.raises(ModelError, match=r"field num_shared_experts: got 1; .*nomic_bert: shared experts"):
        spec_from_config({**nomic, "num_shared_experts": 1}, name="nomic", source="nomic")
    jina, *_ = BILLIONS["Jina Embeddings 2 137M"]
    code = {"AutoModel": "jinaai/jina-bert-v2-qk-post-norm--modeling_bert.JinaBertModel"}
    with pytest.raises(ModelError, match="norms of queries and keys"):
        spec_from_config({**jina, "auto_map": code}, name="jina", source="jina")


def test_experts_of_nomic_embed_take_two_of_eight_mlps_a_token() -> None:
    config, _ = PUBLISHED["Nomic Embed 2"]
    work = Workload.prefill(64)
    sparse, dense = (
        sum(op.cost.flops for op in forward_ops(spec_from_config(each, name="n", source="n"), Decomposition(), work))
        for each in (config, {**config, "num_experts": 2})
    )
    assert sparse - dense == 6 * 2 * 64 * 768 * 6  # the routers alone: two experts a token run in both
    spec = spec_from_config(config, name="n", source="n")
    assert [kind.experts is not None for kind, _ in spec.variants] == [False, True] * 6
    assert spec.is_encoder


def test_a_model_around_another_may_be_called_as_its_type_is() -> None:
    inner = {"model_type": "qwen3", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    inner["num_key_value_heads"] = 4
    config = {"model_type": "ovis2_5", "architectures": ["Ovis2_5"], "llm_config": inner}
    assert spec_from_config(config, name="ovis", source="ovis").inside == "ovis2_5"
    with pytest.raises(ModelError, match="architectures"):
        spec_from_config({**config, "architectures": ["OvisDraft"]}, name="ovis", source="ovis")


@pytest.mark.parametrize(
    ("model_type", "name", "value"),
    [
        ("kimi_linear", "linear_attn_config", {"kda_layers": [[2], 3], "full_attn_layers": [1]}),
        ("step3p5", "moe_layers_enum", "1" * 5000),
    ],
)
def test_lists_of_layers_that_are_no_numbers_are_refused(model_type: str, name: str, value: object) -> None:
    config = small(model_type, layer_types=None, mlp_layer_types=None, **{name: value})
    with pytest.raises(ModelError, match=rf"field {name}\b"):
        spec_from_config(config, name="test", source="test")


def test_a_tower_beside_the_fields_of_a_language_model_is_named() -> None:
    config = {"model_type": "qwen", "architectures": ["QWenLMHeadModel"], **SMALL, "kv_channels": 16}
    plain, seeing = (
        spec_from_config({**config, **more}, name="test", source="test") for more in ({}, {"visual": {"width": 8}})
    )
    assert seeing.num_params == plain.num_params
    assert [note for note in seeing.notes if note not in plain.notes] == [
        "its vision tower is not priced, its language model alone is"
    ]


def test_layers_that_the_first_form_of_olmo_was_not_published_with_are_refused() -> None:
    config, _ = PUBLISHED["OLMo 7B in its first form"]
    for change in ({"layer_norm_type": "rms"}, {"alibi": True}, {"n_kv_heads": 8}, {"scale_logits": True}):
        with pytest.raises(ModelError, match=next(iter(change))):
            spec_from_config({**config, **change}, name="test", source="test")
