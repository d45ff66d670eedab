"""What a loop is about: checkpoint, texts, device, sizes; kept beside its results. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.text import Rank, parse_decomposition
from costmodel.errors import InputError
from costmodel.forward.workload import MAX_BATCH, MAX_LENGTH
from costmodel.hardware.profile import builtin_hardware, profile_folder
from costmodel.model import ModelSpec
from costmodel.pricing.setup import Setup, WorkloadSettings
from costmodel.space.settings import SpaceSettings, parse_ranks
from costmodel.timing.calibration.record import GENERATION
from validate.choose.stages import Stages
from validate.factors.kinds import HELP, Factors
from validate.predictor.points import FEWEST
from validate.quality.job import TextFile
from validate.quality.settings import QualitySettings
from validate.speed.settings import MeasureSettings
from validate.store.digests import checkpoint_sha256, sha256_of
from validate.store.settings import load_settings, option, require_same, save_settings, section, settings_of, shared

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Options of `validate choose` beside what it is about."""

    calibration: str = option("auto", "Measured corrections of predicted latency.", metavar="FILE|auto|none")
    samples: int = option(
        48,
        "Random configurations measured beside those that are found, dense among them; more may be asked for until the "
        "first search.",
        metavar="N",
        low=FEWEST + 1,
        high=100_000,
    )
    phase: Literal["prefill", "decode", "both"] = option("prefill", "Whose latency counts.")
    ranks: str = shared(
        SpaceSettings, "ranks", "Candidate ranks.  [default: 1 and shares of break-even from 5% to 90%]", default=RANKS
    )
    rank_multiple: int | None = option(
        None,
        "Candidate ranks are multiples of this; shares are rounded down to one.  [default: 8 on CUDA, where others "
        "leave the fast kernels, else 1]",
        metavar="N",
        low=1,
        high=1024,
    )
    factors: Factors = shared(QualitySettings, "factors", f"{HELP} Those of baselines too.", default="whitened")
    blocks: int = shared(QualitySettings, "blocks", "Blocks of each half of the text.")
    length: int | None = shared(QualitySettings, "length")
    calibration_blocks: int = shared(QualitySettings, "calibration_blocks", "Blocks of the calibration text.")
    seq_len: int = option(
        64, "Tokens of the prompt whose latency counts; a decode step attends to one more.", low=1, high=MAX_LENGTH
    )
    batch_size: int = option(1, "Sequences of that prompt.", low=1, high=MAX_BATCH)
    points: int = option(16, "Points of the frontiers, about.", low=1, high=10_000)
    rounds: int = option(
        2, "Of searching, measuring what was found and fitting again, before the search that counts.", low=0, high=1000
    )
    random: int = option(8, "Random baselines.", low=0, high=100_000)
    accept: float = option(
        0.05,
        "Increase of NLL per token that the choice may have; kept for later calls.",
        metavar="NATS",
        unit="nats",
        low=0,
        high=1000,
    )
    budget: float = shared(MeasureSettings, "budget", "Of one comparison of latencies.")
    precision: float = shared(MeasureSettings, "precision", "At which a comparison stops earlier.")
    seed: int = shared(MeasureSettings, "seed", "Of samples and random baselines.")
    threads: int | None = shared(MeasureSettings, "threads", "Threads on a CPU.  [default: as `validate`]")
    device: Literal["cpu", "cuda"] = option("cpu", "Where models are measured.")
    batch: int = shared(QualitySettings, "batch", "Blocks that run together.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(Sizes):
    """What a loop is about; records of other settings are not mixed in.

    Attributes:
        model: checkpoint with a tokenizer.
        text: to predict; one half of it is for the search, the other for the verdict.
        calibration_text: for sensitivity, and to fit factors to.
        hw: profile of the device.
        recipe: SPECs, joined by +, of a configuration that is measured as one more baseline; None for none.
    """

    model: str
    text: str
    calibration_text: str
    hw: str
    recipe: str | None = None

    @property
    def dtype(self) -> str:
        """Of the workload whose latency counts; quality is measured in fp32."""
        return "fp32" if self.device == "cpu" else "bf16"

    @property
    def rank_list(self) -> Sequence[Rank]:
        """The candidate ranks; of the default ones the least is one multiple."""
        named = self.ranks in (RANKS, SMALL["ranks"]) and self.multiple > 1
        return parse_ranks(f"{self.multiple},{self.ranks.partition(',')[2]}" if named else self.ranks)

    @property
    def multiple(self) -> int:
        """What candidate ranks are multiples of."""
        return self.rank_multiple or (8 if self.device == "cuda" else 1)

    def baseline(self, model: ModelSpec) -> Decomposition | None:
        """The recipe as a configuration, None without one.

        Raises:
            DecompositionError: when it does not fit the model.
            InputError: when it is dense, or has three factors, which no loop measures.
        """
        if self.recipe is None:
            return None
        found = parse_decomposition([self.recipe], model)
        forms = {factor.to_json()["form"] for factor in found.factors.values()}
        if not (found.factors or found.dropped) or forms - {"svd"}:
            raise InputError("--recipe", value=self.recipe, allowed="factors of form svd, or dropped layers")
        return found

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
        setup = settings.setup()
        longest = max(work.kv_len for work in setup.workloads)
        if longest > setup.model.max_positions:
            allowed = f"what {setup.model.max_positions} positions hold, with one token more in a decode step"
            raise InputError("--seq-len is beyond the model", value=self.seq_len, allowed=allowed)
        return setup

    def identity(self, setup: Setup) -> dict[str, Any]:
        """The model's name and digests of what was read: a resumed loop is about the same weights, texts and device."""
        profile = Path(self.hw)
        if self.hw.lower() in builtin_hardware():
            profile = profile_folder() / f"{self.hw.lower()}.toml"
        found: dict[str, Any] = {
            "model_name": setup.model.name,
            "checkpoint": checkpoint_sha256(Path(self.model)),
            "hardware_profile": sha256_of(profile),
            "calibration": self._corrections(setup),
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

    def _corrections(self, setup: Setup) -> str | None:
        """Digests of the files that correct predicted latency, None for none."""
        found = setup.calibration
        if found is None:
            return None
        if self.calibration != "auto":
            return sha256_of(self.calibration)
        of_generation = found.level == GENERATION
        own = found.sibling if of_generation else found
        names = [*(["generations.toml"] if of_generation else ()), *([f"{own.name}.json"] if own else ())]
        return " ".join(sha256_of(profile_folder() / "calibrations" / name) for name in names)

    def keep(self, folder: Path, setup: Setup) -> None:
        """Write the settings, or require those that are there; more samples may be asked for until they are fitted.

        Raises:
            RunError: naming the first setting that differs, or when the folder cannot be written to.
        """
        digests = self.identity(setup)
        now = {**asdict(self), "digests": digests}
        earlier = load_settings(folder, NAME)
        if earlier is not None:
            require_same(section(earlier, "digests"), digests, list(digests))
            stages = Stages(folder, lambda line: None)
            had = settings_of(Settings, {**asdict(self), "samples": earlier.get("samples")}, str(folder / NAME)).samples
            grown = self.samples > had and not stages.done("fit")
            same = [name for name in asdict(self) if name not in _MAY_DIFFER]
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
        return replace(self, accept=accept)

    @classmethod
    def read(cls, folder: Path) -> Settings:
        """The settings of the loop in a folder.

        Raises:
            InputError: when there are none.
            RunError: when they are of another version.
        """
        found = load_settings(folder, NAME)
        if found is None:
            raise InputError("no loop in this folder", value=str(folder), hint=f"{NAME} is written by the first stage")
        known = {each.name: found[each.name] for each in fields(cls) if each.name in found}
        return settings_of(cls, known, str(folder / NAME))


_MAY_DIFFER = ("model", "text", "calibration_text", "hw", "calibration", "batch", "accept")
"""Paths, whose content is compared instead, and what changes no record."""
