"""`--hw auto`: the profile of this machine, where one was probed."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from costmodel.errors import HardwareError

AUTO = "auto"
FILE, CORRECTIONS = "hardware.toml", "calibration.json"
"""What `validate probe --out DIR` writes into its folder: first the one, and in the end the other."""
TURNS = "ops.jsonl"
"""What it takes down in between."""
VARIABLE = "COSTMODEL_HW"


def profile_here() -> Path:
    """The file that the environment's COSTMODEL_HW names, else `hardware.toml` in the current folder, else the newest
    one in a folder below it; that of a probe which was not finished is none.

    Raises:
        HardwareError: when there is none; it says how to make one.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named)
    own, below = Path(FILE), [path for path in Path().glob(f"*/{FILE}") if path.is_file()]
    found = own if own.is_file() and _finished(own) else _newest([path for path in below if _finished(path)])
    if found is not None:
        return found
    begun = own if own.is_file() else _newest(below)
    raise HardwareError(
        f"--hw auto: the probe in {begun.parent} is not finished"
        if begun
        else "--hw auto: this machine was not probed",
        value=str(Path.cwd()),
        allowed=f"a folder with {FILE} or DIR/{FILE}, or {VARIABLE}=FILE.toml",
        hint=f"finish it with `validate probe --out {shlex.quote(str(begun.parent))} --resume`"
        if begun
        else "make one with `validate probe --out my-device`, or name a device (`costmodel hw list`)",
    )


def _newest(paths: list[Path]) -> Path | None:
    return max(paths, key=lambda path: path.stat().st_mtime, default=None)


def _finished(profile: Path) -> bool:
    """Whether a profile is no probe's that was stopped before it fitted what it had timed."""
    return not (profile.parent / TURNS).exists() or (profile.parent / CORRECTIONS).is_file()


def corrections_here() -> Path | None:
    """The calibration beside this machine's profile, None where there is none."""
    try:
        path = profile_here().parent / CORRECTIONS
    except HardwareError:
        return None
    return path if path.is_file() else None
