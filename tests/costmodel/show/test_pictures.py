"""Still pictures in a real browser: no letter cut, none on another, none too small or too pale to read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")
pytest.importorskip("matplotlib")

from browser import Tab, browser, find_chromium, stumbles

import costmodel as cm
from costmodel.cli import cli, run
from costmodel.show.figure import figure_bytes
from costmodel.show.share_plot import comparison_figure

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")

A100 = ["--model", "llama2-7b", "--hw", "a100-sxm-80gb"]
SEVERAL = ["--model", "qwen3-30b-a3b", "--hw", "h100-sxm-80gb", "--decompose", "rank=50%"]
COMMANDS = {
    "time": ["estimate", *A100, "--decompose", "layers=8-23 rank=512", "--plot"],
    "time of experts": ["estimate", *SEVERAL, "--plot"],
    "roofline": ["roofline", *A100, "--batch", "16", "--decompose", "layers=8-23 rank=1024", "-o"],
    "roofline of experts": ["roofline", *SEVERAL, "-o"],
    "graph": ["graph", *A100, "--decompose", "layers=8-23 tensors=all rank=256", "-o"],
    "graph of experts": ["graph", "--model", "deepseek-v3", "--hw", "h200-sxm", "--decompose", "rank=25%", "-o"],
    "frontier": ["explore", *A100, "--runtime", "graph", "--phase", "decode", "--ranks", "25%,50%", "--plot"],
}


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with browser() as started:
        yield started


@pytest.mark.parametrize("name", COMMANDS)
def test_a_picture_that_a_command_writes_is_read_without_a_stumble(name: str, tab: Tab, tmp_path: Path) -> None:
    file = tmp_path / "picture.svg"
    assert run(cli, [*COMMANDS[name], str(file)]) == 0
    assert "\N{HORIZONTAL ELLIPSIS}" not in file.read_text(encoding="utf-8")
    assert stumbles(tab, file, tmp_path) == []


def test_pictures_of_answers_are_read_without_a_stumble(tab: Tab, tmp_path: Path) -> None:
    devices = ["l4", "h100-sxm-80gb"]
    answers = {
        "comparison": cm.compare("llama2-7b", devices, "rank=50%", batch=[1, 32], phase="decode"),
        "dense": cm.compare("llama2-7b", devices, batch=[1, 32]),
        "goals": cm.recommend("qwen2.5-1.5b", devices, batch=[1, 32], faster="20%", phase="decode", runtime="graph"),
        "sizes": cm.recommend("llama2-7b", devices, fits="10GB", stack=["vllm", "tensorrt-llm"]),
    }
    file = tmp_path / "picture.svg"
    for name, answer in answers.items():
        file.write_bytes(figure_bytes(answer.plot(), "svg"))
        assert (name, stumbles(tab, file, tmp_path)) == (name, [])


def test_dark_pictures_are_read_without_a_stumble(tab: Tab, tmp_path: Path) -> None:
    file = tmp_path / "picture.svg"
    for spec in ("rank=50%", ""):
        answer = cm.compare("llama2-7b", ["l4", "t4"], spec, batch=[1, 32], phase="decode", dtype="fp16")
        file.write_bytes(figure_bytes(comparison_figure(list(answer), "dark"), "svg"))
        assert stumbles(tab, file, tmp_path) == []
