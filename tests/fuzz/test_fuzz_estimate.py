"""Mutated models, profiles, stacks, calibrations, configurations, SPECs and quality files, read by `costmodel`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from exploring import quality_data
from fuzzing import cases, hold, keeps_the_law, mutated, mutated_text, mutated_values
from hypothesis import strategies as st

from costmodel.cli import cli
from costmodel.families.load import load_model
from costmodel.hardware.profile import profile_folder
from costmodel.space.make import design_space

MODELS = Path(load_model.__code__.co_filename).parent / "configs"
TINY = {
    "model_type": "llama",
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_hidden_layers": 3,
    "vocab_size": 128,
    "max_position_embeddings": 128,
    "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    "torch_dtype": "float16",
    "architectures": ["LlamaForCausalLM"],
}
SHORT = ["--seq-len", "16", "--format", "json"]


def _sane(answer: Any) -> None:
    """The right kind of answer: times and sizes that are finite numbers above zero."""
    for phase in answer["phases"]:
        for costs in (phase["dense"], phase["decomposed"]):
            assert costs["params"] > 0
            assert 0 < costs["latency_s"] < 1e30
            assert costs["peak_memory_bytes"] > 0


def _estimate(path: Path, option: str, more: list[str]) -> Any:
    def law(content: bytes) -> None:
        path.write_bytes(content)
        keeps_the_law(cli, ["estimate", option, str(path), *more, *SHORT], check=_sane)

    return law


@cases(150)
def test_config_json(cases: int, tmp_path: Path) -> None:
    law = _estimate(tmp_path / "config.json", "--model", ["--hw", "l4", "--decompose", "rank=2"])
    more = [
        json.loads((MODELS / f"{name}.json").read_text()) for name in ("gpt2", "bert-base", "qwen3-0.6b", "opt-350m")
    ]
    for config in more:
        config.update({name: 2 for name in ("n_layer", "num_hidden_layers") if name in config})
        config.pop("layer_types", None)
    hold(law, st.one_of(mutated(TINY), *map(mutated, more)), cases)


@cases(100)
def test_profiles(cases: int, tmp_path: Path) -> None:
    good = (profile_folder() / "t4.toml").read_text()
    law = _estimate(tmp_path / "device.toml", "--hw", ["--model", "gpt2", "--dtype", "fp16"])
    hold(law, st.one_of(mutated_values(good), mutated_text(good.encode())), cases)


@cases(100)
def test_stacks(cases: int, tmp_path: Path) -> None:
    good = (profile_folder() / "stacks" / "vllm.toml").read_text()
    law = _estimate(tmp_path / "stack.toml", "--stack", ["--model", "gpt2", "--hw", "a100-sxm-80gb"])
    hold(law, st.one_of(mutated_values(good), mutated_text(good.encode())), cases)


@cases(150)
def test_calibrations(cases: int, tmp_path: Path) -> None:
    folder = profile_folder() / "calibrations"
    good = [json.loads((folder / f"{name}.json").read_text()) for name in ("amd-epyc-2t", "l40s")]
    more = ["--model", "gpt2", "--hw"]
    laws = [
        _estimate(tmp_path / "epyc.json", "--calibration", [*more, "amd-epyc-2t", "--dtype", "fp32"]),
        _estimate(tmp_path / "l40s.json", "--calibration", [*more, "l40s", "--runtime", "graph"]),
    ]
    for law, content in zip(laws, good, strict=True):
        hold(law, mutated(content), cases // 2)


@cases(200)
def test_configurations(cases: int, tmp_path: Path) -> None:
    ranks = {"layers.2.query": {"form": "tucker", "rank": [8, 16]}, "layers.3.key": 4, "layers.4.output": 1}
    good = {"form": "svd", "ranks": ranks, "drop": [5]}
    law = _estimate(tmp_path / "config.json", "--config", ["--model", "bert-base", "--hw", "l4"])
    hold(law, mutated(good), cases)


@cases(300)
def test_spec(cases: int) -> None:
    good = b"layers=2,4-8,0-10:2 tensors=attn,output rank=50% form=tucker"
    words = [
        b"layers=",
        b"rank=",
        b" ",
        b"=",
        b"%",
        b"-",
        b":",
        b"0",
        b"10000000000000000000000",
        b"drop",
        b"all",
        b"1e3",
    ]

    def law(content: bytes) -> None:
        spec = content.decode("utf-8", "surrogateescape")
        keeps_the_law(cli, ["estimate", "--model", "bert-base", "--hw", "l4", "--decompose", spec, *SHORT], check=_sane)

    hold(law, mutated_text(good, words), cases)


@cases(100)
def test_quality_files(cases: int, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(TINY))
    model = load_model(tmp_path)
    good = quality_data(design_space(model, ranks=[8]), 3, states=3)
    path = tmp_path / "quality.json"
    question = ["--space", "per-layer", "--ranks", "8", "--objectives", "latency_s,quality", "--top", "2"]

    def law(content: bytes) -> None:
        path.write_bytes(content)
        arguments = ["explore", "--model", str(tmp_path), "--hw", "l4", "--phase", "prefill", "--seq-len", "16"]
        keeps_the_law(cli, [*arguments, *question, "--quality", str(path), "--format", "json"])

    hold(law, mutated(good), cases)
