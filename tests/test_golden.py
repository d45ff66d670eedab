"""No number of the kept estimates has changed: exact where they count, to 1e-12 where they are times."""

from __future__ import annotations

import json
from typing import Any

import pytest
from golden.regenerate import (
    CALIBRATED,
    CALIBRATED_PATH,
    CASES,
    GENERATION,
    GENERATION_PATH,
    PATH,
    case_name,
    compute,
)

ADVICE = "the model's numbers changed; if on purpose: python tests/golden/regenerate.py, and look at the diff"
GOLDEN: dict[str, Any] = json.loads(PATH.read_text(encoding="utf-8"))
MEASURED: dict[str, Any] = {
    **json.loads(CALIBRATED_PATH.read_text(encoding="utf-8")),
    **json.loads(GENERATION_PATH.read_text(encoding="utf-8")),
}


def differences(expected: Any, found: Any, where: str = "") -> list[str]:
    """Every place where two JSON values differ: floats by more than 1e-12 of themselves, all else at all."""
    if isinstance(expected, dict) and isinstance(found, dict) and list(expected) == list(found):
        return [line for key in expected for line in differences(expected[key], found[key], f"{where}.{key}")]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        pairs = enumerate(zip(expected, found, strict=True))
        return [line for index, (a, b) in pairs for line in differences(a, b, f"{where}[{index}]")]
    same = type(expected) is type(found) and expected == found
    if type(expected) is float and type(found) is float:
        same = found == pytest.approx(expected, rel=1e-12, abs=1e-12 if ".saved." in where else 0)
    return [] if same else [f"{where}: {expected!r} is now {found!r}"]


def test_the_file_has_the_cases_in_order() -> None:
    assert list(GOLDEN) == [case_name(case) for case in CASES], ADVICE
    assert len(GOLDEN) == len(CASES) >= 50


def test_the_cases_cover_every_verified_family_and_every_device() -> None:
    from costmodel.families.load import load_model
    from costmodel.families.registry import FAMILIES
    from costmodel.hardware.profile import builtin_hardware

    assert {load_model(case[0]).family for case in CASES} >= {row for row in FAMILIES.all() if row.verified}
    assert {case[1] for case in CASES} == set(builtin_hardware())


@pytest.mark.parametrize("case", CASES, ids=case_name)
def test_no_number_has_changed(case: Any) -> None:
    found = json.loads(json.dumps(compute(case)))
    lines = differences(GOLDEN[case_name(case)], found)
    assert not lines, "\n".join([ADVICE, *lines[:20]])


def test_the_calibrated_cases_are_calibrated_and_in_order() -> None:
    assert list(MEASURED) == [case_name(case) for case in (*CALIBRATED, *GENERATION)], ADVICE
    for cases, expected in ((CALIBRATED, {"probes", "samples"}), (GENERATION, {"generation"})):
        priced = [MEASURED[case_name(case)]["phases"] for case in cases]
        assert {phase["dense"]["level"] for phases in priced for phase in phases} == expected


@pytest.mark.parametrize("case", [*CALIBRATED, *GENERATION], ids=case_name)
def test_no_calibrated_number_has_changed(case: Any) -> None:
    found = json.loads(json.dumps(compute(case, "auto")))
    lines = differences(MEASURED[case_name(case)], found)
    assert not lines, "\n".join([ADVICE, *lines[:20]])


def test_differences_are_found() -> None:
    assert differences({"a": [1, 2.0]}, {"a": [1, 2.0 * (1 + 1e-15)]}) == []
    assert differences({"a": [1, 2.0]}, {"a": [1, 2.0 * (1 + 1e-11)]}) != []
    assert differences({"a": 1}, {"a": 1.0}) == [".a: 1 is now 1.0"]
    assert differences({"a": 1}, {"b": 1}) != []
    assert differences([1], [1, 2]) != []
    assert differences({"flops": 10**15}, {"flops": 10**15 + 1}) != []
    assert differences(None, 0) != []
