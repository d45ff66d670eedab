"""A file that a schema of docs/schemas accepts is one that its reader accepts, and the reverse, key by key."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from exploring import quality_data
from schemas import checker

from costmodel.decomposition.factors import load_decomposition
from costmodel.errors import CostModelError
from costmodel.explore.quality import load_quality
from costmodel.families.load import load_model
from costmodel.hardware.profile import profile_folder
from costmodel.space.make import design_space
from costmodel.timing.calibration.load import load_calibration
from costmodel.timing.calibration.probes import GENERAL_STREAM

pytest.importorskip("jsonschema")

OTHERS: tuple[Any, ...] = (..., None, "x", -1, [], {}, True, 1.5, ["x", "x"])
"""In place of the value of a key, or, for `...`, of the key."""
BERT = load_model("bert-base")
SPACE = design_space(BERT, ranks=[8])
CALIBRATION = json.loads((profile_folder() / "calibrations" / "amd-epyc-2t.json").read_text(encoding="utf-8"))
SMALL = {
    **{key: value for key, value in CALIBRATION.items() if key != "elsewhere"},
    "forms": {"gemm": CALIBRATION["forms"]["gemm"]},
    "streams": {GENERAL_STREAM: CALIBRATION["streams"][GENERAL_STREAM]},
    "module_launch_s": 1e-6,
}
CASES: dict[str, tuple[dict[str, Any], Callable[[Path], object]]] = {
    "calibration": (SMALL, load_calibration),
    "configuration": (
        {"form": "svd", "ranks": {"layers.2.query": 8}, "drop": [5], "chosen": {}},
        lambda path: load_decomposition(path, BERT),
    ),
    "quality": (
        {**quality_data(SPACE, 3, states=3), "states": ["none", "mild", "severe"]},
        lambda path: load_quality(str(path), SPACE),
    ),
}
"""Name of a schema -> a document, and what reads its file."""
OF_THE_QUESTION = (("quality", "model", "x"), ("quality", "entries", []))
"""Values that are right in another question: of another model, of a space without sites."""


def accepted(path: Path, read: Callable[[Path], object], document: object) -> bool:
    path.write_text(json.dumps(document), encoding="utf-8")
    try:
        read(path)
    except CostModelError:
        return False
    return True


@pytest.mark.parametrize("name", CASES)
def test_a_schema_and_its_reader_agree_on_every_key(name: str, tmp_path: Path) -> None:
    (document, read), check, path = CASES[name], checker(name), tmp_path / "file.json"
    assert accepted(path, read, document)
    check.validate(document)
    differ = []
    for key in document:
        for value in OTHERS:
            changed = {**document, key: value}
            if value is ...:
                del changed[key]
            takes, valid = accepted(path, read, changed), check.is_valid(changed)
            if takes != valid and (name, key, value) not in OF_THE_QUESTION:
                differ.append((key, "absent" if value is ... else value, "reader" if takes else "schema"))
    assert differ == []
