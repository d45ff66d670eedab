"""What becomes of the config.json files of a folder: accepted with transformers' parameters, refused by name, or wrong.

    python -m studies.families.table FOLDER [--json]

A file is wrong when its parameters are not those that transformers' own class has on the meta device; where there is no
such class it is accepted unchecked.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from costmodel.errors import ModelError
from costmodel.families.load import load_model, read_config
from studies.families.reference import reference_params


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One file."""

    file: str
    model_type: str
    outcome: str
    """accepted, unchecked, refused or wrong."""
    params: int | None = None
    expected: int | None = None
    reason: str = ""


def judge(path: Path) -> Row:
    """The outcome of one file."""
    try:
        spec, config = load_model(path), read_config(path)
    except ModelError as error:
        reason = str(error).removeprefix(f"{path}: ")
        return Row(file=path.name, model_type=_type_of(path), outcome="refused", reason=reason)
    try:
        expected = reference_params(config, spec)
    except Exception as error:  # transformers raises of many kinds for a configuration that it cannot build
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        return Row(
            file=path.name, model_type=spec.model_type, outcome="unchecked", params=spec.num_params, reason=reason
        )
    outcome = "accepted" if expected == spec.num_params else "wrong"
    return Row(file=path.name, model_type=spec.model_type, outcome=outcome, params=spec.num_params, expected=expected)


def judge_all(folder: Path) -> Iterator[Row]:
    """Every JSON file of a folder in the order of names."""
    for path in sorted(folder.glob("*.json")):
        yield judge(path)


def _type_of(path: Path) -> str:
    with contextlib.suppress(ValueError, OSError):
        data = json.loads(path.read_text(encoding="utf-8-sig"))
        if isinstance(data, dict):
            return str(data.get("model_type"))
    return "?"


def main() -> None:
    """Print a line for each file that is not plainly accepted, and the counts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--json", action="store_true", help="every row as one line of JSON")
    arguments = parser.parse_args()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.simplefilter("ignore")
    counts: Counter[str] = Counter()
    for row in judge_all(arguments.folder):
        counts[row.outcome] += 1
        if arguments.json:
            print(json.dumps(asdict(row)), flush=True)
        elif row.outcome != "accepted":
            numbers = f"{row.params:,} for {row.expected:,}" if row.outcome == "wrong" else row.reason[:150]
            print(f"{row.outcome:9} {row.file:45} {row.model_type:20} {numbers}", flush=True)
    print(", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()))


if __name__ == "__main__":
    main()
