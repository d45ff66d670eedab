"""Stacks and hosts as data: what ships can be read and is sourced, and a malformed file is one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from costmodel.cli import cli, run
from costmodel.errors import HardwareError
from costmodel.hardware.host import host_of, hosts
from costmodel.hardware.profile import builtin_hardware, load_hardware, profile_folder
from costmodel.hardware.stack import CLASSES, builtin_stacks, load_stack

FOLDER = profile_folder() / "stacks"
ASKED = (
    "transformers",
    "transformers-4.35",
    "transformers-4.46",
    "torchscript",
    "torch-compile",
    "vllm",
    "tensorrt-llm",
    "lmdeploy",
    "fastertransformer",
    "tensorrt",
    "llama.cpp-cuda",
    "llama.cpp-cpu",
    "kernels-summed",
)


@pytest.mark.parametrize("name", builtin_stacks())
def test_a_stack_that_ships_is_whole(name: str) -> None:
    stack = load_stack(name)
    assert stack.name == name
    assert set(stack.time) == set(stack.launches) == set(CLASSES)
    assert all(figure.source for figure in stack.figures)
    assert stack.launch_s is None or (stack.launch_s > 0) == (stack.runtime == "eager")


def test_the_common_stacks_are_there() -> None:
    assert set(ASKED) <= set(builtin_stacks())
    assert load_stack("pytorch-kernels-summed").name == "kernels-summed"


def test_the_runtimes_are_stacks_that_change_nothing() -> None:
    for name in ("eager", "graph"):
        stack = load_stack(name)
        assert stack.runtime == name
        assert stack.is_bare
    assert [name for name in builtin_stacks() if load_stack(name).is_bare] == ["eager", "graph"]


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('kind = "eager"', 'kind = "fast"', "kind: got 'fast'"),
        ("time.gemm = {", "time.gem = {", "gem"),
        ('source = "', 'source = "nobody ', "source"),
        ("launch_us = {", 'launch_us = { value = -5, source = "prior" } #', "launch_us"),
        ("launch_us = {", 'launch_us = { value = 0, source = "published" } #', "launch_us.value: got 0"),
        ("step_us = {", 'gemm_bytes_per_cycle = { value = 0, source = "prior" }\nstep_us = {', "gemm_bytes_per_cycle"),
        ("schema = 1", "schema = 2", "schema: got 2"),
    ],
)
def test_a_malformed_file_is_told_in_one_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    path = tmp_path / "mine.toml"
    text = (FOLDER / "transformers.toml").read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(HardwareError) as caught:
        load_stack(path)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_stack_or_host_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["estimate", "--model", "gpt2", "--hw", "l4", "--stack"]
    assert run(cli, [*asked, "vlm"]) == 2
    assert "unknown stack: got 'vlm'" in capsys.readouterr().err
    assert run(cli, [*asked, "vllm", "--host", "laptop"]) == 2
    assert "unknown host: got 'laptop'" in capsys.readouterr().err


def test_every_gpu_has_a_class_of_host_and_a_named_one_wins() -> None:
    named = {architecture for host in hosts().values() for architecture in host.architectures}
    for name in builtin_hardware():
        device = load_hardware(name)
        assert not device.asynchronous or device.architecture in named, name
    assert (
        host_of(None, load_hardware("v100-sxm2-16gb")).slowness > host_of(None, load_hardware("a100-sxm-80gb")).slowness
    )
    assert host_of("desktop", load_hardware("t4")).name == "desktop"


def test_stacks_are_listed_shown_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["stacks", "list", "--format", "csv"]) == 0
    assert "tensorrt-llm" in capsys.readouterr().out
    assert run(cli, ["stacks", "show", "vllm", "--format", "json"]) == 0
    assert '"time.gemm"' in capsys.readouterr().out
    assert run(cli, ["stacks", "check", str(FOLDER / "vllm.toml")]) == 0
    assert "stack vllm" in capsys.readouterr().out
