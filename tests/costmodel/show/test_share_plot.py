"""Pictures of comparisons and recommendations: a bar says what its row does, and every word has room."""

from __future__ import annotations

from typing import Any

import pytest

import costmodel as cm
from costmodel.show.share_plot import comparison_figure, recommendations_figure

pytest.importorskip("matplotlib")


def texts_of(figure: Any) -> list[str]:
    """What is written beside and in bars, all of it within the axes."""
    (axes,) = figure.axes
    figure.draw_without_rendering()
    frame = axes.get_window_extent()
    for text in axes.texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0
        assert box.x1 <= frame.x1 + 1
    return [text.get_text() for text in axes.texts]


def test_a_comparison_draws_what_each_row_leaves_of_its_dense_time() -> None:
    answer = cm.compare("gpt2", ["l4", "h100-sxm-80gb"], "rank=200", phase="decode", stack=[None, "vllm"])
    figure = answer.plot()
    words = " ".join(texts_of(figure))
    bars = [round(bar.get_width(), 6) for bar in figure.axes[0].patches]
    for result in answer:
        saved = result.phases[0].saved["latency_pct"]
        assert round(100 - saved, 6) in bars
        assert (f"saves {saved:.1f} %" if saved > 0 else f"takes {-saved:.1f} % more") in words
    assert bars.count(100) == len(answer)
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()][::-1][:2] == ["l4, bare", "l4, vllm"]
    assert texts_of(comparison_figure(answer.results, "dark")) == texts_of(figure)


def test_of_dense_models_latencies_are_drawn_with_their_intervals() -> None:
    answer = cm.compare("gpt2", ["l4", "amd-epyc-2t"], batch=[1, 8], phase="prefill")
    assert len(texts_of(answer.plot())) == 4
    lines = [line.get_xdata() for line in answer.plot().axes[0].lines]
    costs = answer[0].phases[0].dense
    assert any(list(line) == [costs.latency_p05_s, costs.latency_p95_s] for line in lines)


def test_recommendations_are_drawn_beside_their_goal_and_a_no_with_the_most_that_is_saved() -> None:
    answer = cm.recommend("qwen2.5-1.5b", ["l4", "h100-sxm-80gb"], faster="20%", phase="decode", runtime="graph")
    assert {row.verdict.code for row in answer} == {"yes", "no"}
    figure = answer.plot()
    words = texts_of(figure)
    assert [80.0, 80.0] in [list(line.get_xdata()) for line in figure.axes[0].lines]
    for row in answer:
        said = f"yes: saves {row.saved_pct:.1f} %" if row.verdict.code == "yes" else f"no: {row.verdict.reason}, "
        assert any(word.startswith(said) for word in words)
    fitting = recommendations_figure(cm.recommend("gpt2", "l4", fits="24GB", phase="decode").rows)
    assert "yes: dense does" in texts_of(fitting)
