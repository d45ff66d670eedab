"""The bars of where the time goes: they add up, and their file is refused before anything is priced."""

from __future__ import annotations

from pathlib import Path

import pytest

from costmodel import Workload, estimate, load_hardware, load_model, parse_decomposition
from costmodel.cli import cli, run
from costmodel.show.time_plot import segments, time_figure


@pytest.mark.parametrize(
    ("name", "device", "spec", "tokens"),
    [("gpt2", "l4", "rank=64", 64), ("qwen3-30b-a3b", "h100-sxm-80gb", "layers=0-23 rank=8", 512)],
)
def test_bars_add_up_and_no_name_touches_the_ends_of_its_segment(
    name: str, device: str, spec: str, tokens: int
) -> None:
    pytest.importorskip("matplotlib")
    model = load_model(name)
    chosen = parse_decomposition([spec], model)
    work = [Workload.prefill(tokens), Workload.decode(tokens + 1)]
    result = estimate(model, load_hardware(device), chosen, work)
    for phase in result.phases:
        parts = segments(phase, "decomposed", least_s=0.01 * phase.decomposed.device_s)
        assert sum(part.latency_s for part in parts) == pytest.approx(phase.decomposed.device_s)
        assert len(segments(phase, "decomposed", least_s=1.0)) < len(parts)
    figure = time_figure(result, "dark")
    for axes in figure.axes:
        frames = [bar.get_window_extent() for bar in axes.patches]
        named = [text for text in axes.texts if text.get_ha() == "center"]
        assert named
        for text in named:
            box = text.get_window_extent()
            assert any(
                f.x0 + 3 <= box.x0 and box.x1 <= f.x1 - 3 and f.y0 + 3 <= box.y0 and box.y1 <= f.y1 - 3 for f in frames
            )


def test_bars_of_stages_hold_all_microbatches_and_titles_stay_on_the_picture() -> None:
    pytest.importorskip("matplotlib")
    model = load_model("gpt2")
    workload = Workload.prefill(64, batch=4, pp=4, microbatches=4)
    result = estimate(model, load_hardware("a100-sxm-80gb"), parse_decomposition(["rank=64"], model), [workload])
    parts = segments(result.phases[0], "dense")
    assert sum(part.latency_s for part in parts) == pytest.approx(result.phases[0].dense.device_s)
    figure = time_figure(result)
    figure.draw_without_rendering()
    (axes,) = figure.axes
    titles = [child.get_window_extent() for child in axes.get_children() if "microbatches" in str(child)]
    assert titles
    assert all(box.x1 <= figure.bbox.x1 for box in titles)


@pytest.mark.parametrize(
    ("options", "message"),
    [(["--plot", "x.pdf"], "allowed: .png, .svg"), (["--plot", "x.png", "--batch", "1,2"], "one question")],
)
def test_a_bad_picture_is_one_line(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(cli, ["estimate", "--model", "gpt2", "--hw", "l4", *options]) == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
