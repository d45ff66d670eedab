"""The class that a config.json names is the model that is priced: its head, its text part, its stored weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from costmodel.decomposition.factors import Decomposition
from costmodel.errors import InputError, ModelError
from costmodel.families.load import load_model
from costmodel.families.registry import spec_from_config
from costmodel.forward.passes import forward_ops
from costmodel.forward.workload import LmHead, Workload
from costmodel.hardware.profile import load_hardware
from costmodel.model import ModelSpec
from costmodel.pricing.estimate import estimate
from costmodel.units import DType

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 100,
}
BERT: dict[str, Any] = {**LLAMA, "model_type": "bert", "max_position_embeddings": 32}
ROBERTA: dict[str, Any] = {**BERT, "model_type": "roberta"}
GPT2: dict[str, Any] = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 100}
OPT: dict[str, Any] = {**LLAMA, "model_type": "opt", "ffn_dim": 96, "word_embed_proj_dim": 64}
BIG_BIRD: dict[str, Any] = {**BERT, "model_type": "big_bird", "attention_type": "original_full"}
MEGATRON_BERT: dict[str, Any] = {**BERT, "model_type": "megatron-bert"}
ELECTRA: dict[str, Any] = {**BERT, "model_type": "electra", "embedding_size": 24}
ROFORMER: dict[str, Any] = {**BERT, "model_type": "roformer"}
ULTRABERT: dict[str, Any] = {**LLAMA, "model_type": "ultrabert", "sliding_window": 9}
TOKENS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 0}
CLASSES = [
    (LLAMA, "LlamaForCausalLM", True),
    (LLAMA, "LlamaModel", False),
    (LLAMA, "LlamaForSequenceClassification", False),
    (LLAMA, "LlamaForTokenClassification", False),
    (LLAMA, "LlamaForQuestionAnswering", False),
    (GPT2, "GPT2LMHeadModel", True),
    (GPT2, "GPT2ForSequenceClassification", False),
    (GPT2, "GPT2ForTokenClassification", False),
    (OPT, "OPTForSequenceClassification", False),
    (BERT, "BertModel", False),
    (BERT, "BertForMaskedLM", False),
    (BERT, "BertForPreTraining", False),
    (BERT, "BertForSequenceClassification", False),
    (BERT, "BertForTokenClassification", False),
    (BERT, "BertForQuestionAnswering", False),
    (BERT, "BertForMultipleChoice", False),
    (ROBERTA, "RobertaModel", False),
    (ROBERTA, "RobertaForMaskedLM", False),
    (ROBERTA, "RobertaForSequenceClassification", False),
    (ROBERTA, "RobertaForTokenClassification", False),
    (BIG_BIRD, "BigBirdForMaskedLM", False),
    (BIG_BIRD, "BigBirdForPreTraining", False),
    (BIG_BIRD, "BigBirdForQuestionAnswering", False),
    (BERT, "BertForNextSentencePrediction", False),
    (MEGATRON_BERT, "MegatronBertForNextSentencePrediction", False),
    (ELECTRA, "ElectraForMultipleChoice", False),
    (ROFORMER, "RoFormerForMultipleChoice", False),
    (ULTRABERT, "UltrabertForSequenceClassification", False),
    (ULTRABERT, "UltrabertForQuestionAnswering", False),
]


def build(config: dict[str, Any], **changes: Any) -> ModelSpec:
    return spec_from_config({**config, **changes}, name="test", source="test")


@pytest.mark.parametrize(("config", "name", "generates"), CLASSES, ids=[name for _, name, _ in CLASSES])
def test_the_head_that_the_class_has_is_the_head_that_is_priced(
    config: dict[str, Any], name: str, generates: bool
) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    from torch.utils.flop_counter import FlopCounterMode

    count = 2 if "Question" in name else 5
    labels = {"id2label": {str(label): f"L{label}" for label in range(count)}}
    spec = build(config, architectures=[name], **labels)
    settings = transformers.CONFIG_MAPPING[config["model_type"]].from_dict({**config, **labels, **TOKENS})
    real = getattr(transformers, name)._from_config(settings, attn_implementation="eager").eval()
    tokens = torch.full((2, 7) if "Choice" not in name else (2, 1, 7), 3, dtype=torch.long)
    assert spec.num_params == sum(parameter.numel() for parameter in real.parameters())
    assert spec.generates is generates
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        real(tokens)
    found = estimate(spec, load_hardware("a100-sxm-80gb"), Decomposition(), [_whole(2, 7)]).phases[0].dense
    assert found.flops == counter.get_total_flops()


def _whole(batch: int, length: int) -> Workload:
    return Workload.prefill(length, batch=batch, lm_head=LmHead.ALL)


def test_a_file_without_classes_is_a_causal_lm_or_an_encoders_body() -> None:
    assert build(LLAMA).num_params == build(LLAMA, architectures=["LlamaForCausalLM"]).num_params
    assert build(BERT).num_params == build(BERT, architectures=["BertModel"]).num_params


def test_a_file_without_a_model_type_is_what_its_class_says() -> None:
    config = {name: value for name, value in LLAMA.items() if name != "model_type"}
    assert build(config, architectures=["LlamaForCausalLM"]).num_params == build(LLAMA).num_params


def test_a_model_without_an_lm_head_has_no_decode_phase() -> None:
    hardware, spec = load_hardware("a100-sxm-80gb"), build(LLAMA, architectures=["LlamaModel"])
    with pytest.raises(InputError, match="is a decoder without an LM head and has no decode phase"):
        estimate(spec, hardware, Decomposition(), [Workload.decode(9)])


def test_attention_told_to_see_both_sides_has_no_cache() -> None:
    spec = build(LLAMA, architectures=["LlamaModel"], is_causal=False)
    assert spec.is_encoder
    assert (
        estimate(spec, load_hardware("a100-sxm-80gb"), Decomposition(), [_whole(1, 8)]).phases[0].dense.kv_cache_bytes
        == 0
    )


def test_code_of_the_repositorys_own_is_said_not_to_be_read() -> None:
    spec = build(LLAMA, auto_map={"AutoModel": "modeling.Own"})
    assert any("own code is not read" in note for note in spec.notes)


def test_infinities_and_nan_where_no_count_is_pass(tmp_path: Path) -> None:
    text = json.dumps({**LLAMA, "time_step_limit": [0.0, float("inf")], "eps": float("nan"), "dtype": "auto"})
    (tmp_path / "config.json").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert load_model(tmp_path).num_params == build(LLAMA).num_params


# The text model of a larger one

WRAPPERS = [
    {"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"], "text_config": LLAMA},
    {"model_type": "qwen2_audio", "text_config": {**LLAMA, "model_type": "qwen2", "num_key_value_heads": 4}},
    {"model_type": "internvl_chat", "architectures": ["InternVLChatModel"], "llm_config": LLAMA},
    {"model_type": "unheard_of", "text_config": LLAMA, "vision_config": {"hidden_size": 3}},
]


@pytest.mark.parametrize("config", WRAPPERS, ids=lambda config: str(config["model_type"]))
def test_the_text_model_is_priced_and_the_tower_is_said_not_to_be(config: dict[str, Any]) -> None:
    spec = build(config)
    inner = next(config[key] for key in ("text_config", "llm_config") if key in config)
    assert spec.num_params == build(inner).num_params
    assert any("tower is not priced" in note for note in spec.notes)
    priced = estimate(spec, load_hardware("a100-sxm-80gb"), Decomposition(), [_whole(1, 8)]).to_json()
    assert any("tower is not priced" in text for text in priced["assumptions"])


def test_a_text_model_of_another_name_is_the_one_that_is_the_same() -> None:
    inner = {**LLAMA, "model_type": "qwen3", "head_dim": 16, "num_key_value_heads": 2}
    around = {"model_type": "qwen3_asr", "architectures": ["Qwen3ASRForConditionalGeneration"]}
    spec = build({**around, "thinker_config": {"text_config": {**inner, "model_type": "qwen3_asr_text"}}})
    assert (spec.model_type, spec.num_params) == ("qwen3", build(inner).num_params)
    assert any("audio tower is not priced" in note for note in spec.notes)


def test_phi_of_the_older_layout_has_the_sizes_and_flops_of_phi() -> None:
    old = {"model_type": "phi-msft", "architectures": ["PhiForCausalLM"], "n_embd": 64, "n_layer": 2, "n_head": 4}
    old |= {"n_positions": 32, "vocab_size": 100, "rotary_dim": 8, "n_inner": None, "n_head_kv": None}
    new = {**LLAMA, "model_type": "phi", "intermediate_size": 256, "max_position_embeddings": 32}
    work = Workload.prefill(8, batch=2)
    flops = [sum(op.cost.flops for op in forward_ops(build(each), Decomposition(), work)) for each in (old, new)]
    assert build(old).num_params == build(new).num_params
    assert flops[0] == flops[1]
    published = build(old, n_embd=2560, n_layer=32, n_head=32, rotary_dim=32, vocab_size=51200)
    assert published.num_params == 2_779_683_840


def test_a_text_model_that_is_not_supported_is_refused_by_name() -> None:
    with pytest.raises(ModelError, match="not supported: got 'flamingo around flamingo_text'"):
        build({"model_type": "flamingo", "text_config": {"model_type": "flamingo_text", "hidden_size": 64}})


def test_sizes_that_a_text_model_leaves_out_are_those_of_its_class() -> None:
    spec = build({"model_type": "llava", "text_config": {"model_type": "llama", "vocab_size": 32064}})
    assert (spec.hidden_size, spec.num_layers, spec.vocab_size) == (4096, 32, 32064)


# Weights that are stored quantised

GROUP = {"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": True}
FORMS: list[tuple[dict[str, Any], int]] = [
    (GROUP, 4096 // 2 + 128 * 2 + 128 // 2),
    ({"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True}, 4096 + 64 * 2 + 64),
    ({"quant_method": "bitsandbytes", "load_in_8bit": True}, 4096 + 64 * 4),
    ({"quant_method": "bitsandbytes", "load_in_4bit": True}, 4096 // 2 + 64 * 4),
    ({"quant_method": "fp8", "weight_block_size": [32, 32]}, 4096 + 4 * 4),
    ({"quant_method": "fp8"}, 4096 + 4),
    ({"quant_method": "fbgemm_fp8"}, 4096 + 64 * 4),
    (
        {
            "quant_method": "compressed-tensors",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": 8, "strategy": "channel"}}},
        },
        4096 + 64 * 2,
    ),
    ({"quant_method": "modelopt", "quant_algo": "NVFP4", "group_size": 16}, 4096 // 2 + 256),
]


@pytest.mark.parametrize(("settings", "expected"), FORMS, ids=lambda value: str(value)[:40])
def test_stored_bytes_of_a_weight_of_64_by_64(settings: dict[str, Any], expected: int) -> None:
    spec = build(LLAMA, quantization_config=settings)
    assert spec.weights is not None
    assert spec.weights.matrix_bytes(64, 64) == expected
    hardware, work = load_hardware("a100-sxm-80gb"), _whole(1, 8)
    dense = estimate(spec, hardware, Decomposition(), [work]).phases[0].dense
    plain = estimate(build(LLAMA), hardware, Decomposition(), [work]).phases[0].dense
    held = sum(spec.weights.matrix_bytes(t.out_features, t.in_features) for t in spec.tensors)
    assert plain.weight_bytes - dense.weight_bytes == 2 * (sum(2 * t.weight_params for t in spec.tensors) - held)
    assert dense.flops == plain.flops


def test_a_weight_type_that_is_asked_for_wins_over_the_stored_one() -> None:
    hardware, work = load_hardware("a100-sxm-80gb"), Workload.prefill(8, weight_dtype=DType.BF16)
    stored = build(LLAMA, quantization_config=GROUP)
    found, plain = (
        estimate(spec, hardware, Decomposition(), [work]).phases[0].dense for spec in (stored, build(LLAMA))
    )
    assert found.weight_bytes == plain.weight_bytes


def test_embeddings_of_mlx_are_quantised_too() -> None:
    hardware, work = load_hardware("a100-sxm-80gb"), _whole(1, 8)
    spec = build(LLAMA, quantization={"bits": 8, "group_size": 64})
    assert spec.weights is not None
    held = 2 * sum(spec.weights.matrix_bytes(t.out_features, t.in_features) for t in spec.tensors)
    vocabulary = 2 * spec.weights.matrix_bytes(100, 64)
    assert (
        estimate(spec, hardware, Decomposition(), [work]).phases[0].dense.weight_bytes == held + vocabulary + 2 * 5 * 64
    )


def test_of_two_marks_the_one_that_names_its_method_counts() -> None:
    own = {"bits": 4, "group_size": 64}
    weights = build(LLAMA, quantization=own, quantization_config=own).weights
    assert weights is not None
    assert weights.method == "mlx"


def test_a_class_in_other_letters_is_the_same_class() -> None:
    assert build(LLAMA, architectures=["LLaMAForCausalLM"]).num_params == build(LLAMA).num_params


def test_older_names_of_fields_are_understood() -> None:
    old = {"model_type": "nomic_bert", "n_embd": 64, "n_head": 4, "n_inner": 96, "n_layer": 2, "vocab_size": 100}
    new = {**LLAMA, "model_type": "nomic_bert"}
    assert build(old).num_params == build(new).num_params


def test_tensors_that_are_left_plain_in_all_layers_keep_their_bytes() -> None:
    spec = build(LLAMA, quantization_config={**GROUP, "modules_to_not_convert": ["down_proj", "lm_head"]})
    assert spec.weights is not None
    assert {tensor.name for tensor in spec.tensors if tensor.plain} == {"down_proj"}
    dense = estimate(spec, load_hardware("a100-sxm-80gb"), Decomposition(), [_whole(1, 8)]).phases[0].dense
    held = sum(spec.weights.matrix_bytes(t.out_features, t.in_features) for t in spec.tensors if t.name != "down_proj")
    assert dense.weight_bytes == 2 * (held + 2 * 96 * 64) + 2 * (2 * 100 * 64 + 5 * 64)


def test_a_tensor_that_is_left_plain_in_some_layers_keeps_its_bytes_there() -> None:
    spec = build(LLAMA, quantization_config={**GROUP, "modules_to_not_convert": ["model.layers.1.self_attn.q_proj"]})
    assert spec.weights is not None
    assert [spec.tensor("q_proj", layer).plain for layer in (0, 1)] == [False, True]
    assert spec.num_params == build(LLAMA).num_params
    dense = estimate(spec, load_hardware("a100-sxm-80gb"), Decomposition(), [_whole(1, 8)]).phases[0].dense
    layer = spec.kind_of(0).tensors
    held = 2 * sum(spec.weights.matrix_bytes(t.out_features, t.in_features) for t in layer)
    plain = 2 * 64 * 64 - spec.weights.matrix_bytes(64, 64)
    assert dense.weight_bytes == held + plain + 2 * (2 * 100 * 64 + 5 * 64)


@pytest.mark.parametrize(
    ("pattern", "plain"),
    [
        (r"re:.*\.(?:q|k|v)_proj$", [{"q_proj", "k_proj", "v_proj"}] * 2),
        (r"re:^model\.layers\.(?!0\b|7\b)\d+\.mlp\..*", [set(), {"gate_proj", "up_proj", "down_proj"}]),
        (r"re:(?i).*\.Q_PROJ$", [{"q_proj"}] * 2),
        (r"re:.*(lm_head|down_proj)$", [{"down_proj"}] * 2),
        (r"re:q_proj", [set()] * 2),
        (r"re:.*vision(_tower)+.*", [set()] * 2),
    ],
)
def test_a_pattern_of_modules_leaves_plain_what_it_matches(pattern: str, plain: list[set[str]]) -> None:
    spec = build(LLAMA, quantization_config={**GROUP, "ignore": ["lm_head", pattern]})
    assert [set(spec.kind_of(layer).plain_tensors) for layer in (0, 1)] == plain


@pytest.mark.parametrize(
    "pattern", [r"re:.*(a+)+$", r"re:(?:\w|\w\w)*x", "re:" + "(" * 9000 + ")" * 9000, "re:a{99999999999999999999}"]
)
def test_a_pattern_that_could_take_for_ever_or_is_none_is_refused_in_one_line(pattern: str) -> None:
    with pytest.raises(ModelError, match=r"^[^\n]*ignore: got \['re:[^\n]*allowed: [^\n]*patterns[^\n]*$"):
        build(LLAMA, quantization_config={**GROUP, "ignore": [pattern]})


def test_a_mark_in_a_file_beside_an_unmarked_configuration_counts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    assert load_model(tmp_path).weights is None
    marks = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(marks))
    weights = load_model(tmp_path).weights
    assert weights is not None
    assert weights.dtype is DType.FP8


def test_experts_of_fp4_beside_fp8_are_held_in_four_bits() -> None:
    config = {"model_type": "deepseek_v4", "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config |= {"vocab_size": 100, "head_dim": 16, "q_lora_rank": 8, "o_groups": 2, "o_lora_rank": 8, "hc_mult": 2}
    config |= {"n_routed_experts": 4, "moe_intermediate_size": 32, "num_experts_per_tok": 2}
    fp8 = {"quant_method": "fp8", "weight_block_size": [32, 32]}
    whole, mixed = (build({**config, **more}, quantization_config=fp8) for more in ({}, {"expert_dtype": "fp4"}))
    held = [_whole_bytes(spec) for spec in (whole, mixed)]
    stacks = 2 * 4 * 3 * (64 * 32 + 4 * 64 * 32 // 1024) - 2 * 4 * 3 * (64 * 32 // 2 + 64 * 32 // 32)
    assert held[0] - held[1] == stacks


def test_modules_with_formats_of_their_own_have_their_bytes() -> None:
    layers = {f"model.layers.{layer}.mlp.{name}": {"quant_algo": "NVFP4"} for layer in (0, 1) for name in MLP}
    layers["model.layers.0.self_attn.q_proj"] = {"quant_algo": "FP8"}
    spec = build(LLAMA, quantization_config={"quant_algo": "MIXED_PRECISION", "quantized_layers": layers})
    first, second = (spec.kind_of(layer).tensors for layer in (0, 1))
    assert [tensor.name for tensor in first if tensor.form] == ["q_proj"]
    assert {tensor.name for tensor in first if tensor.plain} == {"k_proj", "v_proj", "o_proj"}
    assert [tensor.name for tensor in second if tensor.plain] == ["q_proj", "k_proj", "v_proj", "o_proj"]
    four_bits = 2 * 3 * (64 * 96 // 2 + 64 * 96 // 16)
    assert _whole_bytes(spec) == four_bits + 64 * 64 + 4 + 2 * 7 * 64 * 64 + 2 * (2 * 100 * 64 + 5 * 64)


MLP = ("gate_proj", "up_proj", "down_proj")
MORE_FORMS: list[tuple[dict[str, Any], int]] = [
    ({"quant_method": "hqq", "quant_config": {"weight_quant_params": {"nbits": 4, "group_size": 64}}}, 2048 + 64 * 4),
    ({"quant_method": "quanto", "weights": "int8"}, 4096 + 64 * 2),
    ({"quant_method": "torchao", "quant_type": {"default": {"_type": "Float8WeightOnlyConfig"}}}, 4096 + 64 * 4),
    ({"quant_method": "torchao", "quant_type": "int4_weight_only", "group_size": 32}, 2048 + 128 * 4),
    (
        {"quant_method": "quark", "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}}},
        4100,
    ),
    ({"quant_method": "bitnet"}, 1024 + 2),
]


@pytest.mark.parametrize(("settings", "expected"), MORE_FORMS, ids=lambda value: str(value)[:40])
def test_bytes_of_a_weight_of_64_by_64_in_other_libraries_formats(settings: dict[str, Any], expected: int) -> None:
    weights = build(LLAMA, quantization_config=settings).weights
    assert weights is not None
    assert weights.matrix_bytes(64, 64) == expected


def _whole_bytes(spec: ModelSpec) -> int:
    return estimate(spec, load_hardware("a100-sxm-80gb"), Decomposition(), [_whole(1, 8)]).phases[0].dense.weight_bytes
