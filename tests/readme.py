"""The `console` blocks of README.md and docs/*.md: what they run, what they show; run as a script to rewrite them.

A block's first line is `$ command`, the rest what it prints. `...` alone on a line stands for any lines left out. A
block under the comment `<!-- not run: reason -->` is not run. `make demo` stands for the command in the Makefile.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from costmodel.cli import run as run_command

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_BLOCK = re.compile(
    r"(?P<skip><!-- not run: [^>]*-->\n)?```console\n\$ (?P<command>.*?)\n(?P<output>.*?)```", re.DOTALL
)
_CONTINUED = re.compile(r"\s*\\\n\s*(> )?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A command shown on a page, with the output shown under it."""

    page: Path
    start: int
    end: int
    command: str
    output: str
    skipped: bool


def blocks(page: Path) -> list[Block]:
    """All console blocks of a page, in order; the offsets span the shown output."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _BLOCK.finditer(text):
        lines = match["command"] + "\n" + match["output"]
        command, output = _split(lines)
        found.append(
            Block(
                page=page,
                start=match.end() - 3 - len(output),
                end=match.end() - 3,
                command=command,
                output=output,
                skipped=bool(match["skip"]),
            )
        )
    return found


def _split(lines: str) -> tuple[str, str]:
    """A command with its continuation lines, and the rest."""
    command = []
    rest = lines
    while True:
        line, _, rest = rest.partition("\n")
        command.append(line)
        if not line.endswith("\\"):
            return _CONTINUED.sub(" ", "\n".join(command)), rest


def makefile_command(target: str) -> str:
    """The recipe of a Makefile target, joined to one line, the environment's path left out."""
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert recipe, f"Makefile has no target {target}"
    return _CONTINUED.sub(" ", recipe[1]).replace("$(BIN)/", "").strip()


def run(command: str) -> str:
    """What `costmodel ...` or `validate ...` prints at the top of the repository."""
    command = makefile_command("demo") if command == "make demo" else command
    program, *arguments = shlex.split(command)
    group = importlib.import_module(f"{program}.cli").cli
    printed, errors = io.StringIO(), io.StringIO()
    with contextlib.chdir(ROOT), contextlib.redirect_stdout(printed), contextlib.redirect_stderr(errors):
        run_command(group, arguments)
    assert not errors.getvalue(), f"{command}: {errors.getvalue()}"
    return "".join(f"{line.rstrip()}\n" for line in printed.getvalue().splitlines())


def matches(shown: str, printed: str) -> bool:
    """Whether a shown output is what was printed, `...` lines standing for any lines."""
    parts = re.split(r"^\.\.\.\n", shown, flags=re.MULTILINE)
    return re.fullmatch("(?s:.*)".join(map(re.escape, parts)), printed) is not None


def update(page: Path) -> None:
    """Rewrite every output on a page that is shown whole."""
    text = page.read_text(encoding="utf-8")
    for block in reversed(blocks(page)):
        if not block.skipped and "\n...\n" not in f"\n{block.output}":
            text = text[: block.start] + run(block.command) + text[block.end :]
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    for each in PAGES:
        update(each)
