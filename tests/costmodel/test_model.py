"""The structure of the four families: tensors, groups, parts and exact parameter counts, none of which needs torch."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

from costmodel.errors import DecompositionError
from costmodel.families.load import builtin_models, load_model
from costmodel.tensors import WeightTensor, expert_address

PARAMS = {
    "llama2-7b": 6_738_415_616,
    "llama2-13b": 13_015_864_320,
    "llama2-70b": 68_976_648_192,
    "llama3-8b": 8_030_261_248,
    "llama3-70b": 70_553_706_496,
    "llama3.1-8b": 8_030_261_248,
    "llama3.3-70b": 70_553_706_496,
    "llama3.2-1b": 1_235_814_400,
    "tinyllama-1.1b": 1_100_048_384,
    "mistral-7b": 7_241_732_096,
    "qwen2.5-0.5b": 494_032_768,
    "qwen2.5-1.5b": 1_543_714_304,
    "qwen2.5-7b": 7_615_616_512,
    "qwen3-0.6b": 596_049_920,
    "qwen3-4b": 4_022_468_096,
    "qwen3-8b": 8_190_735_360,
    "qwen3-30b-a3b": 30_532_122_624,
    "mixtral-8x7b": 46_702_792_704,
    "gpt-oss-20b": 20_914_757_184,
    "gpt-oss-120b": 116_829_156_672,
    "deepseek-v3": 671_026_404_352,
    "gemma3-270m": 268_098_176,
    "gemma3-1b": 999_885_952,
    "gemma3-4b": 3_880_263_168,
    "gemma3-27b": 27_009_346_304,
    "phi4": 14_659_507_200,
    "smollm2-135m": 134_515_008,
    "modernbert-base": 149_014_272,
    "xlm-roberta-base": 278_043_648,
    "minilm-l6": 22_713_216,
    "bert-base": 109_482_240,
    "bert-large": 335_141_888,
    "roberta-base": 124_645_632,
    "roberta-large": 355_359_744,
    "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168,
    "gpt2-large": 774_030_080,
    "gpt2-xl": 1_557_611_200,
    "opt-125m": 125_239_296,
    "opt-350m": 331_196_416,
    "opt-1.3b": 1_315_758_080,
    "opt-6.7b": 6_658_473_984,
    "llama-70m": 69_222_144,
}
"""Published counts, tied tensors once, and our own llama-70m; families/test_load.py asks transformers."""


def test_every_built_in_model_has_a_known_count() -> None:
    assert set(PARAMS) == set(builtin_models())


@pytest.mark.parametrize("name", PARAMS)
def test_params(name: str) -> None:
    spec = load_model(name)
    assert spec.num_params == PARAMS[name]
    layers = sum(spec.layer_params(layer) for layer in range(spec.num_layers))
    assert spec.num_params == layers + sum(spec.outer_params.values())


def test_the_layer_of_llama2_7b_is_the_papers() -> None:
    spec = load_model("llama2-7b")
    assert sum(tensor.weight_params for tensor in spec.tensors) == 202_375_168
    assert spec.params_per_layer == 202_375_168 + 2 * 4096
    assert {part: count for part, count in spec.outer_params.items() if count} == {
        "token_embedding": 32_000 * 4096,
        "final_norm": 4096,
        "lm_head": 32_000 * 4096,
    }


@pytest.mark.parametrize(
    ("name", "shapes"),
    [
        (
            "mistral-7b",
            {
                "q_proj": (4096, 4096),
                "k_proj": (1024, 4096),
                "v_proj": (1024, 4096),
                "o_proj": (4096, 4096),
                "gate_proj": (14336, 4096),
                "up_proj": (14336, 4096),
                "down_proj": (4096, 14336),
            },
        ),
        (
            "qwen3-0.6b",  # 16 heads of 128 are wider than the hidden size
            {
                "q_proj": (2048, 1024),
                "k_proj": (1024, 1024),
                "v_proj": (1024, 1024),
                "o_proj": (1024, 2048),
                "gate_proj": (3072, 1024),
                "up_proj": (3072, 1024),
                "down_proj": (1024, 3072),
            },
        ),
        (
            "bert-base",
            {
                "query": (768, 768),
                "key": (768, 768),
                "value": (768, 768),
                "attn_output": (768, 768),
                "intermediate": (3072, 768),
                "output": (768, 3072),
            },
        ),
        (
            "gpt2",
            {"c_attn": (2304, 768), "attn_proj": (768, 768), "c_fc": (3072, 768), "mlp_proj": (768, 3072)},
        ),
        (
            "opt-350m",
            {
                "q_proj": (1024, 1024),
                "k_proj": (1024, 1024),
                "v_proj": (1024, 1024),
                "out_proj": (1024, 1024),
                "fc1": (4096, 1024),
                "fc2": (1024, 4096),
            },
        ),
    ],
)
def test_tensor_names_and_shapes(name: str, shapes: dict[str, tuple[int, int]]) -> None:
    spec = load_model(name)
    assert {tensor.name: (tensor.out_features, tensor.in_features) for tensor in spec.tensors} == shapes


def test_groups_partition_the_tensors() -> None:
    for name in builtin_models():
        groups = load_model(name).groups
        assert groups["attn"] + groups["mlp"] == groups["all"]
        assert len(set(groups["all"])) == len(groups["all"])
    assert load_model("gpt2").groups == {
        "all": ("c_attn", "attn_proj", "c_fc", "mlp_proj"),
        "attn": ("c_attn", "attn_proj"),
        "mlp": ("c_fc", "mlp_proj"),
    }


def test_biases() -> None:
    def biased(name: str) -> list[str]:
        return [tensor.name for tensor in load_model(name).tensors if tensor.bias]

    assert biased("llama2-7b") == biased("qwen3-8b") == []
    assert biased("qwen2.5-7b") == ["q_proj", "k_proj", "v_proj"]
    assert biased("bert-base") == list(load_model("bert-base").groups["all"])


def test_a_bias_counts_once_per_output_feature() -> None:
    tensor = WeightTensor(name="fc1", path="fc1", out_features=3, in_features=5, bias=True, group="mlp")
    assert (tensor.weight_params, tensor.params) == (15, 18)
    assert dataclasses.replace(tensor, bias=False).params == 15


def test_tensor_looks_up_by_name() -> None:
    spec = load_model("bert-base")
    assert spec.tensor("attn_output").path == "attention.output.dense"
    with pytest.raises(DecompositionError, match=r"bert-base.*'q_proj'.*allowed: query, key, value"):
        spec.tensor("q_proj")
    with pytest.raises(DecompositionError, match="did you mean intermediate"):
        spec.tensor("intermediat")


@pytest.mark.parametrize(
    ("name", "family", "prefix", "is_encoder", "rows", "positions"),
    [
        ("llama3-8b", "llama", "model.layers", False, 0, 8192),
        ("bert-large", "bert", "encoder.layer", True, 512, 512),
        ("roberta-base", "bert", "encoder.layer", True, 514, 512),
        ("gpt2-xl", "gpt2", "transformer.h", False, 1024, 1024),
        ("opt-1.3b", "opt", "model.decoder.layers", False, 2050, 2048),
    ],
)
def test_what_the_family_decides(
    name: str, family: str, prefix: str, is_encoder: bool, rows: int, positions: int
) -> None:
    spec = load_model(name)
    assert (spec.family.name, spec.layer_prefix, spec.is_encoder) == (family, prefix, is_encoder)
    assert (spec.position_rows, spec.max_positions) == (rows, positions)
    assert (spec.family.norm == "rms_norm") == spec.gated_mlp == (family == "llama")
    assert spec.pooler == spec.embedding_norm == is_encoder


def test_opt_350m_is_post_norm_with_projections() -> None:
    spec = load_model("opt-350m")
    assert (spec.pre_norm, spec.final_norm, spec.embed_dim, spec.hidden_size) == (False, False, 512, 1024)
    assert spec.outer_params["project_in"] == spec.outer_params["project_out"] == 512 * 1024
    assert spec.outer_params["lm_head"] == spec.outer_params["final_norm"] == 0


def test_specs_are_frozen_and_compare_by_identity() -> None:
    spec = load_model("gpt2")
    with pytest.raises(dataclasses.FrozenInstanceError):
        spec.num_layers = 3  # type: ignore[misc]
    copy = dataclasses.replace(spec)
    assert copy != spec
    assert copy.tensors == spec.tensors
    assert spec.tensors is spec.tensors


def test_reading_a_model_imports_nothing_heavy() -> None:
    heavy = ("numpy", "networkx", "rich", "msgspec", "torch", "transformers")
    code = (
        "import sys; from costmodel.families.load import load_model; load_model('llama2-7b');"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


def test_a_number_of_thousands_of_digits_addresses_no_expert() -> None:
    assert expert_address("experts.3.up_proj") == ("experts.up_proj", 3)
    assert expert_address("9" * 5000) is None
    assert expert_address("experts.03.up_proj") is None
