"""JSON in lines is what Python's own encoder writes with an indent."""

from __future__ import annotations

import json
import math

import pytest

from costmodel.files.indented import indented


@pytest.mark.parametrize(
    "value",
    [
        {},
        [],
        None,
        "text",
        -1.5e-9,
        [1, 2.5, True, None, "a, b"],
        {"flat": 1, "line\n": '"quoted", é'},
        {"empty": {}, "nothing": [], "deep": [[1, [2]], {"inner": [{"a": 1, "b": 2.0}, {}]}], "pair": (1, 2)},
    ],
)
def test_indented_text_is_that_of_json_dumps(value: object) -> None:
    assert indented(value) == json.dumps(value, indent=2)


@pytest.mark.parametrize("value", [math.nan, [math.inf], {"a": {"b": -math.inf}}])
def test_numbers_that_json_lacks_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        indented(value)
