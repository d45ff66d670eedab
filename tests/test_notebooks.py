"""The notebooks run, say at the top what they ask and answer, and are committed with their outputs."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("[0-9]*.ipynb"))


def test_the_notebooks_are_there() -> None:
    names = [path.stem for path in NOTEBOOKS]
    assert names == sorted(names)
    assert {"01_roofline", "02_design_space", "03_validation", "04_paper_revisited", "05_pick_a_configuration"} <= set(
        names
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_question_and_answer_stand_at_the_top(path: Path) -> None:
    first = nbformat.read(path, as_version=4).cells[0]
    assert first.cell_type == "markdown"
    found = re.fullmatch(r"# .+\n\n\*\*Question\.\*\* (.+\?)\n\n\*\*Answer\.\*\* (.+\.)", first.source)
    assert found, first.source
    assert len(re.findall(r"[.:?!](?: |$)", found[2])) <= 3, "two sentences"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_committed_and_clean(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert all(cell.metadata == {} for cell in notebook.cells)
    text = path.read_text(encoding="utf-8")
    assert len(text) < 1_000_000
    assert not re.search(r"/(root|home|Users|tmp|work)/|https?://", text)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from execute import executed

    fresh = executed(path)
    committed = nbformat.read(path, as_version=4)
    assert [cell.source for cell in fresh.cells] == [cell.source for cell in committed.cells]
    for new, old in zip(fresh.cells, committed.cells, strict=True):
        kinds = [
            [sorted(output.get("data", {"text": ""})) for output in each.get("outputs", [])] for each in (new, old)
        ]
        assert kinds[0] == kinds[1]


def test_a_stream_flushed_in_pieces_is_kept_as_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from execute import normalised

    streams = [("stdout", "a"), ("stdout", "b"), ("stderr", "c"), ("stdout", "d")]
    outputs = [nbformat.v4.new_output("stream", name=name, text=text) for name, text in streams]
    outputs.insert(3, nbformat.v4.new_output("display_data", {"image/png": "e"}))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print()", outputs=outputs)])
    kept = [output.get("text", "image") for output in normalised(notebook).cells[0].outputs]
    assert kept == ["ab", "c", "image", "d"]


def test_notebooks_read_nothing_beside_the_checkout() -> None:
    """What they show would otherwise depend on the machine that runs them."""
    for path in NOTEBOOKS:
        assert "../.." not in "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells), path.stem
