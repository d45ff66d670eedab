"""A factored folder whose quality is asked for, and the dense checkpoint that it is compared with. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from costmodel.decomposition.factors import Decomposition
from costmodel.decomposition.held import held
from costmodel.errors import InputError, ModelError
from costmodel.families.load import load_model
from costmodel.files.read import read_json
from costmodel.model import ModelSpec
from validate.factors.kinds import Factors
from validate.models.kept import MANIFEST, is_factored
from validate.quality.case import QualityCase
from validate.store.digests import Source, checkpoint_sha256, sha256_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """A factored folder that is measured as it is, beside a dense checkpoint.

    Attributes:
        folder: as `validate apply` wrote it.
        source: its name and the digest of its weights.
        dense: the checkpoint that it is compared with.
        note: what a user should know of that checkpoint, a line with its kind; empty for nothing.
    """

    folder: Path
    source: Source
    dense: Path
    note: str

    @classmethod
    def of(cls, folder: Path, dense: str | None) -> Artefact | None:
        """A folder beside the checkpoint that is named, else beside the one next to it that it was made of; None where
        there is none.

        Raises:
            InputError: when what is named is no dense checkpoint of its shape.
            ModelError: when the folder is damaged.
        """
        manifest = _manifest(folder)
        if dense is None:
            found = folder.resolve().parent / _name(manifest)
            if not _made_of(found, manifest):
                return None
            note = f"note: {folder} is compared with {found}, of which it was made; --dense names another"
        else:
            found = Path(dense)
            if not found.is_dir() or is_factored(found):
                raise InputError("--dense", value=dense, allowed="the folder of the dense checkpoint")
            if (count := load_model(found).num_params) != manifest.get("dense_params"):
                allowed = f"a checkpoint like {_name(manifest)}, of which {folder.name} was made"
                raise InputError("--dense is of another shape", value=f"{count:,} parameters", allowed=allowed)
            fits = _made_of(found, manifest)
            other = f"warning: {found} is not the checkpoint that {folder} was made of, by the digests of its files"
            note = "" if fits else other
        source = Source(name=folder.resolve().name, sha256=checkpoint_sha256(folder))
        return cls(folder=folder, source=source, dense=found, note=note)

    def case(self, spec: ModelSpec) -> QualityCase:
        """The folder as one more configuration of the dense model, whose structure is `spec`.

        Raises:
            DecompositionError: when it does not fit.
        """
        decomposition = (held(load_model(self.folder)) or Decomposition()).check(spec, str(self.folder))
        factors = _manifest(self.folder).get("factors")
        named = factors.get("kind") if isinstance(factors, Mapping) else None
        kinds: tuple[Factors, ...] = get_args(Factors)
        return QualityCase(
            decomposition=decomposition,
            factors=next((kind for kind in kinds if kind == named), "plain"),
            artefact=self.source,
        )


def alone(folder: Path) -> str:
    """What a user should know of a factored folder without its dense checkpoint."""
    name = _name(_manifest(folder))
    return (
        f"{folder} is measured as it is and compared with nothing: --dense DIR names the dense checkpoint that it was "
        f"made of ({name})"
    )


def _manifest(folder: Path) -> dict[str, Any]:
    data = read_json(folder / MANIFEST, "manifest", ModelError)
    if not isinstance(data, dict):
        raise ModelError(f"{folder / MANIFEST}: not a JSON object", value=data)
    return data


def _source(manifest: Mapping[str, Any]) -> Mapping[str, Any]:
    source = manifest.get("source")
    return source if isinstance(source, Mapping) else {}


def _name(manifest: Mapping[str, Any]) -> str:
    """The dense checkpoint's name, without folders."""
    return Path(str(_source(manifest).get("name", "?"))).name


def _made_of(folder: Path, manifest: Mapping[str, Any]) -> bool:
    """Whether a folder holds the weight files that a manifest names, by their digests."""
    files = _source(manifest).get("files")
    if not isinstance(files, list) or not files or not (folder / "config.json").is_file() or is_factored(folder):
        return False
    try:
        return all(_same(folder, each) for each in files)
    except OSError:
        return False


def _same(folder: Path, record: object) -> bool:
    if not isinstance(record, Mapping):
        return False
    path = folder / Path(str(record.get("name"))).name
    return path.is_file() and path.stat().st_size == record.get("bytes") and sha256_of(path) == record.get("sha256")
