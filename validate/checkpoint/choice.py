"""A verified choice as `validate choose` writes it, and applying exactly that. No torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec

from costmodel.decomposition.factors import Decomposition
from costmodel.errors import InputError
from costmodel.files.read import read_json
from costmodel.model import ModelSpec
from validate.factors.kinds import Factors
from validate.store.digests import checkpoint_sha256, sha256_of
from validate.store.record_format import Record


class ChosenText(Record, frozen=True, kw_only=True):
    """The calibration text: name and digest of the file, and the blocks of tokens taken of it."""

    name: str
    sha256: str
    blocks: Annotated[int, msgspec.Meta(ge=1, le=100_000)]
    length: Annotated[int, msgspec.Meta(ge=2, le=100_000)]


class Chosen(Record, frozen=True, kw_only=True):
    """What was verified beside ranks, forms and dropped layers.

    Attributes:
        model, checkpoint: the dense checkpoint's name, and its digest.
        factors: how factors were computed.
        calibration: of whitened ones.
        measured: figures of the choice, for people.
    """

    model: str
    checkpoint: str
    factors: Factors
    calibration: ChosenText | None = None
    measured: dict[str, Any] = msgspec.field(default_factory=dict)


class Choice(Record, frozen=True, kw_only=True):
    """A configuration and how it was verified.

    Attributes:
        config: as `costmodel estimate --config` reads it.
        chosen: None where nothing was chosen, or the file is a plain configuration.
    """

    config: dict[str, Any]
    chosen: Chosen

    @classmethod
    def read(cls, path: Path) -> Choice:
        """Read choice.json.

        Raises:
            InputError: when it cannot be read, its parts do not go together, or nothing was verified of it.
        """
        data = read_json(path, "choice", InputError)
        if not isinstance(data, dict) or not isinstance(data.get("chosen"), dict):
            hint = "a plain configuration is applied with --config"
            raise InputError("--choice", value=str(path), allowed="the choice.json of `validate choose`", hint=hint)
        try:
            chosen = msgspec.convert(data["chosen"], Chosen)
        except msgspec.ValidationError as error:
            raise InputError("--choice is damaged", value=str(path), hint=str(error)) from error
        if (chosen.factors == "plain") != (chosen.calibration is None):
            hint = f"{chosen.factors} factors {'without' if chosen.calibration is None else 'with'} a calibration text"
            raise InputError("--choice is damaged", value=str(path), hint=hint)
        return cls(config={key: value for key, value in data.items() if key != "chosen"}, chosen=chosen)

    def to_json(self) -> dict[str, Any]:
        """The content of the file: a configuration with one key more."""
        return {**self.config, "chosen": msgspec.to_builtins(self.chosen)}

    def decomposition(self, spec: ModelSpec, folder: Path, text: Path | None) -> Decomposition:
        """What to apply.

        Args:
            folder: the dense checkpoint.
            text: the calibration text given.

        Raises:
            InputError: when the checkpoint or the text is another than was verified.
            DecompositionError: when the configuration does not fit the model.
        """
        if (found := checkpoint_sha256(folder)) != self.chosen.checkpoint:
            allowed = f"{self.chosen.model}, {self.chosen.checkpoint[:12]}"
            raise InputError("--model is not the checkpoint that was verified", value=found[:12], allowed=allowed)
        wanted = self.chosen.calibration
        if (text is None) != (wanted is None):
            if wanted is not None:
                hint = f"give {wanted.name}, with which it was verified"
                raise InputError("--calibration-text is missing", hint=hint)
            hint = "leave it out: plain factors were verified"
            raise InputError("--calibration-text is of no use to this choice", value=str(text), hint=hint)
        if text is not None and wanted is not None and (found := _digest(text)) != wanted.sha256:
            allowed = f"{wanted.name}, {wanted.sha256[:12]}"
            raise InputError("--calibration-text is not the text that was verified", value=found[:12], allowed=allowed)
        return Decomposition.from_json(self.config, spec, "choice")


def _digest(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError as error:
        raise InputError("cannot read text", value=str(path), hint=error.strerror or str(error)) from error
