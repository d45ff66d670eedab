"""What a loop is about: checkpoint, texts, device, sizes; kept beside its results. No torch."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from costmodel.decomposition.text import Rank
from costmodel.errors import InputError
from costmodel.hardware.profile import builtin_hardware, profile_folder
from costmodel.pricing.setup import Setup, WorkloadSettings
from costmodel.space.settings import parse_ranks
from validate.choose.stages import Stages
from validate.errors import RunError
from validate.quality.job import TextFile
from validate.store.digests import checkpoint_sha256
from validate.store.record_format import Record
from validate.store.settings import load_settings, require_same, save_settings

NAME = "loop.json"
RANKS = "1,5%,10%,15%,20%,25%,30%,40%,50%,60%,70%,80%,90%"
"""Candidates of the search: what removes nothing is left out."""
SMALL: dict[str, Any] = {
    "samples": 44,
    "ranks": "1,25%,60%",
    "blocks": 8,
    "length": 32,
    "calibration_blocks": 8,
    "points": 4,
    "rounds": 1,
    "random": 2,
    "budget": 0.1,
    "precision": 20.0,
    "seq_len": 16,
}
"""Sizes of a run that takes seconds and whose numbers mean little."""


class Settings(Record, frozen=True, kw_only=True):
    """Options of a loop; records of another set of them are not mixed in.

    Attributes:
        model: checkpoint with a tokenizer.
        text: to predict; one half of it is for the search, the other for the verdict.
        calibration_text: for sensitivity and whitened factors.
        hw, calibration: profile of the device, and measured corrections, as `explore` takes them.
        samples: configurations that are measured for the predictor first, the dense model among them.
        phase: prefill, decode or both.
        ranks: candidates, as `explore --ranks`.
        factors: how factors are computed.
        blocks, length: of each half of the text.
        calibration_blocks: of the calibration text.
        seq_len, batch_size: of the workload whose latency counts; a decode step attends to seq_len + 1 tokens.
        points: of the frontier, to be measured.
        rounds: of searching, measuring what was found and fitting again, before the search that counts.
        random: baselines drawn at random.
        accept: increase of NLL in nats per token that the choice may have.
        budget, precision: seconds and percent of a comparison of latencies.
        seed: of samples and random baselines.
        threads, device, batch: of measuring; None for torch's own number of threads.
    """

    model: str
    text: str
    calibration_text: str
    hw: str
    calibration: str = "auto"
    samples: int = 320
    phase: Literal["prefill", "decode", "both"] = "prefill"
    ranks: str = RANKS
    factors: str = "whitened"
    blocks: int = 64
    length: int | None = None
    calibration_blocks: int = 64
    seq_len: int = 64
    batch_size: int = 1
    points: int = 16
    rounds: int = 2
    random: int = 8
    accept: float = 0.05
    budget: float = 5.5
    precision: float = 2.0
    seed: int = 0
    threads: int | None = None
    device: str = "cpu"
    batch: int = 8

    @property
    def dtype(self) -> str:
        """Of the workload whose latency counts; quality is measured in fp32."""
        return "fp32" if self.device == "cpu" else "bf16"

    @property
    def rank_list(self) -> Sequence[Rank]:
        """The candidate ranks."""
        return parse_ranks(self.ranks)

    def setup(self) -> Setup:
        """Model, device and workloads.

        Raises:
            CostModelError: when one cannot be read or does not fit the others.
        """
        settings = WorkloadSettings(
            model=self.model,
            hw=self.hw,
            phase=self.phase,
            batch=self.batch_size,
            seq_len=self.seq_len,
            dtype=self.dtype,
            calibration=self.calibration,
        )
        return settings.setup()

    def identity(self, setup: Setup) -> dict[str, Any]:
        """The model's name and digests of what was read: a resumed loop is about the same weights, texts and device."""
        profile = Path(self.hw)
        if self.hw.lower() in builtin_hardware():
            profile = profile_folder() / f"{self.hw.lower()}.toml"
        corrections = Path(self.calibration)
        if self.calibration == "auto":
            folder = profile_folder() / "calibrations"
            own = folder / f"{setup.hardware.name}.json"
            corrections = own if own.is_file() else folder / "generations.toml"
        found: dict[str, Any] = {
            "model_name": setup.model.name,
            "checkpoint": checkpoint_sha256(Path(self.model)),
            "hardware_profile": _sha256(profile),
            "calibration": None if setup.calibration is None else _sha256(corrections),
        }
        for name in ("text", "calibration_text"):
            text = TextFile.read(getattr(self, name))
            assert text is not None
            found[name] = text.source.sha256
        if found["text"] == found["calibration_text"]:
            raise InputError(
                "--calibration-text is the text to predict",
                value=self.calibration_text,
                hint="calibrate on a part that is not measured",
            )
        return found

    def keep(self, folder: Path, setup: Setup) -> None:
        """Write the settings, or require those that are there; more samples may be asked for until they are fitted.

        Raises:
            RunError: naming the first setting that differs, or when the folder cannot be written to.
        """
        digests = self.identity(setup)
        now = {**msgspec.to_builtins(self), "digests": digests}
        earlier = load_settings(folder, NAME)
        if earlier is not None:
            require_same(earlier.get("digests", {}), digests, list(digests))
            stages = Stages(folder, lambda line: None)
            grown = self.samples > int(earlier.get("samples", 0)) and not stages.done("fit")
            same = [name for name in self.__struct_fields__ if name not in _MAY_DIFFER]
            require_same(earlier, now, [name for name in same if not (grown and name == "samples")])
            if grown:
                stages.reopen("samples")
            now = {**earlier, "samples": self.samples, "accept": self.accept}
        if now != earlier:
            save_settings(folder, now, NAME)

    def accepting(self, folder: Path, accept: float) -> Settings:
        """With another increase of NLL that the choice may have, kept for later reports too.

        Raises:
            RunError: when the folder cannot be written to.
        """
        save_settings(folder, {**(load_settings(folder, NAME) or {}), "accept": accept}, NAME)
        return msgspec.structs.replace(self, accept=accept)

    @classmethod
    def read(cls, folder: Path) -> Settings:
        """The settings of the loop in a folder.

        Raises:
            RunError: when there are none, or they are of another version.
        """
        found = load_settings(folder, NAME)
        if found is None:
            raise RunError("no loop in this folder", value=str(folder), hint=f"{NAME} is written by the first stage")
        try:
            return msgspec.convert({name: found[name] for name in cls.__struct_fields__ if name in found}, cls)
        except msgspec.ValidationError as error:
            raise RunError(f"{folder / NAME}: not the settings of a loop", hint=str(error)) from error


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


_MAY_DIFFER = ("model", "text", "calibration_text", "hw", "calibration", "batch", "accept")
"""Paths, whose content is compared instead, and what changes no record."""
