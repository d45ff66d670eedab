"""Maps of all weights: what is coloured, what is left blank, what is said in words."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path

import numpy as np
import pytest

from costmodel import load_model
from costmodel.decomposition.factors import Decomposition, LowRank, Site, Tucker
from costmodel.decomposition.sites import site_mask
from costmodel.show.figure import COLOURS
from costmodel.show.page import FOLDER, render
from costmodel.show.site_map import Scale, SiteMap, rank_map, value_map
from costmodel.show.site_map_plot import site_map_figure, site_map_plot

GPT2 = load_model("gpt2")
CONFIG = Decomposition(
    {
        Site(1, "c_fc"): LowRank(1),
        Site(2, "c_fc"): LowRank(614),
        Site(3, "c_fc"): LowRank(700),
        Site(4, "c_fc"): Tucker(9, 8),
    },
    frozenset({7}),
)


def looks(map_: SiteMap) -> dict[tuple[int, str], tuple[str, float, str]]:
    return {
        (layer, name): (cell.kind, cell.shade, cell.text)
        for name, row in zip(map_.tensors, map_.rows, strict=True)
        for layer, cell in enumerate(row)
        if cell is not None
    }


def test_ranks_are_deeper_the_lower_and_the_rest_is_marked_apart() -> None:
    found = looks(rank_map("Ranks", "ranks", CONFIG, GPT2))
    assert found[0, "c_fc"] == ("dense", 0.0, "dense")
    assert found[7, "c_attn"] == ("dropped", 0.0, "layer dropped")
    assert found[3, "c_fc"][0] == "above"
    assert found[4, "c_fc"][2].startswith("rank 9 and 8")
    assert 1 > found[1, "c_fc"][1] > found[4, "c_fc"][1] > found[2, "c_fc"][1] >= 0
    assert found[2, "c_fc"][1] == pytest.approx(0, abs=1e-3)


def test_a_layer_without_a_tensor_stays_blank(tmp_path: Path) -> None:
    model = load_model("deepseek-v3")
    map_ = rank_map("Ranks", "ranks", Decomposition(), model)
    blank = [[cell is None for cell in row] for row in map_.rows]
    assert np.array_equal(~np.array(blank).T, site_mask(model))
    assert re.findall(r'data-site="(\d+) (\d+)"', page(map_, tmp_path)) == [
        (str(layer), str(column)) for column, layer in np.argwhere(site_mask(model).T).tolist()
    ]


def test_values_far_apart_have_a_logarithmic_scale_and_near_ones_an_even_one() -> None:
    far, near = Scale.of(np.array([1e-9, 0.01, 1.0])), Scale.of(np.array([0.5, np.nan, 1.0]))
    assert (far.low, far.high, far.log) == (1e-3, 1.0, True)
    assert [far.shade(value) for value in (0.0, -1.0, 1e-3, 1.0, 7.0)] == [0, 0, 0, 1, 1]
    assert far.shade(10**-1.5) == pytest.approx(0.5)
    assert (near.shade(0.5), near.shade(1.0)) == (0.5, 1)
    assert Scale.of(np.array([0.0, np.nan])).shade(0.0) == 0


def test_a_scale_says_its_unit_and_an_entry_has_the_colour_of_its_value() -> None:
    scale = Scale.of(np.array([0.002, 0.2]))
    key = scale.key("nats")
    assert [cell.text.endswith(" nats") for cell in key] == [False] * 4 + [True]
    for cell in key:
        assert scale.shade(float(cell.text.removeprefix("at most ").split()[0])) == pytest.approx(cell.shade, abs=0.03)


def page(map_: SiteMap, folder: Path) -> str:
    (folder / "maps.html").write_text('{% from "site_map.html" import site_map %}<body>{{ site_map(map) }}')
    return render("maps.html", folder, map=map_)


def test_a_page_says_every_weight_in_words(tmp_path: Path) -> None:
    values = np.full((12, 4), np.nan)
    values[3, 2], values[4, 1] = 0.25, 0.125
    text = unescape(page(value_map("Damage <b>", "damage", GPT2, values, "nats"), tmp_path))
    assert "<title>layer 3, c_fc: 0.25 nats</title>" in text
    assert "<td>0.125 nats</td>" in text
    label = re.search(r'aria-label="([^"]*)"', text)
    assert label is not None
    assert label[1] == "Damage <b>: 48 weights by layer and tensor, 46 dense; deepest layer 3 c_fc: 0.25 nats"


def test_markup_in_a_title_stays_text(tmp_path: Path) -> None:
    assert "<b>" not in page(rank_map("<b>", "ranks", CONFIG, GPT2), tmp_path).partition("<body>")[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_plot_has_a_box_of_each_weight_in_the_colours_of_the_page(theme: str) -> None:
    values = np.linspace(0, 1, 48).reshape(12, 4)
    maps = [rank_map("Ranks", "ranks", CONFIG, GPT2), value_map("Damage", "damage", GPT2, values, "nats")]
    figure = site_map_figure(maps, "gpt2", theme)  # type: ignore[arg-type]
    assert [len(axes.patches) for axes in figure.axes] == [48, 48]
    style = (FOLDER / "page.css").read_text()
    block = style.split("@media" if theme == "dark" else ":root")[1]
    colours = dict(re.findall(r"--(\w+): (#\w{6})", block))
    from matplotlib.colors import to_hex

    shades = [to_hex(patch.get_facecolor()) for patch in figure.axes[1].patches]
    assert (shades[0], shades[-1]) == (colours["pale"], colours["deep"])
    assert all(colours[name] == value for name, value in COLOURS[theme].items() if name in colours and name != "grid")  # type: ignore[index]


def test_equal_maps_are_equal_files() -> None:
    maps = [rank_map("Ranks", "ranks", CONFIG, GPT2)]
    assert site_map_plot(maps, "gpt2", "svg") == site_map_plot(maps, "gpt2", "svg")
    assert site_map_plot(maps, "gpt2", "png").startswith(b"\x89PNG")
