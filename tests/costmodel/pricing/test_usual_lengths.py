"""Lengths that nobody names fit the model: 512 tokens and one more, but no more than it has positions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import costmodel as cm
from costmodel.cli import cli, run

CONFIG: dict[str, Any] = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "vocab_size": 128,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


@pytest.mark.parametrize(
    ("positions", "given", "lengths"),
    [
        (2048, {}, (512, 513)),
        (513, {}, (512, 513)),
        (512, {}, (512, 512)),
        (128, {}, (128, 128)),
        (1, {}, (1, 1)),
        (512, {"seq_len": 512}, (512, 512)),
        (512, {"seq_len": 511}, (511, 512)),
        (512, {"seq_len": 600}, (600, 601)),
        (512, {"kv_len": 600}, (512, 600)),
        (128, {"kv_len": 64}, (128, 64)),
    ],
)
def test_python_and_the_command_ask_of_lengths_that_fit(
    positions: int,
    given: dict[str, int],
    lengths: tuple[int, int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "max_position_embeddings": positions}))
    found = cm.estimate(tmp_path, "l4", **given)
    prefill, decode = (phase.workload for phase in found.phases)
    assert (prefill.q_len, decode.kv_len) == lengths
    words = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert run(cli, ["estimate", "--model", str(tmp_path), "--hw", "l4", *words, "--format", "json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["phases"] == json.loads(json.dumps(found.to_dict()))["phases"]
    assert ("beyond" in " ".join([printed.err, *found.warnings])) == (max(lengths) > positions)


def test_a_device_that_refuses_tells_of_the_same_lengths(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "max_position_embeddings": 100}))
    found = cm.compare(tmp_path, ["amd-epyc-2t", "l4"], stack="vllm")
    (refused,) = found.refused
    assert [(place.q_len, place.kv_len) for place in refused.places] == [(100, 100), (1, 100)]
    assert [(each.workload.q_len, each.workload.kv_len) for each in found.results[0].phases] == [(100, 100), (1, 100)]
