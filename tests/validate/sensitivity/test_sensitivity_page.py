"""What truncating each weight costs, as a picture and as a page: the table's numbers, layer by layer."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from predicting import made_sensitivity

from costmodel.cli import run
from validate.cli import cli
from validate.sensitivity.file import save_sensitivity
from validate.sensitivity.page import sensitivity_bytes, sensitivity_maps
from validate.sensitivity.table import site_rows


@pytest.mark.parametrize("gradients", [True, False])
def test_maps_hold_the_numbers_of_the_table(gradients: bool) -> None:
    found = made_sensitivity(gradients=gradients)
    maps = {map_.name: map_ for map_ in sensitivity_maps(found)}
    assert list(maps)[-2:] == ["plain_output_pct", "whitened_pct"]
    assert ("loss_curvature_plain" in maps) == gradients
    for name, map_ in maps.items():
        drawn = [cell.text for cells in zip(*map_.rows, strict=True) for cell in cells if cell is not None]
        assert [float(text.split()[0]) for text in drawn] == pytest.approx(
            [abs(row[name]) for row in site_rows(found)], rel=5e-3
        )


def test_the_command_draws_a_page_or_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found, file = made_sensitivity(), tmp_path / "tiny.sensitivity"
    save_sensitivity(file, found)
    page, picture = tmp_path / "page.html", tmp_path / "maps.png"
    for target in (page, picture):
        assert run(cli, ["sensitivity", "--from", str(file), "--plot", str(target)]) == 0
    assert picture.read_bytes() == sensitivity_bytes(found, "png")
    text = page.read_text()
    assert len(re.findall("<title>layer ", text)) == 5 * len(found.sites)
    most = max(site_rows(found), key=lambda row: row["loss_curvature_plain"])
    assert f"most is lost by {most['site']} (" in text
    capsys.readouterr()
    assert run(cli, ["sensitivity", "--from", str(file), "--plot", str(tmp_path / "page.pdf")]) == 2
    assert "allowed: .png, .svg, .html" in capsys.readouterr().err
