"""Models whose layers are of several kinds, against the real modules: parameters on meta, FLOPs of counted passes."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from cases import spec_of  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import costmodel  # noqa: E402
from costmodel.decomposition.factors import Decomposition  # noqa: E402
from costmodel.decomposition.text import describe, parse_decomposition  # noqa: E402
from costmodel.errors import DecompositionError  # noqa: E402
from costmodel.families.load import load_model  # noqa: E402
from costmodel.forward.passes import forward_ops  # noqa: E402
from costmodel.forward.routing import hit_chances  # noqa: E402
from costmodel.forward.workload import Attention, ExpertKernels, Latent, LmHead, Routing, Workload  # noqa: E402
from costmodel.hardware.profile import load_hardware  # noqa: E402
from costmodel.pricing.estimate import estimate  # noqa: E402
from costmodel.pricing.pricer import window_kv_bytes  # noqa: E402
from costmodel.units import DType  # noqa: E402

A100 = load_hardware("a100-sxm-80gb")
COMMON: dict[str, Any] = {
    "vocab_size": 41,
    "hidden_size": 24,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "num_experts_per_tok": 2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}


HEADLESS = ("qwen3_vl_moe_text", "qwen3_omni_moe_text", "glm4v_moe_text", "mistral4")
"""Types of which transformers has the body alone, or no head among its classes of causal LMs."""
LATENT = ("glm4_moe_lite", "glm_moe_dsa", "mistral4", "axk1")
"""Types of other names than DeepSeek's with its latent attention and its experts."""


def random_config(rng: random.Random, model_type: str) -> dict[str, Any]:
    """A tiny model of a type, with the features that change its sizes."""
    experts, layers = rng.choice([4, 6]), rng.randint(2, 4)
    config = {**COMMON, "model_type": model_type, "num_hidden_layers": layers, "intermediate_size": rng.randint(5, 30)}
    if model_type in ("mixtral", "gpt_oss", "granitemoe", "minimax_m2", "llama4_text", "phimoe"):
        config |= {"num_local_experts": experts}
    if model_type in ("qwen2_moe", "qwen3_moe", "qwen3_vl_moe_text", "qwen3_omni_moe_text", "olmoe"):
        config |= {"num_experts": experts}
    if model_type in ("qwen2_moe", "qwen3_moe", "qwen3_vl_moe_text", "qwen3_omni_moe_text"):
        config |= {"moe_intermediate_size": rng.randint(3, 20), "decoder_sparse_step": rng.choice([1, 1, 2])}
        config |= {"mlp_only_layers": rng.choice([[], [0]])}
    if model_type == "qwen2_moe":
        config |= {"shared_expert_intermediate_size": rng.randint(3, 20), "qkv_bias": rng.random() < 0.5}
    if model_type in ("qwen3_moe", "glm4_moe", "gpt_oss", "llama4_text", "minimax_m2") or rng.random() < 0.2:
        config |= (
            {}
            if model_type in ("qwen2_moe", "olmoe", "granitemoe", "minicpm3", "youtu", *LATENT)
            or model_type.startswith("deepseek")
            else {"head_dim": rng.choice([4, 8])}
        )
    if model_type == "glm4v_moe_text":
        rope = {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [1, 1], "partial_rotary_factor": 0.5}
        config |= {"head_dim": 8, "rope_parameters": rope, "attention_bias": rng.random() < 0.5}
    if model_type == "exaone_moe":
        config |= {"num_experts": experts, "moe_intermediate_size": 7, "num_shared_experts": rng.choice([1, 2])}
        config |= {"first_k_dense_replace": rng.choice([0, 1]), "sliding_window": 3}
        config |= {"mlp_layer_types": rng.choice([None, ["sparse"] * layers])}
    if model_type == "dots1":
        config |= {"sliding_window": 3, "max_window_layers": 1}
    if model_type == "ernie4_5_moe":
        config |= {"moe_num_experts": experts, "moe_k": config.pop("num_experts_per_tok"), "moe_intermediate_size": 7}
        config |= {"moe_num_shared_experts": rng.choice([1, 2]), "moe_layer_interval": rng.choice([1, 2])}
    if model_type == "phimoe":
        config |= {"lm_head_bias": rng.random() < 0.5}
    if model_type in ("qwen3_moe", "glm4_moe", "olmoe", "granitemoe", "dots1", "solar_open", "phimoe"):
        config |= {"attention_bias": rng.random() < 0.5}
    if model_type in (
        "dots1",
        "solar_open",
        "glm4_moe",
        "glm4v_moe_text",
        "deepseek_v3",
        "deepseek_v2",
        "deepseek_v32",
        *LATENT,
    ):
        config |= {"n_routed_experts": 4, "n_shared_experts": rng.choice([1, 2]), "n_group": 1, "topk_group": 1}
        config |= {"moe_intermediate_size": rng.randint(3, 20), "first_k_dense_replace": rng.choice([0, 1])}
    if model_type == "solar_open":
        config.pop("first_k_dense_replace")
    if model_type == "glm4_moe":
        config |= {"use_qk_norm": rng.random() < 0.5}
    if model_type == "gpt_oss":
        config |= {"sliding_window": 5}
    if model_type == "llama4_text":
        config |= {"intermediate_size_mlp": 17, "interleave_moe_layer_step": rng.choice([1, 2]), "head_dim": 8}
        config |= {"num_experts_per_tok": 1}
    if model_type.startswith(("qwen3_next", "qwen3_5")):
        config |= {"num_experts": experts, "moe_intermediate_size": 7, "shared_expert_intermediate_size": 9}
        config |= {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 6, "head_dim": 8}
        config |= {"linear_value_head_dim": 5, "layer_types": ["linear_attention", "full_attention"]}
        config["num_hidden_layers"] = 2
    if model_type == "deepseek_v4":
        config |= {"num_key_value_heads": 1, "head_dim": 8, "qk_rope_head_dim": 4, "o_groups": 2, "o_lora_rank": 5}
        config |= {"q_lora_rank": 6, "index_n_heads": 2, "index_head_dim": 6, "index_topk": rng.choice([1, 40])}
        config |= {"compress_rate_csa": 2, "compress_rate_hca": 3, "hc_mult": 2, "sliding_window": 4}
        kinds = ["sliding_attention", "compressed_sparse_attention", "heavily_compressed_attention"]
        config |= {"n_routed_experts": 4, "moe_intermediate_size": 7, "layer_types": rng.choices(kinds, k=layers)}
        config["num_hash_layers"] = 0
        del config["intermediate_size"]  # which is the experts' width by another name
        return config
    if model_type in ("glm4_moe_lite", "axk1"):
        config |= {"mlp_layer_types": rng.choice([None, ["sparse"] * layers])}
    if model_type == "minicpm3":
        config |= {"mlp_bias": rng.random() < 0.5, "tie_word_embeddings": rng.random() < 0.5}
    if model_type.startswith("deepseek") or model_type in (*LATENT, "minicpm3", "youtu"):
        config |= {
            "q_lora_rank": 6 if model_type == "axk1" else rng.choice([None, 6]),
            "kv_lora_rank": 10,
            "qk_nope_head_dim": 6,
        }
        config |= {"qk_rope_head_dim": 4, "v_head_dim": rng.choice([5, 8]), "num_key_value_heads": 4}
    if model_type in ("deepseek_v32", "glm_moe_dsa"):
        config |= {"q_lora_rank": 6, "index_n_heads": 2, "index_head_dim": 6, "index_topk": rng.choice([2, 40])}
    if model_type == "glm_moe_dsa":
        config |= {"index_topk_freq": rng.choice([1, 2])}
    if model_type == "minicpm3":
        config |= {"v_head_dim": rng.choice([None, 5])}
    return config


def real_model(config: dict[str, Any], device: str) -> Any:
    settings = transformers.CONFIG_MAPPING[config["model_type"]].from_dict(config)
    auto = transformers.AutoModelForCausalLM
    build = auto.from_config
    if config["model_type"] in HEADLESS:
        build = getattr(transformers, f"{spec_of(config).family.classes[config['model_type']]}Model")._from_config
    with torch.device(device):
        return build(settings, attn_implementation="eager", experts_implementation="eager").eval()


def counted_params(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


ROWS = (
    "mixtral",
    "qwen2_moe",
    "qwen3_moe",
    "qwen3_vl_moe_text",
    "qwen3_omni_moe_text",
    "gpt_oss",
    "olmoe",
    "granitemoe",
    "minimax_m2",
    "glm4_moe",
    "glm4v_moe_text",
    "exaone_moe",
    "dots1",
    "solar_open",
    "ernie4_5_moe",
    "phimoe",
    "llama4_text",
    "deepseek_v2",
    "deepseek_v3",
    "deepseek_v32",
    "deepseek_v4",
    "glm_moe_dsa",
    "glm4_moe_lite",
    "mistral4",
    "axk1",
    "minicpm3",
    "youtu",
    "qwen3_next",
    "qwen3_5_text",
    "qwen3_5_moe_text",
)


@pytest.mark.parametrize("model_type", ROWS)
def test_parameters_are_those_of_the_real_modules(model_type: str) -> None:
    rng = random.Random(model_type)
    for _ in range(3):
        config = random_config(rng, model_type)
        spec, model = spec_of(config), real_model(config, "meta")
        headless = model_type in HEADLESS
        assert spec.num_params - (spec.outer_params["lm_head"] if headless else 0) == counted_params(model), config
        layers = model.get_submodule(spec.layer_prefix.removeprefix("model.") if headless else spec.layer_prefix)
        assert [spec.layer_params(layer) for layer in range(spec.num_layers)] == [
            counted_params(each) for each in layers
        ]


@pytest.mark.parametrize("name", ["qwen3-30b-a3b", "mixtral-8x7b", "gpt-oss-20b", "deepseek-v3"])
def test_built_in_models(name: str) -> None:
    config = json.loads((Path(costmodel.__file__).parent / "families" / "configs" / f"{name}.json").read_text())
    assert load_model(name).num_params == counted_params(real_model(config, "meta"))


COUNTED = [name for name in ROWS if name != "llama4_text"]
"""All but Llama 4, which runs every token through every expert."""


def flops_equal(model_type: str, seed: int) -> None:
    rng = random.Random(f"flops of {model_type} {seed}")
    config = random_config(rng, model_type)
    spec, model = spec_of(config), real_model(config, "cpu")
    work = Workload.prefill(
        rng.randint(2, 9),
        batch=rng.randint(1, 3),
        dtype=DType.FP32,
        attention=Attention.UNFUSED,
        lm_head=LmHead.ALL,
    )
    tokens = torch.randint(0, 41, (work.batch, work.q_len))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(tokens, use_cache=False)
    head = 2 * work.tokens * spec.vocab_size * spec.hidden_size if model_type in HEADLESS else 0
    counted = counter.get_total_flops() + head
    assert sum(op.cost.flops for op in forward_ops(spec, Decomposition(), work)) == counted, config


@pytest.mark.parametrize("model_type", COUNTED)
def test_flops_are_those_of_a_counted_pass(model_type: str) -> None:
    flops_equal(model_type, 0)


@pytest.mark.slow
@pytest.mark.parametrize("model_type", COUNTED)
def test_flops_and_parameters_of_many_configurations(model_type: str) -> None:
    for seed in range(1, 25):
        flops_equal(model_type, seed)
        config = random_config(random.Random(f"{model_type} {seed}"), model_type)
        spec = spec_of(config)
        head = spec.outer_params["lm_head"] if model_type in HEADLESS else 0
        assert spec.num_params - head == counted_params(real_model(config, "meta")), config


@pytest.mark.parametrize("model_type", ["qwen3_moe", "glm4_moe", "deepseek_v3"])
def test_factored_stacks_and_single_experts_cost_what_their_operations_add_up_to(model_type: str) -> None:
    rng = random.Random(f"factored {model_type}")
    spec = spec_of({**random_config(rng, model_type), "mlp_only_layers": [], "decoder_sparse_step": 1})
    last = spec.num_layers - 1
    specs = ["tensors=all rank=50%", f"layers={last} tensors=experts.1.up_proj rank=2 form=tucker"]
    decomposition = parse_decomposition(specs, spec)
    assert decomposition == parse_decomposition([describe(decomposition, spec)], spec)
    assert decomposition == Decomposition.from_json(decomposition.to_json(), spec)
    for experts in ExpertKernels:
        work = Workload.prefill(7, batch=2, experts=experts)
        found = estimate(spec, A100, decomposition, [work]).phases[0]
        ops = [op.cost for op in found.ops()[0]]
        for name in ("flops", "hbm_bytes", "kernels", "vector_flops"):
            assert getattr(found.decomposed, name) == sum(getattr(cost, name) for cost in ops), (name, experts)
    assert found.decomposed.params < found.dense.params == spec.num_params


def test_every_expert_apart_costs_the_parameters_of_the_stack() -> None:
    spec = spec_of(random_config(random.Random(3), "mixtral"))
    experts = spec.experts
    assert experts is not None
    apart = [f"layers=0 tensors=experts.{number}.up_proj rank=3" for number in range(experts.number)]
    one, all_ = (parse_decomposition(specs, spec) for specs in (apart, ["layers=0 tensors=experts.up_proj rank=3"]))
    few, many = (estimate(spec, A100, each, [Workload.prefill(5)]).phases[0].decomposed for each in (one, all_))
    assert (few.params, few.flops) == (many.params, many.flops)


def test_a_site_of_a_layer_without_it_is_refused() -> None:
    spec = spec_of({**random_config(random.Random(1), "glm4_moe"), "first_k_dense_replace": 1, "num_hidden_layers": 2})
    for name in ("layers.0.experts.up_proj", "layers.1.up_proj", "layers.1.experts.4.up_proj"):
        with pytest.raises(DecompositionError, match="no such site"):
            Decomposition.from_json({"ranks": {name: 1}}, spec)
    with pytest.raises(DecompositionError, match="none of these tensors"):
        parse_decomposition(["layers=0 tensors=experts.up_proj rank=1"], spec)


def test_experts_hit_are_the_expected_number() -> None:
    drawn = random.Random(0)
    seen = [len({e for _ in range(6) for e in drawn.sample(range(16), 3)}) for _ in range(4000)]
    assert sum(hit_chances(16, 3, 6, Routing.BALANCED)) == pytest.approx(sum(seen) / len(seen), rel=0.01)
    skewed = hit_chances(16, 3, 6, Routing.POWER_LAW)
    assert sum(hit_chances(16, 3, 1, Routing.POWER_LAW)) == pytest.approx(3)
    assert sum(skewed) < sum(hit_chances(16, 3, 6, Routing.BALANCED))
    assert list(skewed) == sorted(skewed, reverse=True)


def test_deepseek_moe_has_its_published_parameters() -> None:
    config = COMMON | {"model_type": "deepseek", "architectures": ["DeepseekForCausalLM"], "vocab_size": 102400}
    config |= {"hidden_size": 2048, "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 16}
    config |= {"intermediate_size": 10944, "moe_intermediate_size": 1408, "n_routed_experts": 64}
    config |= {"n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1, "moe_layer_freq": 1}
    assert spec_of(config).num_params == 16_375_728_128


def test_decode_of_latent_attention_is_that_of_the_real_module() -> None:
    config = random_config(random.Random(5), "deepseek_v3")
    spec, model = spec_of(config), real_model(config, "cpu")
    work = Workload.decode(8, batch=2, dtype=DType.FP32, attention=Attention.UNFUSED)
    cache = transformers.DynamicCache(config=model.config)
    tokens = torch.randint(0, 41, (2, 8))
    with torch.no_grad():
        model(tokens[:, :7], past_key_values=cache)
        with FlopCounterMode(display=False) as counter:
            model(tokens[:, 7:], past_key_values=cache)
    ops = forward_ops(spec, Decomposition(), work)
    assert sum(op.cost.flops for op in ops) == counter.get_total_flops()
    assert window_kv_bytes(spec, work, None) == 2 * 8 * (10 + 4) * 4
    absorbed = forward_ops(spec, Decomposition(), replace(work, latent=Latent.ABSORBED))
    assert sum(op.cost.flops for op in absorbed if op.site) < sum(op.cost.flops for op in ops if op.site)


@pytest.mark.parametrize(
    ("model_type", "name"),
    [("qwen3_moe", "num_local_experts"), ("mixtral", "num_experts"), ("deepseek_v3", "num_local_experts")],
)
def test_the_number_of_experts_by_the_name_that_transformers_writes(model_type: str, name: str) -> None:
    config = {"model_type": model_type, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    spec = spec_of({**config, "vocab_size": 100, "num_key_value_heads": 4, name: 16})
    assert spec.experts is not None
    assert spec.experts.number == 16
