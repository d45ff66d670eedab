"""What the README and the docs show is what the commands print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from readme import PAGES, ROOT, Block, blocks, matches, run

RUNNABLE = [block for page in PAGES for block in blocks(page) if not block.skipped]


def test_the_readme_shows_the_two_commands_first():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert text.index("make demo") < text.index("make test") < text.index("\n## ")
    assert any(block.command == "make demo" for block in RUNNABLE)


@pytest.mark.parametrize("block", RUNNABLE, ids=lambda block: f"{block.page.name}: {block.command[:60]}")
def test_a_shown_output_is_what_the_command_prints(block: Block):
    printed = run(block.command)
    assert matches(block.output, printed), f"update with `python tests/readme.py`; it prints\n{printed}"


def test_left_out_lines_match_any_lines_but_shown_ones_must_be_there():
    assert matches("a\n...\nd\n", "a\nb\nc\nd\n")
    assert not matches("a\n...\nd\n", "a\nb\nc\ne\n")
    assert not matches("a\n", "a\nb\n")


def test_continued_commands_are_joined(tmp_path: Path):
    page = tmp_path / "page.md"
    page.write_text(
        "text\n```console\n$ costmodel hw \\\n    list\nout\n```\n<!-- not run: slow -->\n```console\n$ x\n```\n"
    )
    first, second = blocks(page)
    assert (first.command, first.output, first.skipped) == ("costmodel hw list", "out\n", False)
    assert second.skipped


def test_the_python_example_runs(capsys: pytest.CaptureFixture[str]):
    code = (ROOT / "README.md").read_text(encoding="utf-8").split("```python\n")[1].split("```")[0]
    exec(compile(code, "README.md", "exec"), {})
    assert float(capsys.readouterr().out) < 100


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_picture_is_what_the_command_below_it_draws(theme: str, tmp_path: Path):
    matplotlib = pytest.importorskip("matplotlib")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"<sub>`(costmodel estimate .*--plot )time\.svg`</sub>", readme)
    assert found is not None
    drawn = tmp_path / "time.svg"
    printed = " ".join(run(f"{found[1]}{drawn} --theme {theme}").split())
    kept = (ROOT / "docs" / "pictures" / f"time-{theme}.svg").read_text(encoding="utf-8")
    if f"Matplotlib v{matplotlib.__version__}," in kept:  # another version sets letters elsewhere
        assert drawn.read_text(encoding="utf-8") == kept, f"draw it anew: {found[1]}docs/pictures/time-{theme}.svg"
    less, more = re.findall(r"([\d.]+) % (?:less|more)", readme[: found.start()].rpartition("<picture>")[2])
    assert f"prefill verdict: gain {less} %" in printed
    assert f"({more} % longer)" in printed
