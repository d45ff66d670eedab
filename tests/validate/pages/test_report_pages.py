"""The reports of the measuring commands in a real browser, with their pictures: nothing cut, on each other, too small
or too pale, on narrow and wide screens, in light and dark."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright")
pytest.importorskip("matplotlib")

from browser import VIEWS, Tab, browser, find_chromium, stumbles
from predicting import made_records, made_sensitivity, write_records
from validating import sample

from costmodel.forward.workload import Workload
from costmodel.units import DType
from validate.choose.report import FIGURES, PAGE, write_report
from validate.predictor import additivity, crossval
from validate.predictor import fit as fitting
from validate.predictor.evidence import read_evidence
from validate.predictor.figures import predictor_plot
from validate.predictor.fit import candidates, fit_predictor
from validate.predictor.page import predictor_page
from validate.sensitivity.page import sensitivity_bytes, sensitivity_maps
from validate.speed.metrics import evaluate
from validate.speed.report import page

pytestmark = pytest.mark.skipif(find_chromium() is None, reason="no Chromium on this machine")

STUDIES = Path(__file__).parents[3] / "studies"


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    with browser() as started:
        yield started


def test_the_page_of_timed_samples(tab: Tab, tmp_path: Path) -> None:
    prefill = Workload.prefill(16, dtype=DType.FP32)
    samples = [
        *(sample([f"rank={rank}"], 0.7 + rank / 100, index=rank, repeat=0.72 + rank / 100) for rank in (2, 5, 9, 16)),
        *(sample([f"rank={rank}"], 0.6 + rank / 80, index=50 + rank, work=prefill) for rank in (3, 8, 24)),
        sample([], 1.01, index=99),
    ]
    look(tab, page(evaluate(samples), samples), tmp_path)


def test_maps_of_sensitivity(tab: Tab, tmp_path: Path) -> None:
    found = made_sensitivity()
    look(tab, sensitivity_bytes(found, "html").decode(), tmp_path)
    look_at_picture(tab, sensitivity_bytes(found, "svg"), tmp_path)


def test_the_page_of_a_predictor(tab: Tab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(additivity, "REFITS", 4)
    monkeypatch.setattr(crossval, "OUTER", 3)
    monkeypatch.setattr(crossval, "INNER", 3)
    monkeypatch.setattr(fitting, "candidates", lambda evidence: candidates(evidence)[5:6])
    found = made_sensitivity()
    write_records(tmp_path / "records", made_records(found, 90, tasks=True))
    fit = fit_predictor(read_evidence([tmp_path / "records"], found))
    look(tab, predictor_page(fit, sensitivity_maps(found)[0]), tmp_path)
    look_at_picture(tab, predictor_plot(fit, "svg"), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["llama", "bert"])
def test_the_page_of_a_choice(model: str, tab: Tab, tmp_path: Path) -> None:
    loop = shutil.copytree(STUDIES / model / "loop", tmp_path / "loop")
    write_report(loop)
    look(tab, (loop / PAGE).read_text(), tmp_path)
    for file in (loop / FIGURES).iterdir():
        look_at_picture(tab, file.read_bytes(), tmp_path)


def look(tab: Tab, text: str, folder: Path) -> None:
    file = folder / "page.html"
    file.write_text(text)
    for width, dark in VIEWS:
        assert (width, dark, stumbles(tab, file, folder, width=width, dark=dark)) == (width, dark, [])


def look_at_picture(tab: Tab, picture: bytes, folder: Path) -> None:
    file = folder / "picture.svg"
    file.write_bytes(picture)
    assert stumbles(tab, file, folder) == []
