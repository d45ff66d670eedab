"""The settings of a probe, with the words that the command line has for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from validate.store.settings import MAX_SEED, ComputeChoice, DeviceChoice, option

NAME = "probe.json"
"""The file of a probe's folder that keeps what its records share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """Options of `validate probe`."""

    hw: str = option(
        "auto",
        "Profile of the device; auto matches its name, or writes a minimal profile of a CPU.",
        metavar="auto|NAME|PATH",
    )
    device: DeviceChoice = option("auto", "auto takes CUDA where there is one.")
    threads: int | None = option(None, "Threads on a CPU.  [default: physical cores that it may use]", low=1, high=4096)
    dtype: ComputeChoice = option("auto", "auto: fp32 on a CPU, bf16 on CUDA.")
    plan: Literal["device", "ranks"] = option(
        "device", "What a calibration needs, or what ranks cost that are no multiple of 64."
    )
    points: int = option(600, "Operations of the plan `device`: about a second for ten of them.", low=200, high=20_000)
    passes: int = option(4, "Times that the whole plan is gone through.", low=1, high=100)
    seed: int = option(0, "Of the plan.", low=0, high=MAX_SEED)
