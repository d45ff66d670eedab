"""The roofline picture: what lies where, and the command that draws it."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest

from costmodel import load_hardware, load_model, parse_decomposition
from costmodel.cli import cli, run
from costmodel.estimate import estimate
from costmodel.figure import COLOURS
from costmodel.page import make_page
from costmodel.roofline_chart import GROUPS, RooflineChart, device_roofs
from costmodel.roofline_plot import GROUP_COLOURS, roofline_figure
from costmodel.units import DType
from costmodel.workload import Workload

SETUP = ["--model", "llama2-7b", "--hw", "a100-sxm-80gb"]
SPEC = "layers=2,17,31 tensors=all rank=1 form=tucker"


@pytest.fixture(scope="module")
def chart() -> RooflineChart:
    model, hardware = load_model("llama2-7b"), load_hardware("a100-sxm-80gb")
    works = [Workload.prefill(512), Workload.decode(513)]
    return RooflineChart.of(estimate(model, hardware, parse_decomposition([SPEC], model), works))


def test_every_operation_is_in_one_mark_or_computes_nothing(chart: RooflineChart) -> None:
    for panel in chart.panels:
        dense = [mark for mark in panel.marks if mark.variant == "dense"]
        assert sum(mark.share for mark in dense) + panel.idle == pytest.approx(1)
        assert sorted(panel.marks[: len(dense)], key=lambda mark: -mark.latency_s) == dense
        roles = [role for mark in dense for role in mark.roles]
        assert len(roles) == len(set(roles))
        assert {mark.group for mark in dense} <= set(GROUPS)


def test_no_mark_lies_above_the_roof(chart: RooflineChart) -> None:
    peak = next(roof.flops_per_s for roof in chart.roofs if roof.selected)
    for mark in (mark for panel in chart.panels for mark in panel.marks):
        assert mark.flops_per_s <= min(peak, chart.memory_bytes_per_s * mark.intensity) * (1 + 1e-12)
        assert chart.x_range[0] < mark.intensity < chart.x_range[1]
        assert chart.y_range[0] < mark.flops_per_s < chart.y_range[1]


def test_equal_shapes_share_a_mark_and_arrows_lead_to_their_factors(chart: RooflineChart) -> None:
    panel = chart.panels[0]
    mark = next(mark for mark in panel.marks if mark.label == "q k v o_proj" and mark.variant == "dense")
    assert mark.operations == 4 * 32
    assert mark.intensity == pytest.approx(2 * 512 * 4096 / (2 * (4096 + 2 * 512)))
    ends = {(panel.marks[a].label, panel.marks[b].label, panel.marks[b].operations) for a, b in panel.arrows}
    assert ends == {("q k v o_proj",) * 2 + (3 * 4 * 3,), ("gate up down_proj",) * 2 + (3 * 3 * 3,)}


def test_dense_configuration_has_no_arrows() -> None:
    model, hardware = load_model("bert-base"), load_hardware("epyc-9654")
    chart = RooflineChart.of(estimate(model, hardware, parse_decomposition([], model), [Workload.prefill(128)]))
    assert chart.panels[0].arrows == ()
    assert {mark.variant for mark in chart.panels[0].marks} == {"dense"}


def test_roofs_of_equal_rate_are_one_and_integers_are_left_out() -> None:
    roofs = device_roofs(load_hardware("a100-sxm-80gb"), DType.BF16)
    assert [(roof.label, roof.flops_per_s, roof.selected) for roof in roofs] == [
        ("fp32", 19.5e12, False), ("tf32", 156e12, False), ("fp16, bf16", 312e12, True),
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["png", "svg", "html"])
def test_a_drawing_is_the_same_every_time(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [tmp_path / f"{name}.{kind}" for name in "ab"]
    for file in files:
        assert run(cli, ["roofline", *SETUP, "--decompose", SPEC, "-o", str(file)]) == 0
    assert f"wrote {files[1]}" in capsys.readouterr().out
    first = files[0].read_bytes()
    assert first == files[1].read_bytes()
    assert first.startswith({"png": b"\x89PNG", "svg": b"<?xml", "html": b"<!doctype html>"}[kind])
    assert len(first) < 500_000


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_names_do_not_cover_each_other(chart: RooflineChart, theme: str) -> None:
    figure = roofline_figure(chart, theme)  # type: ignore[arg-type]
    figure.draw_without_rendering()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    for axes in figure.axes:
        boxes = [
            text.get_window_extent(renderer) for text in axes.texts if re.search(r"proj|norm|rope", text.get_text())
        ]
        for index, box in enumerate(boxes):
            assert not any(box.shrunk(0.98, 0.9).overlaps(other.shrunk(0.98, 0.9)) for other in boxes[index + 1 :])


def test_colours_of_classes_differ_and_are_readable() -> None:
    assert set(GROUP_COLOURS) == set(GROUPS)
    assert len(set(GROUP_COLOURS.values())) == len(GROUPS)
    for colours in COLOURS.values():
        assert all(_contrast(colours[name], colours["paper"]) >= 3 for name in GROUP_COLOURS.values())
        assert all(_contrast(colours[name], colours["paper"]) >= 4.5 for name in ("ink", "muted"))


def _contrast(one: str, other: str) -> float:
    """Of WCAG 2.1."""
    lights = sorted(_luminance(colour) for colour in (one, other))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return math.fsum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_json_and_csv(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(cli, ["roofline", *SETUP, "--phase", "decode", "--format", "json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert [panel["phase"] for panel in result["panels"]] == ["decode"]
    assert result["output"] is None
    assert run(cli, ["roofline", *SETUP, "--format", "csv"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("phase,variant,roles")
    assert {line.split(",")[0] for line in lines[1:]} == {"prefill", "decode"}


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("picture.bmp", "allowed: .png, .svg, .html"),
        ("picture", "allowed: .png, .svg, .html"),
        ("no/such/folder/picture.svg", "cannot write"),
        ("no/such/folder/page.html", "cannot write"),
    ],
)
def test_bad_output_is_one_line(
    output: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(cli, ["roofline", *SETUP, "-o", output]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_one_line_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        f"from costmodel.cli import main; main(['roofline', *{SETUP!r}, '-o', {str(tmp_path / 'a.png')!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: figures need matplotlib; pip install 'costmodel[plot]'\n")


def test_a_page_loads_nothing_and_its_data_cannot_end_the_script(chart: RooflineChart) -> None:
    page = make_page("roofline", "a < b", {**chart.to_json(), "groups": GROUPS, "evil": "</script><script>alert(1)"})
    assert not re.search(r"(src|href)=\"(?!data:)|url\((?!#)|@import|https?://(?!www\.w3\.org/2000/svg)", page)
    assert page.count("<script") == page.count("</script") == 1
    assert "<title>a &lt; b</title>" in page
    with pytest.raises(ValueError, match="JSON compliant"):
        make_page("roofline", "", {"x": math.nan})
