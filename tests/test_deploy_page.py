"""What docs/deploy.md says of its table of stacks is what the table says."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs" / "deploy.md").read_text()
ROW = re.compile(r"^\| (.+?) \| (prompt|step) .*? \| (.+?) \| ([0-9.]+) \[[^|]*\| ([0-9.]+) \|$", re.MULTILINE)


def test_the_text_says_how_far_the_rows_are_from_the_prediction() -> None:
    off = [
        (runtime, kind, 100 * (float(measured) / float(predicted) - 1))
        for runtime, kind, what, measured, predicted in ROW.findall(PAGE)
        if "second time" not in what
    ]
    assert len(off) == 12
    (holds,) = re.findall(r"In a prompt the prediction holds to (\d+) %", PAGE)
    assert max(abs(each) for _, kind, each in off if kind == "prompt") <= int(holds)
    ((low, high),) = re.findall(r"The steps by ONNX Runtime in this table are (\d+) to (\d+) % below it", PAGE)
    steps = [-each for runtime, kind, each in off if kind == "step" and runtime == "ONNX Runtime"]
    assert (round(min(steps)), round(max(steps))) == (int(low), int(high))
