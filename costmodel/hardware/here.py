"""`--hw auto`: the profile of this machine, where one was probed."""

from __future__ import annotations

import os
from pathlib import Path

from costmodel.errors import HardwareError

AUTO = "auto"
FILE, CORRECTIONS = "hardware.toml", "calibration.json"
"""What `validate probe --out DIR` writes into its folder."""
VARIABLE = "COSTMODEL_HW"


def profile_here() -> Path:
    """The file that the environment's COSTMODEL_HW names, else `hardware.toml` in the current folder, else the newest
    one in a folder below it.

    Raises:
        HardwareError: when there is none; it says how to make one.
    """
    if named := os.environ.get(VARIABLE):
        return Path(named)
    own = Path(FILE)
    below = [path for path in Path().glob(f"*/{FILE}") if path.is_file()]
    found = own if own.is_file() else max(below, key=lambda path: path.stat().st_mtime, default=None)
    if found is None:
        raise HardwareError(
            "--hw auto: this machine was not probed",
            value=str(Path.cwd()),
            allowed=f"a folder with {FILE} or DIR/{FILE}, or {VARIABLE}=FILE.toml",
            hint="make one with `validate probe --out my-device`, or name a device (`costmodel hw list`)",
        )
    return found


def corrections_here() -> Path | None:
    """The calibration beside this machine's profile, None where there is none."""
    try:
        path = profile_here().parent / CORRECTIONS
    except HardwareError:
        return None
    return path if path.is_file() else None
