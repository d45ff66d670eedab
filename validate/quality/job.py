"""What a quality run is to measure, read and checked before torch is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from costmodel.errors import InputError
from costmodel.model import ModelSpec
from validate.errors import RunError
from validate.models.kept import is_factored, kept_model
from validate.quality.artefact import Artefact, alone
from validate.quality.case import QualityCase
from validate.quality.given import given_cases
from validate.quality.plan import sample_cases
from validate.quality.records import CalibrationSource, CheckpointRecord, QualityRecord
from validate.quality.settings import NAME, QualitySettings
from validate.quality.task_names import is_file, item_name, parse_task
from validate.store.digests import Source, checkpoint_sha256, sha256_of, source_of
from validate.store.journal import Journal
from validate.store.settings import load_settings, require_same, save_settings, section
from validate.store.texts import read_text

FIXED = (
    *("checkpoint", "dtype", "text", "blocks", "length", "tasks", "limit", "shots"),
    *("calibration", "calibration_blocks"),
)
"""Settings that the records of one folder share; numbers of unlike runs are not compared."""
LENGTH = 256
"""Tokens of a block, unless told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFile:
    """A text and where it is from."""

    content: str
    source: Source

    @classmethod
    def read(cls, path: str | None) -> TextFile | None:
        """None for no path.

        Raises:
            InputError: when it cannot be read, is not UTF-8 or is empty.
        """
        if path is None:
            return None
        content = read_text(path)
        return cls(content=content, source=source_of(path, content))


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationFile(TextFile):
    """A text to whiten with, of which so many blocks are taken."""

    source: CalibrationSource

    @classmethod
    def of(cls, text: TextFile, blocks: int) -> CalibrationFile:
        """The text as one to whiten with."""
        source = CalibrationSource(name=text.source.name, sha256=text.source.sha256, blocks=blocks)
        return cls(content=text.content, source=source)


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """Everything that is decided before anything is measured.

    Attributes:
        folder: the checkpoint that all is compared with.
        artefact: the factored folder that is measured beside it, if one was named.
        spec: its structure.
        model: as records name it.
        cases: configurations beside the dense model.
        text, calibration: what to predict, and what to whiten with.
        tasks: names of benchmarks, and paths.
        length: tokens of a block of either text.
        settings: what it was read from.
    """

    folder: Path
    artefact: Artefact | None
    spec: ModelSpec
    model: CheckpointRecord
    cases: Sequence[QualityCase]
    text: TextFile | None
    calibration: CalibrationFile | None
    tasks: Sequence[str]
    length: int
    settings: QualitySettings

    @classmethod
    def read(cls, settings: QualitySettings) -> Job:
        """The job that settings describe.

        Raises:
            InputError: naming the option that is missing or cannot be.
        """
        if settings.model is None:
            raise InputError("--model is missing", hint="name a folder with config.json and *.safetensors")
        given = _locate(settings.model)
        artefact = Artefact.of(given, settings.dense) if is_factored(given) else None
        if settings.dense is not None and artefact is None:
            hint = "configurations of a dense checkpoint are compared with itself"
            raise InputError("--dense belongs to a factored folder", value=settings.model, hint=hint)
        folder = given if artefact is None else artefact.dense
        spec, config = kept_model(folder)
        asked = settings.config or settings.configs or settings.decompose or settings.samples
        if asked and is_factored(given):
            hint = "a factored checkpoint is measured as it is; give configurations of the dense one"
            raise InputError("a factored checkpoint cannot be factored again", value=settings.model, hint=hint)
        text, calibration = TextFile.read(settings.text), TextFile.read(settings.calibration_text)
        _check(settings, spec, text, calibration)
        cases = given_cases(
            spec,
            config=settings.config,
            configs=settings.configs,
            decompose=settings.decompose,
            factors=settings.factors,
        )
        if settings.samples is not None:
            cases += sample_cases(spec, settings.samples, settings.seed, settings.factors)
        if artefact is not None:
            cases.append(artefact.case(spec))
        model = CheckpointRecord(
            name=spec.name,
            sha256=checkpoint_sha256(folder),
            config=dict(config),
            num_layers=spec.num_layers,
            dtype=settings.dtype,
        )
        return cls(
            folder=folder,
            artefact=artefact,
            spec=spec,
            model=model,
            cases=cases,
            text=text,
            calibration=CalibrationFile.of(calibration, settings.calibration_blocks) if calibration else None,
            tasks=tuple(settings.tasks),
            length=settings.length or min(LENGTH, spec.max_positions),
            settings=settings,
        )

    @property
    def fixed(self) -> dict[str, Any]:
        """What a run that continues this one must share with it; see FIXED."""
        text = self.text.source.sha256 if self.text else None
        return {
            "checkpoint": self.model.sha256,
            "dtype": self.settings.dtype,
            "text": text,
            "blocks": self.settings.blocks if text else None,
            "length": self.length if text else None,
            "tasks": [_identity(task) for task in self.tasks],
            "limit": self.settings.limit,
            "shots": self.settings.shots,
            "calibration": self.calibration.source.sha256 if self.calibration else None,
            "calibration_blocks": self.settings.calibration_blocks if self.calibration else None,
        }

    def keep(self, journal: Journal[QualityRecord]) -> None:
        """Write the settings beside records, after making sure that this job's may join those; only calibration may be
        new.

        Raises:
            RunError: naming the first of FIXED that differs, or when the folder cannot be written to.
        """
        earlier, now = load_settings(journal.folder, NAME), self.fixed
        if earlier is not None and journal.records:
            before = section(earlier, "options").get("calibration_blocks")
            held = {"calibration": None, "calibration_blocks": before, **earlier}  # not there before
            both = None not in (held["calibration"], now["calibration"])
            if both and held["calibration"] != now["calibration"]:
                raise RunError("cannot resume with another calibration text", hint="choose another --out")
            require_same(held, now, [name for name in FIXED if both or not name.startswith("calibration")])
        save_settings(journal.folder, {**now, "options": asdict(self.settings)}, NAME)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of what is compared with what, each a line with its kind."""
        if self.artefact is not None:
            return (self.artefact.note,) if self.artefact.note else ()
        return (f"warning: {alone(self.folder)}",) if is_factored(self.folder) else ()

    @property
    def is_local(self) -> bool:
        """Whether nothing needs to be fetched."""
        return Path(self.settings.model or "").is_dir() and all(map(is_file, self.tasks))


def _check(settings: QualitySettings, spec: ModelSpec, text: TextFile | None, calibration: TextFile | None) -> None:
    if text is None and not settings.tasks:
        raise InputError("nothing to measure", hint="give --text FILE, --tasks NAME|FILE.jsonl, or both")
    if settings.length is not None and settings.length > spec.max_positions:
        raise InputError("--length is beyond the model", value=settings.length, allowed=f"up to {spec.max_positions}")
    if settings.factors != "plain" and calibration is None:
        raise InputError(f"{settings.factors} factors need calibration text", hint="give --calibration-text FILE")
    if text and calibration and text.source.sha256 == calibration.source.sha256:
        raise InputError(
            "--calibration-text is the text to predict",
            value=settings.calibration_text,
            hint="calibrate on a part that is not measured",
        )


def _locate(model: str) -> Path:
    folder = Path(model)
    if folder.is_dir():
        return folder
    from validate.models.pretrained import locate  # loads torch

    return locate(model)


def _identity(task: str) -> str:
    """A task's name, with the digests of its files."""
    named = parse_task(task)
    parts = [named.name or item_name(str(named.data))]
    for path in named.files:
        try:
            parts.append(sha256_of(path))
        except OSError as error:
            raise InputError(
                "cannot read task", value=path, allowed="a UTF-8 file of JSON lines", hint=error.strerror or str(error)
            ) from error
    return " ".join(parts)
