"""Reading config.json: names, files, folders, defaults, and one-line errors for everything that is wrong."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from costmodel.cli import main
from costmodel.errors import ModelError
from costmodel.families.load import HUB_NAMES, _load_builtin, builtin_models, load_model, read_config
from costmodel.families.registry import spec_from_config
from costmodel.model import ModelSpec
from costmodel.units import DType

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "vocab_size": 100,
}
QWEN: dict[str, Any] = {**LLAMA, "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"]}
MISTRAL: dict[str, Any] = {**LLAMA, "model_type": "mistral", "architectures": ["MistralForCausalLM"]}
BERT: dict[str, Any] = {
    "model_type": "bert",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "vocab_size": 100,
}
ROBERTA: dict[str, Any] = {**BERT, "model_type": "roberta"}
GPT2: dict[str, Any] = {"model_type": "gpt2", "n_embd": 64, "n_layer": 4, "n_head": 8, "vocab_size": 100}
OPT: dict[str, Any] = {
    "model_type": "opt",
    "hidden_size": 64,
    "ffn_dim": 96,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "vocab_size": 100,
}


def build(config: dict[str, Any], num_layers: int | None = None, **changes: Any) -> ModelSpec:
    return spec_from_config({**config, **changes}, name="test", source="test", num_layers=num_layers)


def without(config: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in config.items() if name not in names}


# Where a model comes from


def test_built_in_files_and_names_agree() -> None:
    folder = Path(__file__).resolve().parents[3] / "costmodel" / "families" / "configs"
    assert {path.stem for path in folder.glob("*.json")} == set(builtin_models())


def test_built_in_models_are_cached_by_name_and_layers() -> None:
    assert load_model("gpt2") is load_model("GPT2") is load_model(HUB_NAMES["gpt2"])
    assert load_model("gpt2", num_layers=2) is not load_model("gpt2")
    assert load_model("gpt2", num_layers=2).num_layers == 2


def test_file_folder_and_string_are_the_same_model(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / "other.json").write_text(json.dumps(LLAMA))
    assert {load_model(given).name for given in (folder, str(folder), folder / "config.json")} == {"my-model"}
    assert load_model(tmp_path / "other.json").name == "other"
    assert load_model(folder).num_params == build(LLAMA).num_params


def test_the_raw_configuration_is_what_the_spec_was_made_of(tmp_path: Path) -> None:
    config = read_config("llama-70m")
    assert config["num_hidden_layers"] == load_model("llama-70m").num_layers == 10
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert read_config(tmp_path) == read_config(tmp_path / "config.json") == config
    with pytest.raises(ModelError, match="unknown model"):
        read_config("llama-71m")


def test_a_path_wins_over_a_hugging_face_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load_model("facebook/opt-125m").hidden_size == 768
    Path("facebook/opt-125m").mkdir(parents=True)
    Path("facebook/opt-125m/config.json").write_text(json.dumps(OPT))
    assert load_model("facebook/opt-125m").hidden_size == 64


def test_a_built_in_name_wins_over_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("gpt2").mkdir()
    Path("gpt2/config.json").write_text(json.dumps(GPT2))
    assert load_model("gpt2").hidden_size == 768
    assert load_model("./gpt2").hidden_size == load_model(Path("gpt2")).hidden_size == 64


def test_a_built_in_model_loads_in_five_milliseconds() -> None:
    times = []
    for _ in range(5):
        _load_builtin.cache_clear()
        start = time.perf_counter()
        load_model("llama2-70b")
        times.append(time.perf_counter() - start)
    assert min(times) < 0.005


# What the fields mean


def test_the_longest_sequence_is_the_one_that_a_file_gives() -> None:
    assert build(LLAMA, max_position_embeddings=777).max_positions == 777


def test_unknown_keys_are_ignored() -> None:
    assert (
        build(LLAMA, rope_theta=5e5, rope_scaling={"factor": 8.0}, anything=[1]).num_params == build(LLAMA).num_params
    )


@pytest.mark.parametrize("num_layers", [0, -1, 1_001, 2**31])
def test_a_number_of_layers_that_no_model_has_is_refused(num_layers: int) -> None:
    for config in (LLAMA, GPT2):
        with pytest.raises(ModelError, match=f"got {num_layers}; allowed: a whole number from 1 to 1,000"):
            build(config, num_layers)


@pytest.mark.parametrize("num_layers", [1, 3, 9])
def test_number_of_layers_can_be_replaced(num_layers: int) -> None:
    for config in (LLAMA, MISTRAL, QWEN, BERT, ROBERTA, GPT2, OPT):
        spec = build(config, num_layers)
        assert spec.num_layers == len(spec.sliding_windows) == num_layers
        difference = spec.num_params - build(config).num_params
        assert difference == (num_layers - 4) * spec.params_per_layer


@pytest.mark.parametrize("num_layers", [0, -1, 1001, True, 2.0])
def test_number_of_layers_is_checked(num_layers: Any) -> None:
    with pytest.raises(ModelError, match="num_layers"):
        load_model("gpt2", num_layers=num_layers)


def test_gpt2_understands_the_generic_names() -> None:
    generic = {
        "model_type": "gpt2",
        "hidden_size": 64,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "vocab_size": 100,
    }
    assert build(generic).num_params == build(GPT2).num_params
    assert build(GPT2, hidden_size=64).num_params == build(GPT2).num_params


def test_gpt2_inner_size_defaults_to_four_times_hidden() -> None:
    assert build(GPT2).intermediate_size == build(GPT2, n_inner=None).intermediate_size == 256
    assert build(GPT2, n_inner=80).intermediate_size == 80


def test_dtype() -> None:
    assert build(LLAMA).dtype is build(LLAMA, dtype=None, torch_dtype=None).dtype is None
    assert build(LLAMA, torch_dtype="float16").dtype is DType.FP16
    assert build(LLAMA, dtype="bfloat16", torch_dtype="float16").dtype is DType.BF16
    assert build(LLAMA, dtype="float32").dtype is DType.FP32


def test_sliding_windows() -> None:
    kinds = ["full_attention", "sliding_attention", "full_attention", "sliding_attention"]
    assert build(LLAMA).sliding_windows == (None,) * 4
    assert build(MISTRAL).sliding_windows == (4096,) * 4
    assert build(MISTRAL, sliding_window=None).sliding_windows == (None,) * 4
    assert build(QWEN, sliding_window=8).sliding_windows == (None,) * 4
    sliding = {**QWEN, "sliding_window": 8, "use_sliding_window": True}
    assert build(sliding, max_window_layers=3).sliding_windows == (None, None, None, 8)
    assert build(sliding, max_window_layers=3, num_layers=6).sliding_windows == (None, None, None, 8, 8, 8)
    assert build(sliding, layer_types=kinds).sliding_windows == (None, 8, None, 8)
    assert build(sliding, layer_types=kinds, num_layers=2).sliding_windows == (None, 8)


def test_positions_of_roberta_leave_room_for_padding() -> None:
    spec = build(ROBERTA, max_position_embeddings=514, pad_token_id=1)
    assert (spec.position_rows, spec.max_positions) == (514, 512)


# What is refused

HUGE = "9" * 5000
FIELDS = [
    (without(LLAMA, "model_type", "architectures"), "model_type is missing.*allowed: llama"),
    ({**LLAMA, "model_type": None, "architectures": None}, "model_type: got None"),
    (
        {**without(LLAMA, "model_type"), "architectures": ["NoSuchForCausalLM"]},
        "not supported: got 'NoSuchForCausalLM'",
    ),
    ({**LLAMA, "model_type": 3}, "model_type: got 3"),
    ({**LLAMA, "model_type": "rwkv"}, "architecture not supported: got 'rwkv'; allowed: llama, mistral, qwen2"),
    ({**LLAMA, "model_type": "t5"}, "architecture not supported.*an encoder-decoder"),
    ({**LLAMA, "model_type": "Llama", "architectures": None}, "architecture not supported"),
    ({**LLAMA, "architectures": ["MixtralForCausalLM"]}, "architectures: got.*Mixtral.*LlamaForCausalLM"),
    ({**QWEN, "architectures": ["Qwen2MoeForCausalLM"]}, "architectures"),
    ({**LLAMA, "architectures": "LlamaForCausalLM"}, "architectures"),
    ({**LLAMA, "architectures": ["LlamaForCausalLMEagle3"]}, "architectures: got.*Eagle3"),
    ({**LLAMA, "architectures": ["Llama"]}, "architectures: got"),
    ({**LLAMA, "quantization_config": {"bits": 4}}, "an unnamed method cannot be priced"),
    ({**LLAMA, "quantization_config": {"quant_method": "aqlm"}}, "quantised by aqlm cannot be priced.*allowed: gptq"),
    (
        {**LLAMA, "quantization_config": {"quant_method": "gptq", "bits": 5}},
        "quantization_config.bits: got 5; allowed: 2",
    ),
    ({**LLAMA, "quantization_config": "awq"}, "quantization_config: got 'awq'; allowed: an object"),
    ({**LLAMA, "is_encoder_decoder": True}, "is_encoder_decoder"),
    ({**LLAMA, "per_layer_config": {"0": {"intermediate_size": 8}}}, "per_layer_config"),
    ({"model_type": "llama", "dim": 64, "n_layers": 4, "vocab_size": 100}, "missing hidden_size, num_hidden_layers"),
    ({"model_type": "gpt2"}, "missing n_embd, n_layer, n_head"),
    ({**LLAMA, "hidden_size": -64}, "hidden_size: got -64; allowed: a whole number from 1"),
    ({**LLAMA, "hidden_size": 0}, "hidden_size: got 0"),
    ({**LLAMA, "hidden_size": 64.0}, "hidden_size: got 64.0"),
    ({**LLAMA, "hidden_size": "64"}, "hidden_size: got '64'"),
    ({**LLAMA, "hidden_size": True}, "hidden_size: got True"),
    ({**LLAMA, "hidden_size": None}, "hidden_size: got None"),
    ({**LLAMA, "hidden_size": [64]}, r"hidden_size: got \[64\]"),
    ({**LLAMA, "hidden_size": 2_000_000}, "hidden_size: got 2000000"),
    ({**LLAMA, "num_hidden_layers": 1001}, "num_hidden_layers: got 1001; .* 1,000"),
    ({**LLAMA, "vocab_size": 10**9}, "vocab_size"),
    ({**LLAMA, "intermediate_size": 10**30}, "intermediate_size"),
    ({**LLAMA, "num_attention_heads": 7}, "num_attention_heads: got 7; allowed: a divisor of hidden_size 64"),
    ({**LLAMA, "num_key_value_heads": 3}, "num_key_value_heads: got 3; allowed: a divisor of num_attention_heads 8"),
    ({**LLAMA, "num_key_value_heads": 16}, "num_key_value_heads: got 16"),
    ({**LLAMA, "head_dim": 7}, "head_dim: got 7; allowed: an even number"),
    ({**LLAMA, "head_dim": 0}, "head_dim: got 0"),
    ({**LLAMA, "attention_bias": "yes"}, "attention_bias: got 'yes'; allowed: true or false"),
    ({**LLAMA, "tie_word_embeddings": "no"}, "tie_word_embeddings: got 'no'"),
    ({**LLAMA, "is_causal": 0}, "is_causal: got 0"),
    ({**LLAMA, "hidden_act": "silux"}, "hidden_act: got 'silux'.*did you mean silu"),
    ({**LLAMA, "hidden_act": 5}, "hidden_act: got 5"),
    ({**LLAMA, "torch_dtype": "float8_e4m3fn"}, "torch_dtype: got 'float8_e4m3fn'; allowed: float32"),
    ({**LLAMA, "dtype": 16}, "dtype: got 16"),
    ({**MISTRAL, "num_key_value_heads": None}, "num_key_value_heads: got None"),
    ({**MISTRAL, "sliding_window": 0}, "sliding_window: got 0"),
    ({**MISTRAL, "layer_types": ["full_attention"] * 4}, "layer_types.*all Mistral layers"),
    ({**QWEN, "use_sliding_window": 1}, "use_sliding_window: got 1"),
    ({**QWEN, "layer_types": ["full_attention"] * 3}, "layer_types.*one entry for each of 4 layers; found: 3"),
    ({**QWEN, "layer_types": ["linear_attention"] * 4}, "layer_types"),
    ({**QWEN, "layer_types": ["sliding_attention"] * 4}, "layer_types.*use_sliding_window"),
    ({**QWEN, "layer_types": 4}, "layer_types: got 4"),
    (without(QWEN, "num_key_value_heads"), "num_key_value_heads: got 32.*used: 32"),
    ({**BERT, "is_decoder": True}, "is_decoder.*only the encoder"),
    ({**BERT, "add_cross_attention": True}, "add_cross_attention"),
    ({**BERT, "position_embedding_type": "relative_key"}, "position_embedding_type: got 'relative_key'"),
    ({**BERT, "pruned_heads": {"0": [1]}}, "pruned_heads"),
    ({**BERT, "type_vocab_size": 0}, "type_vocab_size: got 0"),
    ({**ROBERTA, "pad_token_id": None}, "pad_token_id: got None"),
    ({**ROBERTA, "max_position_embeddings": 2}, "max_position_embeddings: got 2; allowed: more than"),
    ({**GPT2, "add_cross_attention": True}, "add_cross_attention"),
    ({**GPT2, "n_inner": 0}, "n_inner: got 0"),
    ({**GPT2, "hidden_size": 32}, "hidden_size: got 32; allowed: the value of n_embd, 64"),
    ({**GPT2, "n_head": 5}, "n_head: got 5; allowed: a divisor of n_embd 64"),
    ({**OPT, "word_embed_proj_dim": -1}, "word_embed_proj_dim: got -1"),
    ({**OPT, "do_layer_norm_before": "false"}, "do_layer_norm_before"),
]
TEXTS: list[tuple[bytes, str]] = [
    (b"", "model file is not JSON"),
    (b" \n\t", "model file is not JSON"),
    (b"not json", "is not JSON"),
    (b'{"hidden_size": 64, "hidden_size": 128}', "key 'hidden_size' twice in one object"),
    (b'{"hidden_size": 64', "is not JSON"),
    (b"{'hidden_size': 64}", "is not JSON"),
    (b"[1, 2]", r"not a JSON object: got \[1, 2\]"),
    (b'"llama2-7b"', "not a JSON object: got 'llama2-7b'"),
    (b"null", "not a JSON object: got None"),
    (json.dumps(LLAMA).replace("64", "NaN").encode(), "hidden_size: got nan; allowed: a whole number"),
    (json.dumps(LLAMA).replace("64", "-Infinity").encode(), "hidden_size: got -inf; allowed: a whole number"),
    (json.dumps(LLAMA).replace("64", HUGE).encode(), "hidden_size: got inf"),
    (json.dumps(LLAMA).replace("64", "1e999").encode(), "hidden_size: got inf"),
    (b"[" * 200_000, "nested too deeply"),
    (b"\xff\xfe{\x00", "not UTF-8"),
    (b"\xef\xbb\xbf{}", "model_type is missing"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12\n", "a Git LFS pointer.*git lfs pull"),
    (b"\x00" * 17_000_000, "up to 16,000,000 bytes"),
]


def assert_refused(given: str | Path, pattern: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`given` is refused by the library in one line, and by the command in the same line with exit code 2."""
    with pytest.raises(ModelError, match=pattern) as caught:
        load_model(given)
    message = str(caught.value)
    assert "\n" not in message
    with pytest.raises(SystemExit) as exited:
        main(["models", "show", str(given)])
    assert exited.value.code == 2
    assert capsys.readouterr() == ("", f"error: {message}\n")


@pytest.mark.parametrize(("config", "pattern"), FIELDS, ids=[pattern[:40].replace("\\", "") for _, pattern in FIELDS])
def test_bad_fields(config: dict[str, Any], pattern: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    assert_refused(path, pattern, capsys)
    with pytest.raises(ModelError, match=f"^{path}: "):
        load_model(tmp_path)


@pytest.mark.parametrize(("content", "pattern"), TEXTS, ids=[pattern[:40].replace("\\", "") for _, pattern in TEXTS])
def test_bad_files(content: bytes, pattern: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    assert_refused(path, pattern, capsys)


def test_bad_paths(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert_refused(tmp_path, "folder without config.json", capsys)
    assert_refused(str(tmp_path / "absent"), "unknown model", capsys)
    (tmp_path / "config.json").mkdir()
    assert_refused(tmp_path, "cannot read model file", capsys)
    for name in ("", "lama2-7b", "x" * 5000, "a\0b", "a\nb"):
        assert_refused(name, "model", capsys)


def test_nearest_names_are_offered() -> None:
    with pytest.raises(ModelError, match=r"unknown model: got 'lama2-7b'.*did you mean llama2-7b"):
        load_model("lama2-7b")
    with pytest.raises(ModelError, match=r"list the built-in ones with `costmodel models list`"):
        load_model("zzz")


def test_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(LLAMA))

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    assert_refused(path, "cannot read model file.*Permission denied", capsys)


NAMES = sorted(
    {name for config in (LLAMA, BERT, GPT2, OPT) for name in config}
    | {"head_dim", "sliding_window", "use_sliding_window", "layer_types", "max_window_layers", "hidden_act", "dtype"}
    | {"attention_bias", "n_inner", "word_embed_proj_dim", "pad_token_id", "max_position_embeddings", "torch_dtype"}
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(
    config=st.sampled_from([LLAMA, MISTRAL, QWEN, BERT, ROBERTA, GPT2, OPT]),
    changes=st.dictionaries(st.sampled_from(NAMES), VALUES, min_size=1, max_size=3),
)
def test_any_value_gives_a_model_or_a_model_error(config: dict[str, Any], changes: dict[str, Any]) -> None:
    try:
        params = build(config, **changes).num_params
    except ModelError:
        return
    assert params > 0


def test_an_unknown_type_of_a_known_class_is_read_where_both_are_of_one_family() -> None:
    config = {"architectures": ["DeepseekV4ForCausalLM"], "hidden_size": 64, "num_attention_heads": 4}
    spec = spec_from_config({**config, "model_type": "deepseek_ref"}, name="ref", source="ref", num_layers=1)
    assert spec.model_type == "deepseek_v4"
    with pytest.raises(ModelError, match="not supported"):
        spec_from_config({**config, "model_type": "rwkv_ref"}, name="ref", source="ref", num_layers=1)
