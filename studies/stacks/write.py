"""Sets the figures of stacks in their files, line by line, so that what people wrote there stays."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from costmodel.arrays import Floats
from costmodel.files.write import write_file
from costmodel.hardware.stack import CLASSES, load_stack
from studies.stacks.components import Point, kind_of
from studies.stacks.spread import spread


def write_stacks(
    folder: Path,
    points: Sequence[Point],
    figures: Callable[[str, str], Floats],
    held_out: Floats,
) -> None:
    """Write the figures of every stack in `folder` whose file has figures of source `published`.

    Args:
        folder: of the stacks' TOML files.
        points: what was fitted.
        figures: by stack and kind.
        held_out: errors of the points with their source left out, for the spread.
    """
    for path in sorted(folder.glob("*.toml")):
        stack, text = load_stack(str(path)), path.read_text(encoding="utf-8")
        if 'source = "published"' not in text:
            continue
        kind = kind_of(stack)
        mask = np.array([point.stack == stack.name for point in points])
        sources = len({point.source for point in points if point.stack == stack.name})
        *factors, launch_us, step_us, bytes_per_cycle = figures(stack.name, kind).tolist()
        values = {f"time.{name}": value for name, value in zip(CLASSES, factors, strict=True)}
        values |= {"step_us": step_us, "spread_pct": 100 * spread(stack.name, points, held_out)}
        if stack.gemm_bytes_per_cycle is not None:
            values["gemm_bytes_per_cycle"] = bytes_per_cycle
        if stack.launch_s is not None:
            values["launch_us"] = launch_us
        if stack.runtime == "eager" and stack.launch_s and launch_us:
            values["launch_spread_pct"] = values["spread_pct"]
        origin = (
            f"Fitted to {int(mask.sum())} published whole passes of {sources} sources, pulled to stacks of its kind"
            if mask.any()
            else "What stacks of its kind do in published whole passes; this one was not measured"
        )
        write_file(path, _set(text, values, origin).encode())
        load_stack(str(path))


def _set(text: str, values: dict[str, float], origin: str) -> str:
    for key, value in values.items():
        line = re.compile(rf"^{re.escape(key)} = .*$", re.MULTILINE)
        assert line.search(text), key
        text = line.sub(f'{key} = {{ value = {value:.4g}, source = "published" }}', text)
    text = re.sub(r"^published = .*\n", "", text, flags=re.MULTILINE)
    return text.replace("[sources]\n", f'[sources]\npublished = "{origin}"\n')
