"""The quality file of a loop, fitted from records or estimated, and the way from its sums to nats. No torch."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from costmodel.cli.common import write_file
from validate.errors import RunError
from validate.loop.settings import Settings
from validate.sensitivity.file import load_sensitivity
from validate.sensitivity.quality_file import quality_bytes, quality_file


def write_quality(settings: Settings, folders: Sequence[Path], sensitivity: Path, out: Path) -> str:
    """Write the quality file, and say what it is."""
    if find_spec("validate.cli.quality_fit") is None:
        found = load_sensitivity(sensitivity)
        factors = "whitened" if settings.factors == "whitened" else "plain"
        content = quality_file(found, ranks=settings.rank_list, factors=factors)  # type: ignore[arg-type]
        write_file(out, quality_bytes(content))
        return "estimated from sensitivity alone"
    words = ["quality", "fit", *map(str, folders), "--sensitivity", str(sensitivity), "--out", str(out),
             "--ranks", settings.ranks]  # fmt: skip
    run_validate(words, out.with_suffix(".txt"))
    return "fitted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """From a sum of the quality file to a change of NLL in nats: ceiling x (1 - exp(-(sum / ceiling) ** bend)).

    Attributes:
        ceiling, bend: None where sums are nats.
    """

    ceiling: float | None = None
    bend: float = 1.0

    def __call__(self, score: float) -> float:
        if self.ceiling is None:
            return score
        return -self.ceiling * math.expm1(-((max(score, 0.0) / self.ceiling) ** self.bend))

    def inverse(self, nats: float) -> float:
        """The sum of a change; of one beyond the ceiling the sum just below it, of a gain 0."""
        if self.ceiling is None:
            return nats
        share = min(max(nats, 0.0) / self.ceiling, 1 - 1e-6)
        return float(self.ceiling * (-math.log1p(-share)) ** (1 / self.bend))


def load_link(path: Path) -> Link:
    """The link of a quality file; without one its sums are nats."""
    link = json.loads(path.read_text(encoding="utf-8")).get("link")
    return Link(ceiling=float(link["ceiling"]), bend=float(link["bend"])) if link else Link()


def run_validate(words: Sequence[str], log: Path) -> None:
    """Run a `validate` command in a process of its own; what it prints goes to `log`, its progress to the terminal.

    Raises:
        RunError: when it fails, with the last line that it wrote to stderr.
        KeyboardInterrupt: when it was interrupted.
    """
    terminal = os.isatty(2)
    with log.open("w", encoding="utf-8") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "validate", *words], stdout=stream, stderr=None if terminal else subprocess.PIPE,
            text=True,
        )  # fmt: skip
        try:
            _, errors = process.communicate()
        except BaseException:
            process.terminate()  # it closes its records and leaves
            process.wait()
            raise
    if process.returncode == 130:
        raise KeyboardInterrupt
    if process.returncode:
        last = (errors or "see above").strip().splitlines()[-1].removeprefix("error: ")
        raise RunError(f"`validate {words[0]}` failed" if words[0][0] != "-" else "measuring latency failed", hint=last)
