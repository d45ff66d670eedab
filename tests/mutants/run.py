"""Mutation tests of the core: changes the code one small step at a time and counts the changes that no test notices.

`make mutants` runs all rooms of rooms.toml with mutmut, each in a copy of the checkout under .mutants/, and may be
stopped and started again: verdicts are kept. `python tests/mutants/run.py --report` writes the table of README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
COPIES = ROOT / ".mutants"
SEED = 12
COPIED = ("costmodel", "validate", "tests", "benchmarks", "hw_profiles", "studies", "docs", "README.md")
OPEN = ("survived", "no tests")
MARK = "<!-- what follows is written by run.py --report -->"
# The wording of an error is no behaviour that a test should pin; the condition that raises it still is mutated.
_SAYS = {0: "survived", 1: "killed"}
"""pytest's exit codes: 2 to 5 say that tests were not run, of which nothing follows."""
NOT_MUTATED = [r"^\s*raise \w+\("]


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Modules that the same test files cover, and how many mutants of each are tried."""

    name: str
    modules: list[str]
    tests: list[str]
    later: list[str]
    sample: int


def rooms(names: list[str]) -> list[Room]:
    """The rooms of rooms.toml in its order, or those named."""
    table = tomllib.loads((HERE / "rooms.toml").read_text("utf-8"))
    sample = table.pop("sample")
    unknown = sorted(set(names) - set(table))
    if unknown:
        sys.exit(f"error: no room {', '.join(unknown)} in rooms.toml; it has {', '.join(table)}")
    return [
        Room(
            name=name,
            modules=sorted(str(path.relative_to(ROOT)) for pattern in row["modules"] for path in ROOT.glob(pattern)),
            tests=row["tests"],
            later=row.get("later", []),
            sample=row.get("sample", sample),
        )
        for name, row in table.items()
        if not names or name in names
    ]


def copy_checkout(room: Room) -> Path:
    """A copy of the checkout for one room, with mutmut's settings for it; newer files replace older ones."""
    copy = COPIES / room.name
    copy.mkdir(parents=True, exist_ok=True)
    for name in COPIED:
        source = ROOT / name
        for path in [source] if source.is_file() else source.rglob("*"):
            target = copy / path.relative_to(ROOT)
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            if not target.exists() or target.stat().st_mtime != path.stat().st_mtime:
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)
    if (copy / "mutants").exists():  # mutmut copies the tests too, but only where it has mutants to run
        shutil.copytree(copy / "tests", copy / "mutants" / "tests", dirs_exist_ok=True)
    settings = {
        "source_paths": ["costmodel", "validate"],
        "only_mutate": room.modules,
        "also_copy": ["benchmarks", "hw_profiles", "studies", "docs", "README.md"],
        "do_not_mutate_patterns": NOT_MUTATED,
        "pytest_add_cli_args": ["-p", "no:cacheprovider"],
        "pytest_add_cli_args_test_selection": room.tests,
        "timeout_multiplier": 4.0,
        "timeout_constant": 3.0,
        "use_git_change_detection": False,
        "track_dependencies": False,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    text = (ROOT / "pyproject.toml").read_text("utf-8") + "\n[tool.mutmut]\n" + "\n".join(lines) + "\n"
    target = copy / "pyproject.toml"
    if not target.exists() or target.read_text("utf-8") != text:
        target.write_text(text, "utf-8")
    return copy


def verdicts(copy: Path, module: str) -> dict[str, str]:
    """What is known of each mutant of a module: killed, survived, no tests, timeout, or not checked."""
    from mutmut.stats import status_by_exit_code

    path = copy / "mutants" / f"{module}.meta"
    if not path.exists():
        return {}
    codes = json.loads(path.read_text("utf-8"))["exit_code_by_key"]
    return {name: status_by_exit_code[code] for name, code in codes.items()}


def drawn(copy: Path, room: Room, module: str) -> list[str]:
    """The names of the mutants that are tried of a module: the first of a seeded order."""
    names = sorted(verdicts(copy, module))
    if not names:  # mutmut has not been here
        from mutmut.mutation.file_mutation import mutate_file_contents

        source = (copy / module).read_text("utf-8")
        prefix = module.removesuffix(".py").replace("/", ".").removesuffix(".__init__")
        names = sorted(f"{prefix}.{name}" for name in mutate_file_contents(module, source).mutant_names)
    random.Random(f"{SEED} {module}").shuffle(names)
    return names[: room.sample]


def run(room: Room, *, again: bool) -> None:
    """Try the drawn mutants of a room that have no verdict yet, and with `again` also those that no test killed."""
    copy = copy_checkout(room)
    os.chdir(copy)
    settled = ("killed", "timeout") if again else ("killed", "timeout", "survived", "no tests")
    names = [
        name
        for module in room.modules
        for known in [verdicts(copy, module)]
        for name in drawn(copy, room, module)
        if known.get(name) not in settled
    ]
    print(f"{room.name}: {len(names)} mutants to try; progress in {copy / 'mutmut.log'}", flush=True)
    if names:
        command = [str(Path(sys.executable).with_name("mutmut")), "run", "--max-children", "1", *names]
        with (copy / "mutmut.log").open("a") as log:
            code = subprocess.run(command, env=environment(), stdout=log, stderr=log, check=False).returncode
        if code:
            sys.exit(f"error: mutmut stopped with {code}; see {copy / 'mutmut.log'}")
    run_later(room, copy, again=again)


def run_later(room: Room, copy: Path, *, again: bool) -> None:
    """Try what survived against the room's further, slower test files, a process each."""
    later, known = LaterVerdicts(copy), dict[str, str]()
    for module in room.modules:
        known |= {name: verdict for name, verdict in verdicts(copy, module).items() if verdict in OPEN}
    waiting = [name for name in known if name not in later.found or (again and later.found[name] == "survived")]
    if not room.later or not waiting:
        return
    plain = later_tests(room, copy, None)
    if plain.returncode:
        sys.exit(f"error: {room.name}: the later tests fail without a mutant: {said(plain)}")
    for name in waiting:
        try:
            done = later_tests(room, copy, name)
        except subprocess.TimeoutExpired:
            later.add(name, "killed")
        else:
            if done.returncode not in _SAYS:
                sys.exit(f"error: pytest stopped with {done.returncode} on {name}: {said(done)}")
            later.add(name, _SAYS[done.returncode])


def later_tests(room: Room, copy: Path, mutant: str | None) -> subprocess.CompletedProcess[bytes]:
    """The room's further test files, on a mutant or on the code as it is."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *room.later]
    own = environment() | {"MUTANT_UNDER_TEST": mutant or ""}
    return subprocess.run(command, cwd=copy / "mutants", env=own, capture_output=True, timeout=900, check=False)


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    """The end of what pytest said; of a file that is not there it says so on stderr."""
    return (done.stdout + done.stderr).decode()[-400:].strip()


def environment() -> dict[str, str]:
    """Of a process that runs tests."""
    own = {"CI": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": "."}
    return os.environ | own


class LaterVerdicts:
    """What the further test files said, kept in a file beside mutmut's."""

    def __init__(self, copy: Path) -> None:
        self.path = copy / "later.json"
        self.found: dict[str, str] = json.loads(self.path.read_text()) if self.path.exists() else {}

    def add(self, name: str, verdict: str) -> None:
        self.found[name] = verdict
        self.path.write_text(json.dumps(self.found, indent=1))


@dataclass(kw_only=True)
class Row:
    """A module's line of the table; `open` are the changes that survived without an explanation, `unsettled` those that
    the fast files did not notice and that the later ones have not been tried on."""

    module: str
    all: int
    tried: int = 0
    killed: int = 0
    timeouts: int = 0
    equivalent: int = 0
    unsettled: int = 0
    open: list[str] = field(default_factory=list)


def report(found: list[Room]) -> str:
    """The table and the survivors, as Markdown."""
    explained = {
        (row["function"], row["change"].strip()): row["why"]
        for row in tomllib.loads((HERE / "equivalent.toml").read_text("utf-8")).get("mutant", [])
    }
    rows: list[Row] = []
    survivors: list[tuple[str, str, str, str]] = []
    for room in found:
        copy = COPIES / room.name
        if not (copy / "mutants").exists():
            continue
        os.chdir(copy)
        later = LaterVerdicts(copy).found
        for module in room.modules:
            known = verdicts(copy, module)
            if not known:
                continue
            row = Row(module=module, all=len(known))
            for name in drawn(copy, room, module):
                verdict = known.get(name, "not checked")
                if verdict in OPEN:
                    verdict = later.get(name, "unsettled" if room.later else verdict)
                row.tried += verdict != "not checked"
                row.killed += verdict == "killed"
                row.timeouts += verdict == "timeout"
                if verdict in (*OPEN, "unsettled"):
                    function, change = changed(name, module)
                    why = explained.get((function, change))
                    row.equivalent += why is not None
                    row.unsettled += why is None and verdict == "unsettled"
                    survivors.append((module, function, change, why or verdict.replace("survived", "open")))
                    if why is None and verdict != "unsettled":
                        row.open.append(name)
            rows.append(row)
    return table(rows) + listing(survivors)


def changed(name: str, module: str) -> tuple[str, str]:
    """The function that a mutant changes, and the lines that it takes away and puts in."""
    from mutmut.mutation.diff_apply import get_diff_for_mutant

    lines = get_diff_for_mutant(name, path=module).split("\n")[2:]
    change = "\n".join(f"{line[0]} {line[1:].strip()}" for line in lines if line[:1] in ("-", "+"))
    function = name.rpartition("__mutmut_")[0].rpartition(".")[2]
    return function.replace("\u01c1", ".").removeprefix("x_").removeprefix("x."), change


def table(rows: list[Row]) -> str:
    """Modules, and all of them together."""
    lines = [
        "| module | mutants | tried | killed | timeouts | equivalent | unsettled | open |",
        "| --- |" + " ---: |" * 7,
    ]
    together = Row(module="all", all=0)
    for row in rows:
        lines.append(
            f"| {row.module} | {row.all} | {row.tried} | {row.killed} | {row.timeouts} | {row.equivalent} "
            f"| {row.unsettled} | {len(row.open)} |"
        )
        for name in ("all", "tried", "killed", "timeouts", "equivalent", "unsettled"):
            setattr(together, name, getattr(together, name) + getattr(row, name))
        together.open += row.open
    lines.append(
        f"| **all** | {together.all} | {together.tried} | {together.killed} | {together.timeouts} "
        f"| {together.equivalent} | {together.unsettled} | {len(together.open)} |"
    )
    real = together.tried - together.equivalent
    killed = together.killed + together.timeouts
    share, settled = (killed / count if count else 0.0 for count in (real, real - together.unsettled))
    lines += ["", f"Killed of what was tried and is no equivalent: {share:.1%}; of what is settled: {settled:.1%}."]
    return "\n".join(lines) + "\n"


def listing(survivors: list[tuple[str, str, str, str]]) -> str:
    """What survived, with the reason."""
    lines = ["\n## Survivors\n"]
    for module, function, change, why in survivors:
        shown = change.replace("\n", "\n  ")
        lines.append(f"- `{module}`, `{function}`: {why}\n\n  ```diff\n  {shown}\n  ```")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the rooms, or report on them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rooms", nargs="*", help="rooms of rooms.toml; all without")
    parser.add_argument("--again", action="store_true", help="try again what no test killed")
    parser.add_argument("--later", action="store_true", help="try what survived against the later files alone")
    parser.add_argument("--report", action="store_true", help="write what is known into README.md and run nothing")
    options = parser.parse_args()
    chosen = rooms(options.rooms)
    if options.report:
        readme = HERE / "README.md"
        head = readme.read_text("utf-8").partition(MARK)[0]
        readme.write_text(head + MARK + "\n\n" + report(chosen), "utf-8")
        return
    for room in chosen:
        if options.later:
            run_later(room, copy_checkout(room), again=True)
        else:
            run(room, again=options.again)


if __name__ == "__main__":
    main()
