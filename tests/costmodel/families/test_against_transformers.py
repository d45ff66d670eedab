"""Parameters, shapes, paths and biases against transformers' own models on the meta device (no memory, no weights)."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from costmodel.families.load import builtin_models, load_model
from costmodel.families.registry import spec_from_config
from costmodel.model import ModelSpec

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

CONFIGS = Path(__file__).resolve().parents[3] / "costmodel" / "families" / "configs"
MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "bert", "roberta", "gpt2", "opt")
OUTER_MODULES = {
    "llama": {"token_embedding": "model.embed_tokens", "final_norm": "model.norm", "lm_head": "lm_head"},
    "bert": {
        "token_embedding": "embeddings.word_embeddings",
        "position_embedding": "embeddings.position_embeddings",
        "token_type_embedding": "embeddings.token_type_embeddings",
        "embedding_norm": "embeddings.LayerNorm",
        "pooler": "pooler",
    },
    "gpt2": {
        "token_embedding": "transformer.wte",
        "position_embedding": "transformer.wpe",
        "final_norm": "transformer.ln_f",
        "lm_head": "lm_head",
    },
    "opt": {
        "token_embedding": "model.decoder.embed_tokens",
        "position_embedding": "model.decoder.embed_positions",
        "project_in": "model.decoder.project_in",
        "final_norm": "model.decoder.final_layer_norm",
        "project_out": "model.decoder.project_out",
        "lm_head": "lm_head",
    },
}


def real_model(config: dict[str, Any], is_encoder: bool) -> Any:
    """transformers' model of `config`, without memory for its weights."""
    settings = transformers.CONFIG_MAPPING[config["model_type"]].from_dict(config)
    auto = transformers.AutoModel if is_encoder else transformers.AutoModelForCausalLM
    with torch.device("meta"):
        return auto.from_config(settings)


def count(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def assert_equal_structure(spec: ModelSpec, model: Any) -> None:
    """Every number that the spec states about its weights is the real module tree's."""
    assert spec.num_params == count(model)
    layers = model.get_submodule(spec.layer_prefix)
    assert len(layers) == spec.num_layers == len(spec.sliding_windows)
    for layer, window in zip(layers, spec.sliding_windows, strict=True):
        assert count(layer) == spec.params_per_layer
        if spec.model_type in ("qwen2", "qwen3"):
            assert layer.self_attn.sliding_window == window
        elif spec.model_type == "mistral":
            assert model.config.sliding_window == window
    for tensor in spec.tensors:
        module = layers[0].get_submodule(tensor.path)
        shape = (tensor.out_features, tensor.in_features)
        stored = tuple(module.weight.shape)
        assert (stored if isinstance(module, torch.nn.Linear) else stored[::-1]) == shape  # Conv1D is (in, out)
        assert (module.bias is not None) == tensor.bias
    matrices = [parameter for parameter in layers[0].parameters() if parameter.dim() == 2]
    assert len(matrices) == len(spec.tensors)
    tied = not spec.is_encoder and model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert spec.tie_embeddings == tied
    modules = dict(model.named_modules())
    for part, params in spec.outer_params.items():
        path = OUTER_MODULES[spec.family.name].get(part)
        own = 0 if path is None or path not in modules or (part == "lm_head" and tied) else count(modules[path])
        assert params == own, part
    position_table = OUTER_MODULES[spec.family.name].get("position_embedding")
    assert spec.position_rows == (modules[position_table].weight.shape[0] if position_table else 0)


@pytest.mark.parametrize("name", [name for name in builtin_models() if load_model(name).family.name in OUTER_MODULES])
def test_built_in_models(name: str) -> None:
    spec = load_model(name)
    assert_equal_structure(spec, real_model(json.loads((CONFIGS / f"{name}.json").read_text()), spec.is_encoder))


def random_config(model_type: str, rng: random.Random) -> dict[str, Any]:
    """A small valid configuration in which every optional field is sometimes absent."""
    kv_heads = rng.choice([1, 2, 4])
    heads = kv_heads * rng.choice([1, 2, 4])
    hidden, inner, layers = heads * rng.choice([4, 8, 10]), rng.randint(1, 70), rng.randint(1, 5)
    common = {"vocab_size": rng.randint(3, 90), "model_type": model_type}
    if model_type == "gpt2":
        required = {"n_embd": hidden, "n_layer": layers, "n_head": heads}
        optional = {"n_inner": rng.choice([None, inner]), "n_positions": rng.randint(8, 64)}
    else:
        required = {"hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads}
        optional = {"max_position_embeddings": rng.randint(8, 64)}
        required["ffn_dim" if model_type == "opt" else "intermediate_size"] = inner
    optional["tie_word_embeddings"] = rng.random() < 0.5
    if model_type in ("llama", "mistral", "qwen2", "qwen3"):
        required["num_key_value_heads"] = kv_heads
        optional["head_dim"] = rng.choice([2, 6, 16])
    if model_type in ("llama", "qwen3"):
        optional["attention_bias"] = rng.random() < 0.5
    if model_type == "llama":
        optional["mlp_bias"] = rng.random() < 0.5
    if model_type == "mistral":
        optional["sliding_window"] = rng.choice([None, 1, 16])
    if model_type in ("qwen2", "qwen3"):
        optional |= {"sliding_window": rng.choice([8, 16]), "max_window_layers": rng.randint(0, 5)}
        required["use_sliding_window"] = rng.random() < 0.7
        if required["use_sliding_window"]:
            optional["layer_types"] = rng.choices(["full_attention", "sliding_attention"], k=layers)
    if model_type in ("bert", "roberta"):
        optional |= {"type_vocab_size": rng.randint(1, 3), "pad_token_id": rng.choice([0, 1, 2])}
    if model_type == "opt":
        optional["word_embed_proj_dim"] = rng.choice([None, hidden, 12])
        for name in (
            "do_layer_norm_before",
            "enable_bias",
            "layer_norm_elementwise_affine",
            "_remove_final_layer_norm",
        ):
            optional[name] = rng.random() < 0.5
    return common | required | {name: value for name, value in optional.items() if rng.random() < 0.8}


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_random_models(model_type: str) -> None:
    rng = random.Random(f"structure of {model_type}")
    for _ in range(25):
        config = random_config(model_type, rng)
        spec = spec_from_config(config, name="random", source=json.dumps(config))
        assert_equal_structure(spec, real_model(config, spec.is_encoder))


@pytest.mark.parametrize("model_type", MODEL_TYPES)
def test_defaults_of_absent_fields(model_type: str) -> None:
    sizes = {"hidden_size": 64, "num_hidden_layers": 30, "num_attention_heads": 32, "vocab_size": 9}
    config = {"model_type": model_type, **sizes, "ffn_dim" if model_type == "opt" else "intermediate_size": 40}
    spec = spec_from_config(config, name="defaults", source="defaults")
    model = real_model(config, spec.is_encoder)
    assert_equal_structure(spec, model)
    activation = "hidden_act" if spec.family.name in ("llama", "bert") else "activation_function"
    assert spec.activation == getattr(model.config, activation)
    if spec.family.name == "llama":
        assert spec.max_positions == model.config.max_position_embeddings
