"""Mutation tests of the core: changes the code one small step at a time and counts the changes that no test notices.

`make mutants` tries the drawn mutants of all rooms of rooms.toml that have no verdict in verdicts.json yet, and writes
the table of README.md. It may be stopped and started again: each verdict is kept as soon as it is known.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(ROOT), str(HERE)]

from mutants import Mutant, mutants_of  # noqa: E402
from trying import Covered, collect, cover, verdict  # noqa: E402

KEPT = ROOT / ".mutants"
VERDICTS = HERE / "verdicts.json"
SETTLED = ("killed", "timeout")
OPEN = ("survived", "no tests")
MARK = "<!-- what follows is written by run.py --report -->"


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Modules that the same test files cover.

    Attributes:
        tests: the fastest files.
        later: what the mutants are tried on that those let through.
        sample: how many mutants of each module are tried.
    """

    name: str
    modules: list[str]
    tests: list[str]
    later: list[str]
    sample: int

    def drawn(self, module: str) -> list[Mutant]:
        """The mutants that are tried of a module."""
        return mutants_of(ROOT, module, KEPT).first[: self.sample]

    def covered(self, tests: list[str]) -> Covered:
        """Which of the tests call which functions of the modules."""
        paths = [path for name in tests for path in sorted((ROOT / name).rglob("*.py")) or [ROOT / name]]
        texts = [path.read_bytes() for path in (*paths, *(ROOT / module for module in self.modules))]
        digest = hashlib.sha256(b"\0".join(texts)).hexdigest()[:16]
        every = [mutant for module in self.modules for mutant in mutants_of(ROOT, module, KEPT).first]
        return cover(tests, every, KEPT / f"covered {self.name} {digest}.json")


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
            modules=sorted(
                {
                    str(path.relative_to(ROOT))
                    for pattern in row["modules"]
                    for path in ROOT.glob(pattern)
                    if path.name != "__init__.py"
                }
            ),
            tests=row["tests"],
            later=row.get("later", []),
            sample=row.get("sample", sample),
        )
        for name, row in table.items()
        if not names or name in names
    ]


class Verdicts:
    """What is known of mutants, by module and digest, kept in a file."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, str]] = {}
        self.read()

    def read(self) -> None:
        """Take what the file holds: another room may be running beside this one."""
        self.found = json.loads(VERDICTS.read_text("utf-8")) if VERDICTS.exists() else {}

    def of(self, mutant: Mutant) -> str:
        return self.found.get(mutant.module, {}).get(mutant.digest, "not tried")

    def add(self, mutant: Mutant, said: str) -> None:
        self.read()
        self.found.setdefault(mutant.module, {})[mutant.digest] = said
        ordered = {module: dict(sorted(own.items())) for module, own in sorted(self.found.items())}
        whole = VERDICTS.with_suffix(f".{os.getpid()}")
        whole.write_text(json.dumps(ordered, indent=1) + "\n", "utf-8")
        whole.replace(VERDICTS)


def explanations() -> dict[tuple[str, str], str]:
    """Why a change of a function gives the same results."""
    table = tomllib.loads((HERE / "equivalent.toml").read_text("utf-8"))
    return {(row["function"], row["change"].strip()): row["why"] for row in table["mutant"]}


def run(room: Room, *, again: bool) -> None:
    """Try the drawn mutants of a room that have no verdict yet, and with `again` also those that no test killed."""
    known, explained = Verdicts(), explanations()
    settled = SETTLED if again else (*SETTLED, *OPEN)
    waiting = [
        mutant
        for module in room.modules
        for mutant in room.drawn(module)
        if known.of(mutant) not in settled and (mutant.function, mutant.change) not in explained
    ]
    for tests in filter(None, (room.tests, room.later)):
        print(f"{room.name}: {len(waiting)} mutants to try on {' '.join(tests)}", flush=True)
        if not waiting:
            return
        collect(tests)
        covered = room.covered(tests)
        last = tests is (room.later or room.tests)
        for mutant in waiting:
            said = verdict(mutant, covered)
            known.add(mutant, said if last or said in SETTLED else "unsettled")
            shown = f"\n{mutant.change}" if said not in SETTLED else ""
            print(f"{said}: {mutant.module} {mutant.function}{shown}", flush=True)
        waiting = [mutant for mutant in waiting if known.of(mutant) not in SETTLED]


@dataclass(kw_only=True)
class Row:
    """A line of the table; `open` are the changes that survived without an explanation, `unsettled` those that the
    fastest files let through and the later ones have not been tried on."""

    name: str
    all: int = 0
    tried: int = 0
    killed: int = 0
    timeouts: int = 0
    equivalent: int = 0
    unsettled: int = 0
    open: int = 0
    survivors: list[tuple[Mutant, str]] = field(default_factory=list)

    def __add__(self, other: Row) -> Row:
        return Row(
            name=self.name,
            all=self.all + other.all,
            tried=self.tried + other.tried,
            killed=self.killed + other.killed,
            timeouts=self.timeouts + other.timeouts,
            equivalent=self.equivalent + other.equivalent,
            unsettled=self.unsettled + other.unsettled,
            open=self.open + other.open,
            survivors=self.survivors + other.survivors,
        )

    @property
    def share(self) -> str:
        """Killed of what was tried and is no equivalent, with Wilson's 95 % interval."""
        count, z2 = self.tried - self.equivalent, 1.959964**2
        if not count:
            return "-"
        share = (self.killed + self.timeouts) / count
        centre = (share + z2 / 2 / count) / (1 + z2 / count)
        half = math.sqrt(z2 * (share * (1 - share) + z2 / 4 / count) / count) / (1 + z2 / count)
        return f"{share:.1%} ({centre - half:.1%} to {min(centre + half, 1.0):.1%})"

    @property
    def cells(self) -> str:
        counts = (self.all, self.tried, self.killed, self.timeouts, self.equivalent, self.unsettled, self.open)
        return " | ".join(map(str, counts))


def row_of(room: Room, module: str, known: Verdicts, explained: dict[tuple[str, str], str]) -> Row:
    """What is known of a module."""
    row = Row(name=module, all=mutants_of(ROOT, module, KEPT).count)
    for mutant in room.drawn(module):
        said, why = known.of(mutant), explained.get((mutant.function, mutant.change))
        if said in SETTLED:
            row.killed += said == "killed"
            row.timeouts += said == "timeout"
        elif why is not None:
            row.equivalent += 1
            row.survivors.append((mutant, why))
        elif said == "not tried":
            continue
        else:
            row.open += said in OPEN
            row.unsettled += said not in OPEN
            row.survivors.append((mutant, "open" if said in OPEN else "unsettled"))
        row.tried += 1
    return row


def report(found: list[Room]) -> str:
    """The tables and the survivors, as Markdown."""
    known, explained = Verdicts(), explanations()
    rows = {
        room.name: [row_of(room, module, known, explained) for module in room.modules if module in known.found]
        for room in found
    }
    sums = {name: sum(own, Row(name=name)) for name, own in rows.items()}
    every = sum(sums.values(), Row(name="**all**"))
    names = "mutants | tried | killed | timeouts | equivalent | unsettled | open"
    lines = [f"| room | {names} | killed of those that are no equivalents |", "| --- |" + " ---: |" * 7 + " --- |"]
    lines += [f"| {row.name} | {row.cells} | {row.share} |" for row in (*sums.values(), every)]
    lines += ["", f"| module | {names} |", "| --- |" + " ---: |" * 7]
    lines += [f"| {row.name} | {row.cells} |" for own in rows.values() for row in own]
    lines += ["", "## Survivors", ""]
    for mutant, why in every.survivors:
        shown = mutant.change.replace("\n", "\n  ")
        lines.append(f"- `{mutant.module}`, `{mutant.function}`: {why}\n\n  ```diff\n  {shown}\n  ```")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the rooms, or report on them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rooms", nargs="*", help="rooms of rooms.toml; all without")
    parser.add_argument("--again", action="store_true", help="try again what no test killed")
    parser.add_argument("--report", action="store_true", help="write what is known into README.md and run nothing")
    options = parser.parse_args()
    os.chdir(ROOT)
    os.environ |= {"CI": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    chosen = rooms(options.rooms)
    if options.report:
        readme = HERE / "README.md"
        head = readme.read_text("utf-8").partition(MARK)[0]
        readme.write_text(head + MARK + "\n\n" + report(chosen), "utf-8")
        return
    for room in chosen:
        run(room, again=options.again)


if __name__ == "__main__":
    main()
