"""Drafts for speculative decoding and unknown heads are refused by the name of their class; heads of one type alone,
and sequences of a million tokens, are read."""

from __future__ import annotations

from typing import Any

import pytest

from costmodel.errors import ModelError
from costmodel.families.registry import spec_from_config
from costmodel.model import ModelSpec

SMALL: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}


def build(**changes: Any) -> ModelSpec:
    return spec_from_config({**SMALL, **changes}, name="test", source="test")


@pytest.mark.parametrize(
    ("model_type", "name"),
    [
        ("llama", "LlamaForCausalLMEagle3"),
        ("qwen2", "LlamaForCausalLMEagle3"),
        ("qwen3", "DFlashDraftModel"),
        ("deepseek_v3", "DeepseekV3ForCausalLMNextN"),
        ("eagle", "EagleForCausalLM"),
        ("medusa", "MedusaModel"),
        ("deepseek_mtp", "DeepSeekMTPModel"),
    ],
)
def test_a_draft_is_refused_by_its_class(model_type: str, name: str) -> None:
    with pytest.raises(ModelError, match=rf"{name} lacks a row: a draft for speculative decoding"):
        build(model_type=model_type, architectures=[name])


def test_a_draft_that_names_the_class_of_a_whole_model_is_refused_too() -> None:
    named = ["LlamaForCausalLM"]
    assert build(architectures=named, draft_vocab_size=None).num_params == build().num_params
    for key, value in (("draft_vocab_size", 50), ("eagle_config", {"use_last_layernorm": True})):
        with pytest.raises(ModelError, match=rf"field {key}.* LlamaForCausalLM lacks a row: a draft"):
            build(architectures=named, **{key: value})


def test_a_class_that_is_not_known_is_said_to_be_unlike_one_of_another_type() -> None:
    with pytest.raises(ModelError, match="LlamaForGuardModel lacks a row: a head or layers of its own"):
        build(architectures=["LlamaForGuardModel"])
    with pytest.raises(
        ModelError, match="BertLMHeadModel lacks a row: an encoder's layers made to see the tokens before"
    ):
        build(model_type="bert", architectures=["BertLMHeadModel"])
    with pytest.raises(ModelError, match="Qwen3Model is a class of model_type qwen3"):
        build(architectures=["Qwen3Model"])
    with pytest.raises(ModelError, match=r"got 'git'.* Grok1ForCausalLM lacks a row: a mixture of experts"):
        build(model_type="git", architectures=["Grok1ForCausalLM"])


def test_reward_models_of_qwen2_end_in_two_linears() -> None:
    body = build(model_type="qwen2", architectures=["Qwen2Model"])
    for name, outputs in (("Reward", 1), ("ProcessReward", 2)):
        spec = build(model_type="qwen2", architectures=[f"Qwen2For{name}Model"])
        assert spec.num_params - body.num_params == 64 * 64 + 64 + outputs * (64 + 1)
        assert not spec.generates
    with pytest.raises(ModelError, match="LlamaForRewardModel"):
        build(architectures=["LlamaForRewardModel"])


def test_an_encoders_body_keeps_its_pooler_where_embeddings_are_said_not_to_be_tied() -> None:
    config = {**SMALL, "model_type": "xlm-roberta", "architectures": ["XLMRobertaModel"], "max_position_embeddings": 64}
    specs = [
        spec_from_config({**config, "tie_word_embeddings": tied}, name="test", source="test") for tied in (True, False)
    ]
    assert specs[0].num_params == specs[1].num_params
    assert specs[1].pooler


def test_a_number_of_labels_wins_over_their_names_as_in_transformers() -> None:
    named = {"architectures": ["LlamaForSequenceClassification"], "id2label": {"0": "a", "1": "b", "2": "c"}}
    assert build(**named).head.labels == 3
    assert build(**named, num_labels=1).head.labels == 1
    assert build(**named, num_labels=None).head.labels == 3


def test_null_under_an_older_name_says_nothing_beside_a_value() -> None:
    config = {**SMALL, "model_type": "nomic_bert", "n_inner": None}
    assert spec_from_config(config, name="test", source="test").intermediate_size == 96
    with pytest.raises(ModelError, match="n_inner: got 100"):
        spec_from_config({**config, "n_inner": 100}, name="test", source="test")


def test_a_llama_that_sees_both_sides_is_a_llama_without_a_cache() -> None:
    spec = build(model_type="llama_bidirec", architectures=["LlamaBidirectionalModel"], auto_map={"AutoModel": "a.B"})
    assert spec.num_params == build(architectures=["LlamaModel"]).num_params
    assert spec.is_encoder


@pytest.mark.parametrize(
    ("model_type", "name"),
    [("chatglm", "seq_length"), ("mpt", "max_seq_len"), ("gpt_bigcode", "n_positions"), ("mistral", "sliding_window")],
)
def test_a_million_positions_are_no_mistake(model_type: str, name: str) -> None:
    sizes = {"padded_vocab_size": 100, "num_layers": 2, "ffn_hidden_size": 96, "kv_channels": 16}
    sizes |= {"d_model": 64, "n_layers": 2, "n_heads": 4, "n_embd": 64, "n_layer": 2, "n_head": 4}
    config = {**SMALL, **sizes} if model_type in ("chatglm", "mistral") else {**sizes, "vocab_size": 100}
    spec = spec_from_config({**config, "model_type": model_type, name: 1 << 20}, name="test", source="test")
    assert 1 << 20 in (spec.max_positions, spec.sliding_windows[0])


def test_the_body_of_a_model_around_a_language_model_has_no_lm_head() -> None:
    inner = {**SMALL, "model_type": "qwen2_vl_text", "tie_word_embeddings": False}
    whole, body = (
        spec_from_config(
            {"model_type": "qwen2_vl", "architectures": [name], "text_config": inner}, name="test", source="test"
        )
        for name in ("Qwen2VLForConditionalGeneration", "Qwen2VLModel")
    )
    assert whole.num_params - body.num_params == 100 * 64
    assert (whole.generates, body.generates) == (True, False)
    with pytest.raises(ModelError, match="ColQwen2ForRetrieval lacks a row: a head or layers of its own"):
        spec_from_config(
            {"model_type": "colqwen2", "architectures": ["ColQwen2ForRetrieval"], "text_config": inner},
            name="test",
            source="test",
        )


@pytest.mark.parametrize("end", ["SequenceClassification", "TokenClassification"])
def test_a_classifier_around_a_language_model_has_the_labels_of_the_whole(end: str) -> None:
    inner = {**SMALL, "model_type": "qwen2_vl_text", "tie_word_embeddings": False}
    whole = {"model_type": "qwen2_vl", "text_config": inner, "id2label": {str(label): "L" for label in range(5)}}
    body, spec = (
        spec_from_config({**whole, "architectures": [name]}, name="test", source="test")
        for name in ("Qwen2VLModel", f"Qwen2VLFor{end}")
    )
    assert spec.num_params - body.num_params == 5 * (64 + (end == "TokenClassification"))
    assert not spec.generates
    with pytest.raises(ModelError, match="Qwen2_5_VLForSequenceClassification lacks a row"):
        spec_from_config({**whole, "architectures": ["Qwen2_5_VLForSequenceClassification"]}, name="test", source="x")


@pytest.mark.parametrize("model_type", ["deberta", "deberta-v2"])
def test_a_pooler_wider_than_what_it_reads_is_refused_where_there_is_one(model_type: str) -> None:
    config = {**SMALL, "model_type": model_type, "pooler_hidden_size": 128}
    named = {"architectures": [f"{'DebertaV2' if model_type != 'deberta' else 'Deberta'}ForSequenceClassification"]}
    assert spec_from_config(config, name="test", source="test").num_params
    assert spec_from_config({**config, **named, "pooler_hidden_size": 64}, name="test", source="test").num_params
    with pytest.raises(ModelError, match="pooler_hidden_size: got 128; allowed: hidden_size 64"):
        spec_from_config({**config, **named}, name="test", source="test")


@pytest.mark.parametrize(
    ("model_type", "words"),
    [
        ("t5", "an encoder-decoder: a second stack"),
        ("vision-encoder-decoder", "an encoder-decoder: a second stack"),
        ("siglip_text_model", "the text encoder of a model of images or sound"),
        ("longformer", "attention in windows beside tokens that see all"),
        ("mobilebert", "a narrow path through each layer"),
        ("convbert", "convolutions of spans beside attention"),
        ("fnet", "Fourier transforms in place of attention"),
        ("xlnet", "two streams of attention"),
        ("flaubert", "layers whose parts stand in several lists"),
        ("layoutlmv3", "embeddings and attention of a page's layout"),
        ("zamba2", "transformer blocks whose weights several layers share"),
        ("rwkv", "recurrent or state-space layers"),
    ],
)
def test_a_type_without_a_row_is_refused_by_what_it_has_that_none_prices(model_type: str, words: str) -> None:
    with pytest.raises(ModelError, match=f"got {model_type!r}.* lacks a row: {words}") as refused:
        build(model_type=model_type)
    assert "\n" not in str(refused.value)


def test_a_text_encoder_is_priced_alone_and_refused_inside_a_model_of_images() -> None:
    inner = {**SMALL, "model_type": "clip_text_model", "max_position_embeddings": 16}
    named = spec_from_config({**inner, "architectures": ["CLIPTextModelWithProjection"]}, name="test", source="test")
    body = spec_from_config({**inner, "architectures": ["CLIPTextModel"]}, name="test", source="test")
    assert named.num_params - body.num_params == 512 * 64
    whole = {"model_type": "clip", "architectures": ["CLIPModel"], "text_config": inner}
    with pytest.raises(ModelError, match="CLIPModel lacks a row: a vision model"):
        spec_from_config(whole, name="test", source="test")
