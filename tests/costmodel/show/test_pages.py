"""The interactive pages in a real browser: no complaint, no request, nothing clipped, and clicks do what they say."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")

from browser import VIEWS, Tab, browser, find_chromium, stumbles

from costmodel.cli import cli, run
from costmodel.units import si

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")

COMMANDS = {
    "roofline": [
        "roofline",
        "--model",
        "llama3-8b",
        "--hw",
        "h100-sxm-80gb",
        "--batch",
        "16",
        "--decompose",
        "layers=8-23 rank=1024",
        "-o",
    ],
    "explore": [
        "explore",
        "--model",
        "llama2-7b",
        "--hw",
        "a100-sxm-80gb",
        "--runtime",
        "graph",
        "--ranks",
        "64-1024:64",
        "--seq-len",
        "256",
        "--objectives",
        "decode.latency_s,quality",
        "--quality",
        "standin:params",
        "--limit",
        "saved.params_pct<=80",
        "--report",
    ],
    "per-site": [
        "explore",
        "--model",
        "gpt2",
        "--hw",
        "t4",
        "--dtype",
        "fp16",
        "--space",
        "per-site",
        "--ranks",
        "64-960:16",
        "--report",
    ],
}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    for name, command in COMMANDS.items():
        assert run(cli, [*command, str(folder / f"{name}.html")]) == 0
    return {name: folder / f"{name}.html" for name in COMMANDS}


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with browser() as started:
        yield started


@pytest.mark.parametrize(("width", "dark"), VIEWS)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_opens_quietly_and_fits(
    name: str, width: int, dark: bool, pages: dict[str, Path], tab: Tab, tmp_path: Path
) -> None:
    assert stumbles(tab, pages[name], tmp_path, width=width, dark=dark) == []
    assert pages[name].stat().st_size < 1_500_000
    assert tab.run("getComputedStyle(document.body).backgroundColor") == (
        "rgb(20, 23, 26)" if dark else "rgb(255, 255, 255)"
    )
    tab.screenshot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000


def test_maps_follow_the_configuration_that_is_shown(pages: dict[str, Path], tab: Tab) -> None:
    tab.open(pages["explore"])
    drawn = "[...document.querySelectorAll('#{} .map .site')].map((box) => box.getAttribute('class') + box.textContent)"
    shown = "[...document.querySelectorAll('#{} tbody td')].map((cell) => cell.textContent)"
    opened = {name: (tab.run(drawn.format(name)), tab.run(shown.format(name))) for name in ("ranks", "damage")}
    tab.run("select(POINTS[30])")
    assert tab.run(drawn.format("ranks")) != opened["ranks"][0]
    total = "choices(state.selected).flatMap((row, l) => row.map((c, t) => c ? DATA.damage.values[l][t][c - 1] : 0))"
    assert tab.run(f"{total}.reduce((a, b) => a + b)") == pytest.approx(
        tab.run("state.selected.values[column('quality')]"), rel=0.01
    )
    tab.run("select(POINTS.find((point) => point.kind === 'best'))")
    assert {name: (tab.run(drawn.format(name)), tab.run(shown.format(name))) for name in opened} == opened


def test_large_numbers_have_the_prefixes_that_the_tables_have(pages: dict[str, Path], tab: Tab) -> None:
    tab.open(pages["roofline"])
    for value in (0.0, 1.0, 999.4, 1500.0, 2.039e12, 1.5e15, 1.5e18, 2.25e20, 4e21):
        assert tab.run(f"si({value!r}, 'FLOP')") == si(value, "FLOP")


def test_hovering_and_switching_on_the_roofline(pages: dict[str, Path], tab: Tab) -> None:
    tab.problems.clear()
    tab.open(pages["roofline"])
    place = tab.run(
        "(({x, y, width, height}) => [x + width / 2, y + height / 2])"
        "(document.querySelector('svg circle[role=button]').getBoundingClientRect())"
    )
    tab.click(*place)
    tip = tab.run("document.getElementById('tip').hidden ? '' : document.getElementById('tip').innerText")
    assert "FLOP/B" in tip
    assert "share of the pass" in tip
    dense = "document.querySelectorAll('#panels svg circle[role=button]').length"
    before = tab.run(dense)
    tab.run("[...document.querySelectorAll('#controls button')].find((b) => b.textContent === 'dense').click()")
    assert (before > 0, tab.run(dense)) == (True, 0)
    assert tab.problems == []


def test_a_click_shows_a_configuration_and_its_command_gives_its_numbers(
    pages: dict[str, Path], tab: Tab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tab.problems.clear()
    tab.open(pages["explore"])
    before = tab.run("document.getElementById('command').textContent")
    place = tab.run(
        "(() => { const circles = [...document.querySelectorAll('#chart svg circle[r=\"3.6\"]')];"
        "const {x, y, width, height} = circles[10].getBoundingClientRect();"
        "return [x + width / 2, y + height / 2]; })()"
    )
    tab.click(*place)
    command = tab.run("document.getElementById('command').textContent")
    assert command != before
    capsys.readouterr()
    arguments = shlex.split(command.replace("\\\n", " "))
    assert arguments[0] == "costmodel"
    assert run(cli, [*arguments[1:], "--format", "json"]) == 0
    phases = json.loads(capsys.readouterr().out)["phases"]
    for column in ("prefill.latency_s", "decode.latency_s", "decode.peak_memory_bytes", "decode.energy_j"):
        shown = tab.run(f"state.selected.values[column('{column}')]")
        phase, metric = column.split(".")
        costs = next(each for each in phases if each["workload"]["phase"] == phase)["decomposed"]
        assert shown == pytest.approx(costs[metric], rel=1e-6)
    filled = re.match(r"(\d+) of 224 weights", tab.run("rankRange(state.selected)"))
    for name in ("ranks", "damage"):
        factored = f"document.querySelectorAll('#{name} .map .site:not(.dense)').length"
        assert filled is not None
        assert tab.run(factored) == int(filled[1])
    assert tab.problems == []


@pytest.mark.parametrize("width", [1440, 390])
def test_a_configuration_file_gives_the_same_numbers(
    width: int, pages: dict[str, Path], tab: Tab, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tab.open(pages["per-site"], width=width)
    tab.run("[...document.querySelectorAll('#list button')][6].click()")
    tab.settle()
    file = tmp_path / "configuration.json"
    file.write_text(json.dumps(tab.run("configuration(state.selected)")))
    capsys.readouterr()
    arguments = [*shlex.split(tab.run("DATA.command"))[1:], "--config", str(file), "--format", "json"]
    assert run(cli, arguments) == 0
    told = json.loads(capsys.readouterr().out)
    recipe = file.with_name("recipe.toml")
    recipe.write_text(tab.run("recipe(state.selected)"))
    assert run(cli, [*arguments[:-4], "--recipe", str(recipe), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["decomposition"] == told["decomposition"]
    costs = told["phases"][1]["decomposed"]
    assert tab.run("state.selected.values[column('decode.latency_s')]") == pytest.approx(costs["latency_s"], rel=1e-6)
    assert tab.run("state.selected.values[column('params')]") == pytest.approx(costs["params"], rel=1e-6)


@pytest.mark.parametrize("width", [1440, 390])
def test_the_exploration_opens_on_its_answer(width: int, pages: dict[str, Path], tab: Tab) -> None:
    tab.open(pages["explore"], width=width)
    assert tab.run("state.selected.kind") == "best"
    answer = tab.run("document.getElementById('answer').textContent")
    assert "decode.latency_s" in answer
    assert "that keep saved.params_pct<=80" in answer
    (spec,) = tab.run("specs(state.selected)")
    assert spec in answer
    trust = tab.run("document.getElementById('trust').innerText")
    assert "probes level" in trust
    assert "90 % interval" in trust
    assert "not measured" in trust
    assert tab.run("document.querySelectorAll('#assumptions li').length") > 3
    box = "document.getElementById('command')"
    assert tab.run(f"{box}.scrollHeight <= {box}.clientHeight && {box}.scrollWidth <= {box}.clientWidth")


def test_limits_fade_points_and_shorten_the_list(pages: dict[str, Path], tab: Tab) -> None:
    tab.problems.clear()
    tab.open(pages["explore"])
    rows = "document.querySelectorAll('#list tbody tr').length"
    faded = "document.querySelectorAll('#chart [opacity]').length"
    assert tab.run(faded) == 0
    first = tab.run(rows)
    move = (
        "(() => {{ const slider = document.querySelector('#limits input'); slider.value = {}; "
        "slider.dispatchEvent(new Event('input')); }})()"
    )
    tab.run(move.format(300))
    assert tab.run(faded) > 0
    assert "at most" in tab.run("document.querySelector('#limits output').textContent")
    assert "are within the limits" in tab.run("document.getElementById('shown').textContent")
    tab.run(move.format(0))
    assert tab.run(rows) < first
    tab.run(move.format(1000))
    assert (tab.run(rows), tab.run(faded)) == (first, 0)
    assert tab.problems == []


def test_the_theme_can_be_switched(pages: dict[str, Path], tab: Tab) -> None:
    tab.open(pages["explore"], dark=False)
    tab.run("document.getElementById('theme').click()")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"
    tab.run("document.getElementById('theme').click()")
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_a_model_with_markup_in_its_name_stays_text(tab: Tab, tmp_path: Path) -> None:
    folder = tmp_path / "<img src=x onerror=document.title=1>"
    folder.mkdir()
    config = {
        "model_type": "llama",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "vocab_size": 100,
        "max_position_embeddings": 1024,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-6,
    }
    (folder / "config.json").write_text(json.dumps(config))
    page = tmp_path / "page.html"
    assert run(cli, ["explore", "--model", str(folder), "--hw", "t4", "--dtype", "fp16", "--report", str(page)]) == 0
    tab.problems.clear()
    tab.open(page)
    assert tab.run("document.querySelectorAll('img').length") == 0
    assert "onerror" in tab.run("document.getElementById('title').textContent")
    assert tab.problems == []
