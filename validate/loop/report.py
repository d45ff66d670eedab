"""The verdict of a loop in a few lines, and the configuration that was chosen. No torch."""

from __future__ import annotations

import json
from pathlib import Path

from costmodel.cli.common import print_table, write_file
from validate.loop.baselines import RULES
from validate.loop.results import read_results
from validate.loop.settings import Settings
from validate.loop.verdict import choice, duels, optimism, tallies
from validate.quality.intervals import Interval


def write_report(folder: Path, accept: float | None) -> list[str]:
    """Print the table, write choice.json, and return what is to be said."""
    settings, results = Settings.read(folder), read_results(folder)
    rows = [[each.axis, RULES[each.rule], len(each.duels), each.count("better"), each.count("level"),
             each.count("worse"), each.count("none"), text(each.mean)] for each in tallies(duels(results))]  # fmt: skip
    columns = ["equal", "baseline", "n", "better", "level", "worse", "no match", "NLL, ours - theirs"]
    print_table("Frontier against baselines on the half that nothing was chosen on", columns, rows, left=2)
    found = optimism(results)
    lines = [] if found is None else [
        f"optimism of the search: {text(found.verify)} nats over {found.points} points, measured minus predicted; "
        f"corrected by {found.factor.value:.2f} the mean error falls from {found.error:.3f} to {found.corrected:.3f}"
    ]  # fmt: skip
    chosen = choice(results, settings.accept if accept is None else accept)
    if chosen is not None:
        write_file(folder / "choice.json", json.dumps(chosen.point.config, indent=1).encode() + b"\n")
        lines.append(f"choice: {chosen.text}: {text(chosen.change)} nats; {folder / 'choice.json'}")
    return lines


def text(interval: Interval | None) -> str:
    """A signed value with its interval."""
    if interval is None:
        return "-"
    if interval.low is None or interval.high is None:
        return f"{interval.value:+.4f}"
    return f"{interval.value:+.4f} [{interval.low:+.4f}, {interval.high:+.4f}]"
