"""What the page of an exploration holds, and how its option refuses bad input; test_pages.py opens it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from costmodel import load_hardware, load_model
from costmodel.cli import cli, run
from costmodel.explore import explore
from costmodel.explore.settings import ExploreSettings
from costmodel.forward.workload import Workload
from costmodel.hardware.profile import profile_folder
from costmodel.show.explore_page import CLOUD, FRONTIER, explore_page
from costmodel.space.make import design_space

SETUP = ["explore", "--model", "llama2-7b", "--hw", "a100-sxm-80gb"]


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r"^const DATA = (.*);$", page, re.MULTILINE)
    assert found
    return dict(json.loads(found[1]))


def page_of(model: str, kind: Any = "homogeneous", ranks: Any = (64, 128), **options: Any) -> dict[str, Any]:
    space = design_space(load_model(model), kind, ranks=list(ranks))
    result = explore(
        space, load_hardware("a100-sxm-80gb"), [Workload.prefill(128), Workload.decode(129)], ExploreSettings(**options)
    )
    return data_of(explore_page(result, "costmodel estimate"))


def test_points_are_dense_the_best_the_frontier_and_a_sample() -> None:
    data = page_of("llama2-7b", top=3)
    kinds = [point["kind"] for point in data["points"]]
    assert kinds[:4] == ["dense", "best", "best", "best"]
    assert kinds.count("sample") == CLOUD
    assert kinds.count("frontier") == min(FRONTIER, data["frontier_size"])
    assert set(data["points"][0]["sites"]) == {"0"}
    assert all(len(point["sites"]) == 224 for point in data["points"])
    assert all(len(point["values"]) == len(data["columns"]) for point in data["points"])


def test_sites_name_candidates_with_as_many_digits_as_they_need() -> None:
    few = page_of("gpt2", "per-site", range(16, 16 * 30, 16), top=1)
    many = page_of("gpt2", "per-site", range(16, 16 * 45, 16), top=1)
    assert (few["width"], many["width"]) == (1, 2)
    sites = many["points"][-1]["sites"]
    choices = [int(sites[at : at + 2], 36) for at in range(0, len(sites), 2)]
    assert len(choices) == 12 * 4
    assert 0 <= min(choices) <= max(choices) <= len(many["tensors"][0]["ranks"])


def test_a_large_model_keeps_the_page_small() -> None:
    data = page_of("llama2-70b", top=1)
    assert len(json.dumps(data["points"])) < 1_500_000
    assert sum(point["kind"] == "sample" for point in data["points"]) >= 50


def test_shares_of_the_distribution_add_up_to_one() -> None:
    data = page_of("gpt2")
    for each in data["distribution"].values():
        assert sum(each["counts"]) == pytest.approx(1)
        assert np.all(np.diff(each["edges"]) > 0)


def test_a_device_without_power_has_no_energy_column(tmp_path: Path) -> None:
    source = profile_folder() / "t4.toml"
    lines = [line for line in source.read_text().splitlines() if "idle_power" not in line]
    profile = tmp_path / "mute.toml"
    profile.write_text("\n".join(lines).replace('name = "t4"', 'name = "mute"'))
    page = tmp_path / "page.html"
    assert run(cli, ["explore", "--model", "gpt2", "--hw", str(profile), "--dtype", "fp16", "--report", str(page)]) == 0
    names = [column["name"] for column in data_of(page.read_text())["columns"]]
    assert "decode.latency_s" in names
    assert not [name for name in names if "energy" in name]


def test_the_command_repeats_options_that_are_not_defaults(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    options = ["--batch", "4", "--lm-head", "last", "--runtime", "graph", "--top", "2", "--report", str(page)]
    assert run(cli, [*SETUP, *options]) == 0
    assert f"wrote {page}" in capsys.readouterr().out
    assert data_of(page.read_text())["command"] == (
        "costmodel estimate --model llama2-7b --hw a100-sxm-80gb --batch 4 --runtime graph"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--report", "page.pdf"], "allowed: .html"),
        (["--report", "no/such/folder/page.html"], "cannot write"),
        (["--report", "page.html", "--objectives", "decode.latency_s"], "a report needs two objectives"),
    ],
)
def test_bad_reports_are_one_line(
    options: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(cli, [*SETUP, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
